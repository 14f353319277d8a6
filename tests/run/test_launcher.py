"""Processes begun on one machine, and a terminal that closes: in every surrounding a checkpoint, a sentence, an exit code."""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from frugan.distributed import joined, launched, patience, restarted
from frugan.errors import FruganError
from frugan.run.train import Run
from frugan.tracking import read_stats
from tests.faults.harness import NAMELESS
from tests.program import foreground

TINY = (
    "--preset", "tiny", "--channel-base", 64, "--channel-max", 8, "--latent", 16, "--batch", 16, "--device", "cpu",
    "--tick-kimg", 0.016, "--checkpoint-kimg", 5, "--samples-kimg", 9,
)  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import numpy as np
    from PIL import Image

    folder = tmp_path_factory.mktemp("images")
    for i in range(16):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8)).save(folder / f"{i}.png")
    return folder


def command(*arguments: Any) -> list[str]:
    return [sys.executable, "-m", "frugan", *map(str, arguments)]


def under_way(training: subprocess.Popen[Any], run: Path, log: Path) -> None:
    until = time.monotonic() + 240
    while not read_stats(run / "stats.jsonl"):
        assert training.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.05)


@contextlib.contextmanager
def training(images: Path, folder: Path, *more: Any, **environment: str) -> Iterator[tuple[Any, Path, Path]]:
    """A training of 100 kimg that has made its first record; the process, its run, its log."""
    run, log = folder / "run", folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command("train", images, "--out", run, *TINY, "--kimg", 100, *more),
            stdout=output, stderr=output, env=os.environ | environment, start_new_session=True,
        )  # fmt: skip
        try:
            under_way(process, run, log)
            yield process, run, log
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def stopped_well(code: int, run: Path, said: str) -> None:
    assert code == 0, said
    assert "Traceback" not in said
    facts, found = Run(run).read("run.json"), Run(run).latest()
    assert facts is not None
    assert facts["status"] == "interrupted"
    assert found is not None
    assert found.images == round(read_stats(run / "stats.jsonl")[-1]["kimg"] * 1000)


@pytest.mark.parametrize(
    ("kind", "processes"),
    [pytest.param(*case, marks=pytest.mark.slow) for case in (("SIGHUP", 2), ("SIGHUP", 1), ("SIGTERM", 2))],
)
def test_a_signal_to_stop_saves(kind: str, processes: int, images: Path, tmp_path: Path) -> None:
    with foreground(), training(images, tmp_path, "--processes", processes) as (process, run, log):
        for _ in range(2):  # schedulers repeat it
            process.send_signal(getattr(signal, kind))
            time.sleep(0.1)
        stopped_well(process.wait(240), run, log.read_text())
        assert "stopping after this step" in log.read_text()
        assert "Resume with: " in log.read_text()


