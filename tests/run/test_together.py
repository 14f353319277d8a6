"""Several processes are one: the same batch gives the same training, however many work on it, and whatever happens to them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import frugan
from frugan.distributed import joined, rank
from frugan.errors import FruganError
from frugan.run.train import Run, begin
from frugan.tracking import read_stats
from tests.faults.harness import children
from tests.program import call

from .conftest import TINY
from .test_resume import comparable, final_tensors

OPTIONS: dict[str, Any] = TINY | {"batch": 16, "batch_per_device": 4, "path_length_weight": 2.0, "precision": "fp32"}
ARMS: dict[str, dict[str, Any]] = {
    "ada": {},
    "lecam, apa, spectral norm": {"method": "lecam,apa,spectral-norm"},
    "conditional, rv": {"conditional": True, "labels": "folders", "controller": "rv", "target": 0.5},
}
RECORDED = {
    "step",
    "p",
    "r_t",
    "r_v",
    "path_length",
    "loss/generator",
    "loss/discriminator",
    "penalty/r1",
    "non_finite",
}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def environment(rank: int, world: int, port: int) -> dict[str, str]:
    return {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1"} | {
        "MASTER_PORT": str(port),
        "FRUGAN_PATIENCE": "240",
    }


def _train(index: int, world: int, port: int, image_folder: str, out: str, options: dict[str, Any]) -> None:
    """Trains as one of `world` processes; keeps the gradients of every update, and what the records say."""
    os.environ.update(environment(index, world, port) if world > 1 else {})
    torch.set_num_threads(1)
    gradients: list[torch.Tensor] = []
    step = torch.optim.Adam.step

    def noting(optimizer: torch.optim.Adam, *rest: Any) -> Any:
        groups = optimizer.param_groups
        gradients.append(torch.cat([p.grad.flatten() for g in groups for p in g["params"] if p.grad is not None]))
        return step(optimizer, *rest)

    torch.optim.Adam.step = noting  # type: ignore[method-assign]
    with joined("cpu") as device:
        for _ in frugan.train(image_folder, out, device=device, **options):
            pass
        torch.save(gradients, Path(out).parent / f"{Path(out).name}-{rank()}.pt")


def together(world: int, image_folder: Path, out: Path, options: dict[str, Any]) -> list[torch.Tensor]:
    """The gradients on the first process, those on the others being checked to be bit for bit the same."""
    arguments = (world, free_port(), str(image_folder), str(out), options)
    torch.multiprocessing.start_processes(_train, args=arguments, nprocs=world, start_method="forkserver")
    first, *others = [torch.load(out.parent / f"{out.name}-{i}.pt") for i in range(world)]
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    return first


@pytest.mark.parametrize(("arm", "worlds"), [("ada", (2, 4)), *((arm, (2,)) for arm in list(ARMS)[1:])])
def test_one_two_and_four_processes_agree(
    arm: str, worlds: tuple[int, ...], image_folder: Path, tmp_path: Path
) -> None:
    options = OPTIONS | ARMS[arm] | {"kimg": 0.08, "tick_kimg": 0.032, "samples_kimg": 0.08, "checkpoint_kimg": 0.08}
    one = together(1, image_folder, tmp_path / "one", options)
    for world in worlds:
        out = tmp_path / f"of-{world}"
        many = together(world, image_folder, out, options)
        assert len(many) == len(one)
        for a, b in zip(one[:3], many[:3]):  # the first step's; later ones carry on the rounding of these
            assert float((a - b).norm() / a.norm()) < 1e-6
        for ours, theirs in zip(comparable(out), comparable(tmp_path / "one"), strict=True):
            assert ours.keys() == theirs.keys()
            for key in RECORDED & ours.keys():
                if theirs[key] is not None:
                    assert ours[key] == pytest.approx(theirs[key], rel=1e-3, abs=1e-4), key
            for source in ("logits/real", "logits/generated", "logits/held_out"):
                if source in theirs:
                    assert ours[source]["count"] == theirs[source]["count"]
                    assert ours[source]["mean"] == pytest.approx(theirs[source]["mean"], abs=1e-3)
        ours, theirs = final_tensors(out), final_tensors(tmp_path / "one")
        assert ours.keys() == theirs.keys()
        for key in ("path_length_mean", "logit_means", "controller/p", "controller/r_t", "G/mapping.w_avg"):
            torch.testing.assert_close(ours[key], theirs[key], rtol=1e-3, atol=1e-5, equal_nan=True)


SMALL = ("--preset", "tiny", "--channel-base", 64, "--channel-max", 8, "--device", "cpu")


def command(*arguments: Any) -> list[str]:
    return [sys.executable, "-m", "frugan", *map(str, arguments)]


def test_another_number_of_processes_goes_on(image_folder: Path, tmp_path: Path) -> None:
    """Begun by two, gone on with by one: the same as by one throughout, but for the rounding of sums."""
    whole: dict[str, Any] = OPTIONS | {"kimg": 0.096}
    list(frugan.train(image_folder, tmp_path / "whole", device="cpu", **whole))
    together(2, image_folder, tmp_path / "run", whole | {"kimg": 0.048})
    list(Run(tmp_path / "run").train(kimg=0.096, device="cpu"))
    ours, theirs = final_tensors(tmp_path / "run"), final_tensors(tmp_path / "whole")
    for key in ("controller/p", "path_length_mean"):
        torch.testing.assert_close(ours[key], theirs[key], rtol=1e-2, atol=1e-4)
    distance = sum(float((ours[k] - v).norm()) for k, v in theirs.items() if k.startswith("ema/"))
    assert distance < 0.05 * sum(float(v.norm()) for k, v in theirs.items() if k.startswith("ema/"))


def wait_for_end(process: subprocess.Popen[Any], run: Path, log: Path) -> int:
    """The exit code. It may take any time, as long as records come: a machine may be busy."""
    count, heard = 0, time.monotonic()
    while process.poll() is None:
        time.sleep(0.2)
        if (now := len(read_stats(run / "stats.jsonl"))) != count:
            count, heard = now, time.monotonic()
        assert time.monotonic() - heard < 240, log.read_text()
    return process.returncode


def test_a_killed_worker_is_replaced(image_folder: Path, tmp_path: Path) -> None:
    """From the command line: two processes, one of them killed; the launcher starts both anew, and the run is finished."""
    out, log = tmp_path / "run", tmp_path / "log"
    pace = ("--kimg", 0.5, "--tick-kimg", 0.064, "--checkpoint-kimg", 0.064, "--samples-kimg", 0.5, "--processes", 2)
    with log.open("w") as output:
        training = subprocess.Popen(
            command("train", image_folder, "--out", out, *SMALL, "--batch", 16, *pace),
            stdout=output,
            stderr=output,
            env=os.environ | {"FRUGAN_PATIENCE": "120"},
        )
    try:
        deadline = time.monotonic() + 240
        while not read_stats(out / "stats.jsonl"):
            assert training.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(children(training.pid)[-1], signal.SIGKILL)
        assert wait_for_end(training, out, log) == 0, log.read_text()
    finally:
        training.kill()
        training.wait()
    assert "all begin anew" in log.read_text()
    rows = read_stats(out / "stats.jsonl")
    assert [row["step"] for row in rows] == sorted({row["step"] for row in rows})
    assert rows[-1]["kimg"] == pytest.approx(0.5, abs=0.016)
    facts = Run(out).read("run.json")
    assert facts is not None
    assert (facts["status"], facts["processes"]) == ("finished", 2)


def _hang(index: int, port: int, folder: str) -> None:
    from frugan.distributed import any_of

    os.environ.update(environment(index, 2, port) | {"FRUGAN_PATIENCE": "5"})
    message = Path(folder) / "message"
    (Path(folder) / f"here-{index}").touch()
    while not (Path(folder) / f"here-{1 - index}").exists():  # they are to join within those seconds, too
        time.sleep(0.01)
    with joined("cpu"):
        if index == 1:
            while not message.exists():
                time.sleep(0.1)
            return
        started = time.monotonic()
        try:
            any_of(False)
        except FruganError as error:
            message.with_name("new").write_text(f"{time.monotonic() - started} {error}")
            message.with_name("new").rename(message)


def test_a_silent_process_is_named_within_the_time_stated(tmp_path: Path) -> None:
    torch.multiprocessing.start_processes(_hang, args=(free_port(), str(tmp_path)), nprocs=2, start_method="forkserver")
    seconds, _, message = (tmp_path / "message").read_text().partition(" ")
    assert "process 0 of 2" in message
    assert "within 5 s" in message
    assert 4.9 < float(seconds) < 200  # a busy machine tells it late


def _disagree(index: int, port: int, image_folder: str, out: str) -> None:
    os.environ.update(environment(index, 2, port))
    torch.set_num_threads(1)
    with joined("cpu") as device:
        run, dataset = begin(image_folder, out, device=torch.device(device), **OPTIONS)
        with run.session(device=device, dataset=dataset) as session:
            records = session.records()
            next(records)
            if index == 1:
                next(session.state.G.parameters()).data.add_(1e-3)
            try:
                list(records)
            except FruganError as error:
                (Path(out).parent / f"message-{index}").write_text(str(error))
    os._exit(0)  # docs/how-to/multiple-gpus.md: now and then Gloo's threads abort an interpreter that ends


def test_diverged_replicas_are_named(image_folder: Path, tmp_path: Path) -> None:
    arguments = (free_port(), str(image_folder), str(tmp_path / "run"))
    torch.multiprocessing.start_processes(_disagree, args=arguments, nprocs=2, start_method="forkserver")
    for i in range(2):
        assert "the weights of process 1 of 2 are not the first one's" in (tmp_path / f"message-{i}").read_text()


def test_impossible_numbers_are_refused(image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more, word in (
        (("--batch", 9), "whole micro-batches"),
        (("--batch", 16, "--batch-per-device", 16), "--batch-per-device 8"),
    ):
        code, printed = call(
            capsys, tmp_path, "train", image_folder, "--out", "run", "--preset", "tiny", "--processes", 2, *more
        )
        assert code == 2
        assert word in printed
        assert not (tmp_path / "run").exists()


def test_torchrun_starts_a_run(image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    done = subprocess.run(
        [*launcher, *command("train", image_folder, "--out", out, *SMALL, "--batch", 8, "--kimg", 0.032)[2:]],
        check=False,
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Look at") == 1
    assert Run(out).latest() is not None
