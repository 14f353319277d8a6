"""Whatever names files have, a terminal shows them: no escape sequence reaches it, no name fills it."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frugan.cli.terminal import LONGEST_SENTENCE, PlainFormatter, console, outlasting, sentence

from ..program import SMALL_NETWORKS, call

ODD = "a\33]0;owned\7\33[2J\u202eb\r\x9b31m"


def images(folder: Path, count: int = 4) -> Path:
    folder.mkdir(parents=True)
    for i in range(count):
        Image.fromarray(np.full((8, 8, 3), 20 * i, np.uint8)).save(folder / f"{i}.png")
    return folder


def odd_folder(folder: Path) -> list[object]:
    images(folder / ODD)
    images(folder / "other")
    (folder / ODD / f"{ODD}.png").write_bytes(b"none")
    return ["data", "inspect", folder, "--sheet", folder.parent / "sheet.png"]


def odd_labels(folder: Path) -> list[object]:
    images(folder)
    rows = [f"{i}.png,{ODD if i < 2 else 'other'}".replace("\r", "") for i in range(4)]
    (folder / "labels.csv").write_text("\n".join(["name,label", *rows]), "utf-8")
    return ["train", folder, "--preset", "tiny", "--conditional", "--dry-run", "--out", folder.parent / "run"]


def odd_column(folder: Path) -> list[object]:
    images(folder)
    (folder / "labels.csv").write_text(f"name,{ODD}".replace("\r", "") * 2 + "\n0.png,1,2,3\n", "utf-8")
    return ["data", "inspect", folder]


def odd_json(folder: Path) -> list[object]:
    images(folder)
    (folder / "dataset.json").write_text(json.dumps({"labels": [[f"{ODD}.png" + "x" * 100_000, 0]]}))
    return ["train", folder, "--preset", "tiny", "--conditional", "--dry-run", "--out", folder.parent / "run"]


def odd_config(folder: Path) -> list[object]:
    folder.mkdir()
    (folder / "config.yaml").write_text(json.dumps({ODD: ODD, "x" * 100_000: 1}))
    return ["resume", folder]


def odd_path(folder: Path) -> list[object]:
    return ["generate", folder / ODD, "--seeds", 0, "--out", folder.parent / "out"]


@pytest.mark.parametrize("case", [odd_folder, odd_labels, odd_column, odd_json, odd_config, odd_path])
def test_odd_names_are_shown_not_sent(
    case: Callable[[Path], list[object]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, said = call(capsys, tmp_path, *case(tmp_path / "set"))
    assert said
    assert "Traceback" not in said
    assert not [c for c in said if (ord(c) < 32 and c != "\n") or c in "\x7f\x9b\u202e"]
    assert len(said) < 20_000
    if case in (odd_folder, odd_labels, odd_path):
        assert r"\x1b" in said


def test_everything_printed_is_guarded(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    table = Table("name", "value", title=ODD)
    table.add_row(ODD, ODD)
    for shown in (ODD, table):
        console.print(shown)
        console.print(shown, markup=False, soft_wrap=True)
    told = capsys.readouterr().out
    assert told.count("owned") >= 6
    assert not set(told) & set("\33\7\r\x9b\u202e")
    assert "\33" not in PlainFormatter().format(logging.LogRecord("", 30, "", 1, "%s lost", (ODD,), None))
    assert "\33" not in sentence(ODD)
    assert len(sentence("x" * 10**7)) <= LONGEST_SENTENCE + 1


def test_a_pipe_that_nobody_reads() -> None:
    reader, writer = os.pipe()
    before = os.fdopen(writer, "w", encoding="ascii")
    stream = outlasting(before)
    os.close(reader)
    for _ in range(3):
        stream.write("a line \udc80\n")
        stream.flush()
    assert os.fstat(writer).st_rdev == os.stat(os.devnull).st_rdev
    before.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_output_on_a_full_disk_is_missed_in_a_sentence() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "frugan", "--help"], check=False, text=True, stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 2
    assert done.stderr.startswith("frugan: ")
    assert "No space left" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows removes no current directory")
@pytest.mark.parametrize("call", [["generate", "sample"], ["train", "photos"], ["status", "run"], ["--help"]])
def test_a_current_directory_that_is_gone(call: list[str], tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    program = f"import os, sys; os.rmdir({str(gone)!r}); sys.argv[1:] = {call}; from frugan.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program], check=False, cwd=gone, text=True, stderr=subprocess.PIPE)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert done.stderr.startswith("frugan: the current directory does not exist")


def test_ctrl_c_is_told_whenever_it_comes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("frugan.run.directory.RunDirectory.__init__", interrupt)
    assert call(capsys, tmp_path, "status", "run") == (130, "frugan: interrupted\n")


SIGNALLED = """
import os, signal, sys, time, weakref
from contextlib import suppress
from frugan.cli import main
from frugan.data.tools import avatars

number, where = int(sys.argv.pop()), sys.argv.pop()
# not as in the background of a shell, or under nohup, where it is ignored
signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

class Thing: ...

# as importlib's own: what is raised in it is printed and forgotten
exec(compile("def callback(_): os.kill(os.getpid(), number)", "<frozen importlib._bootstrap>", "exec"))
draw, calls = avatars._draw, []


def forgotten():  # as libraries written in C do, whose imports then fail
    with suppress(KeyboardInterrupt, SystemExit):
        os.kill(os.getpid(), number)
    if where == "C, then an error":
        raise ImportError("loaded half")


def drawn(*args):
    calls.append(args)
    if len(calls) == 3:
        if where == "import":
            thing = Thing()
            reference = weakref.ref(thing, callback)
            del thing
        elif where.startswith("C"):
            forgotten()
        else:
            os.kill(os.getpid(), number)
        time.sleep(60)
    return draw(*args)

avatars._draw = drawn
main()
"""


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
@pytest.mark.parametrize(
    ("kind", "where"), [("SIGINT", "import"), ("SIGTERM", "C"), ("SIGINT", "C, then an error"), ("SIGHUP", "code")]
)
def test_a_signal_ends_the_program_and_leaves_nothing(kind: str, where: str, tmp_path: Path) -> None:
    number = getattr(signal, kind)
    words = [*f"data sample {tmp_path / 'out'} --style shapes".split(), where, f"{number:d}"]
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED, *words], check=False, timeout=240, capture_output=True, text=True
    )
    assert done.returncode == (130 if kind == "SIGINT" else -number), done.stderr
    assert done.stderr == "frugan: interrupted\n"
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fills_up_while_training_is_told_with_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a library writes, of whose failure the system tells no file."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    images(tmp_path / "set")
    monkeypatch.setattr("frugan.tracking.tensorboard.TensorBoard.__init__", full)
    options = f"--kimg 0.01 --resolution 8 --device cpu --threads 1 {SMALL_NETWORKS}".split()
    code, printed = call(capsys, tmp_path, "train", "set", "run", *options)
    assert code == 2
    assert "frugan: run: No space left on device; make room on that disk" in printed