@pytest.mark.slow
def test_nohup_is_respected(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with training(images, tmp_path) as (process, _run, log):
            process.send_signal(signal.SIGHUP)
            time.sleep(1)
            assert process.poll() is None, log.read_text()
            assert "stopping" not in log.read_text()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_terminal_that_closes(processes: int, images: Path, tmp_path: Path) -> None:
    """The window goes: SIGHUP comes, and every line that is printed from then on fails."""
    run, log = tmp_path / "run", tmp_path / "log"
    log.touch()
    ours, theirs = pty.openpty()
    leads = "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    train = command("train", images, "--out", run, *TINY, "--kimg", 100, "--processes", processes)
    with foreground():
        process = subprocess.Popen([sys.executable, "-c", leads, *train], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        os.set_blocking(ours, False)
        until = time.monotonic() + 240
        while not read_stats(run / "stats.jsonl"):
            with contextlib.suppress(BlockingIOError):
                os.read(ours, 1 << 16)
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        os.close(ours)
        process.send_signal(signal.SIGHUP)  # not every system's pseudo-terminals send it
        stopped_well(process.wait(240), run, "")
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_reader_that_goes_ends_nothing(images: Path, tmp_path: Path) -> None:
    """`frugan train … | head -1`: it trains to its end."""
    run = tmp_path / "run"
    words = command("train", images, "--out", run, *TINY, "--kimg", 0.064)
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(words, check=False, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=240)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
    facts = Run(run).read("run.json")
    assert facts is not None
    assert facts["status"] == "finished"


def test_what_cannot_get_better_is_said_once(images: Path, tmp_path: Path) -> None:
    from frugan.config.options import Options
    from frugan.data import DataConfig
    from frugan.run.plan import plan

    run = tmp_path / "run"
    options = Options(preset="tiny", batch=16, channel_base=64, channel_max=8, kimg=1)
    list(
        Run.create(run, plan(options, DataConfig(str(images)), device=torch.device("cpu")).config).train(
            device="cpu", stop=lambda: True
        )
    )
    done = subprocess.run(
        command("resume", run, "--processes", 3), check=False, text=True, capture_output=True, timeout=240
    )
    assert done.returncode == 2
    assert done.stderr.count("cannot share a batch of 16") == 1, done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_suspended_process_is_replaced(images: Path, tmp_path: Path) -> None:
    with foreground(), training(images, tmp_path, "--processes", 2, FRUGAN_PATIENCE="15") as (process, run, log):
        kimg = read_stats(run / "stats.jsonl")[-1]["kimg"]
        workers = subprocess.run(["pgrep", "-P", str(process.pid)], check=True, text=True, stdout=subprocess.PIPE)
        os.kill(int(workers.stdout.split()[-1]), signal.SIGSTOP)
        until = time.monotonic() + 200
        while "begin anew" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        assert "did not answer within 15 s" in log.read_text()
        size = (run / "stats.jsonl").stat().st_size
        while (run / "stats.jsonl").stat().st_size <= size and time.monotonic() < until:
            time.sleep(0.1)
        process.send_signal(signal.SIGHUP)
        stopped_well(process.wait(240), run, log.read_text())
        assert read_stats(run / "stats.jsonl")[-1]["kimg"] > kimg - 5


def _unresolvable() -> list[str]:
    """What puts a command into surroundings where this machine's name does not resolve, where that is permitted."""
    if shutil.which("unshare") and not subprocess.run([*NAMELESS, "true"], check=False, capture_output=True).returncode:
        return list(NAMELESS)
    pytest.skip("needs the right to name a machine")


@pytest.mark.slow
def test_a_machine_without_a_name(images: Path, tmp_path: Path) -> None:
    words = command("train", images, "--out", tmp_path / "run", *TINY, "--kimg", 0.032, "--processes", 2)
    done = subprocess.run(_unresolvable() + words, check=False, text=True, capture_output=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "cannot be retrieved" not in done.stderr


LAUNCHER = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "LOCAL_RANK": "0"}


@pytest.mark.parametrize(
    "changes",
    [
        {"MASTER_ADDR": None}, {"MASTER_PORT": None}, {"MASTER_PORT": "x"}, {"MASTER_PORT": "70000"}, {"MASTER_ADDR": ""},
        {"WORLD_SIZE": "0"}, {"WORLD_SIZE": "²"}, {"RANK": "1"}, {"RANK": "-1"}, {"RANK": "a\33[2J"}, {"LOCAL_RANK": "a"},
        {"LOCAL_RANK": "1"}, {"TORCHELASTIC_RESTART_COUNT": "x"}, {"WORLD_SIZE": "9" * 5000},
    ],
)  # fmt: skip
def test_odd_variables_of_a_launcher(changes: dict[str, str | None], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (LAUNCHER | changes).items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    (name,) = changes
    for asks in (launched, restarted, lambda: joined("cpu").__enter__()):
        with pytest.raises(FruganError, match=rf"RANK=.*{name}.*unset .*RANK") as caught:
            asks()
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 500


def test_variables_of_a_launcher_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*LAUNCHER, "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LOCAL_RANK", "a")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "x")
    assert not launched()
    assert not restarted()


@pytest.mark.parametrize("value", ["inf", "nan", "1e30", "0", "-1", "x", "", "-inf", "1_0\33"])
def test_odd_patience(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRUGAN_PATIENCE", value)
    with pytest.raises(FruganError, match=r"FRUGAN_PATIENCE.*number"):
        patience()
    with pytest.raises(FruganError, match="FRUGAN_PATIENCE"), joined("cpu"):
        raise AssertionError


@pytest.mark.parametrize(
    ("value", "fits"), [("4", True), ("4,2", True), ("x", False), ("0", False), ("-1", False), ("", False)]
)
def test_odd_threads(value: str, fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    with contextlib.nullcontext() if fits else pytest.raises(FruganError, match="OMP_NUM_THREADS"), joined("cpu"):
        pass


@pytest.mark.parametrize("columns", ["0", "1", "-5", "x", "²", "9" * 30])
def test_odd_sizes_of_a_terminal(columns: str) -> None:
    surroundings = os.environ | {"COLUMNS": columns, "LINES": columns}
    done = subprocess.run(command("methods"), check=False, text=True, capture_output=True, env=surroundings)
    assert done.returncode == 0, done.stderr
    assert "lecam" in done.stdout


def test_odd_variables_end_the_program_with_a_sentence(images: Path, tmp_path: Path) -> None:
    for odd in ({"RANK": "0", "WORLD_SIZE": "1"}, {"FRUGAN_PATIENCE": "nan"}):
        done = subprocess.run(
            command("train", images, "--out", tmp_path / "run", *TINY, "--processes", 2),
            check=False, text=True, capture_output=True, env=os.environ | odd,
        )  # fmt: skip
        assert done.returncode == 2
        assert done.stderr.startswith("frugan: ")
        assert len(done.stderr.splitlines()) == 1
        assert not (tmp_path / "run").exists()
