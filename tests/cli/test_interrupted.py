"""Whatever a command writes appears whole, by a rename, and Ctrl-C before that leaves what was there before."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from frugan.cli.app import _Signals
from frugan.files import building, check_writable, refilling, write_text
from frugan.interop import save_pretrained, write_community
from tests.cli.test_destinations import writing_commands
from tests.latent.conftest import make_generator
from tests.program import call

LINES: dict[str, str] = {
    "generate": "generate {net} --seeds 0-1 --out {out}",
    "directions": "directions {net} --method sefa --count 1 --samples 50 --out {out}",
    "edit": "edit {net} --direction {home}/directions --seeds 0 --strengths 0,1 --out {out}",
    "mix": "mix {net} --rows 0 --columns 1 --out {out}.png",
    "sweep": "sweep {net} --seeds 0 --truncation 0,1 --out {out}.png",
    "video": "video {net} --loop --seeds 0-2 --seconds 0.4 --fps 5 --no-even --out {out}.gif",
    "blend": "blend {net} {net} --at 8 --seeds 0 --out {out}",
    "project": "project {net} {home}/one.png --space w --steps-w 1 --distance pixels --out {out}",
    "encode": "encode {net} --train --steps 1 --batch 2 --out {out}",
    "evaluate": "evaluate {net} --data {images} --samples 10 --metrics kid --features torch.nn:Flatten "
    "--input-size 16 --mean 0,0,0 --std 1,1,1 --out {out}.json",
    "report": "report {net} --data {images} --sections description --samples 100 --out {out}",
    "import": "import {home}/net.pt {out}",
    "leaks": "leaks --plot {out}.png --size 8",
    "export": "export {net} {out} --format pretrained",
    "export community": "export {net} {out}.pt --format community",
    "data inspect": "data inspect {images} --sheet {out}.png",
    "data prepare": "data prepare {images} {out}",
    "data prepare zip": "data prepare {images} {out}.zip",
    "data prepare npz": "data prepare {images} {out}.npz",
    "data corrupt": "data corrupt {images} {out} --measurement drop-pixels:0.5",
    "data sample": "data sample {out} --style shapes --count 10",
    "data shard": "data shard {images} {out} --per-shard 10",
    "text train": "text train {images} --steps 1 --side 16 --held-out 4 --out {out}",
    "text edit": "text edit {net} --method optimise --steps 1 --target star --seeds 0 --model captions:{home}/captions --out {out}",
    "text adapt": "text adapt {net} --source star --target circle --steps 1 --model captions:{home}/captions --out {out}",
    "text find": "text find {net} star --seeds 0-3 --count 2 --model captions:{home}/captions --out {out}.png",
}
"""A command line of each command that writes. Those of train, and of demo, which trains, are tried in tests/faults."""

ONE_BY_ONE = ("generate", "edit", "blend", "text edit", "text adapt")
"""Those whose files mean something each by itself."""

REFUSES = ("evaluate", "import", "export", "data prepare", "data corrupt", "data sample", "data shard")
"""Those that do not write over what is there."""


class Watch:
    """The files in a folder that are opened to be written; Ctrl-C comes at one of them."""

    folder, opened, interrupt_at = "", list[Path](), -1

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if (
            event != "open"
            or not self.folder
            or not isinstance(arguments[2], int)
            or not isinstance(arguments[0], (str, Path))
        ):
            return
        if arguments[2] & (os.O_WRONLY | os.O_RDWR) and str(arguments[0]).startswith(self.folder):
            self.opened.append(Path(arguments[0]).relative_to(self.folder))
            if len(self.opened) == self.interrupt_at:
                os.kill(os.getpid(), signal.SIGINT)


watch = Watch()
sys.addaudithook(watch)


def called(capsys: pytest.CaptureFixture[str], folder: Path, line: str, interrupt_at: int = -1) -> tuple[int, str]:
    """(exit code, what it printed), of a program that has a terminal's signals."""
    watch.folder, watch.opened, watch.interrupt_at = f"{folder}{os.sep}", [], interrupt_at
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return call(capsys, folder, *line.split())
    finally:
        watch.folder = ""
        signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A generator, also as .pt, 24 labelled images, a model of captions, directions; and a cache."""
    from typer.testing import CliRunner

    from frugan.cli.app import app

    top = tmp_path_factory.mktemp("home")
    G = make_generator((16, 16))
    save_pretrained(G, top / "net")
    write_community(top / "net.pt", G)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(top / "cache"))
        for line in (
            "data sample {0}/images --style shapes --count 24 --size 16",
            "text train {0}/images --steps 1 --side 16 --held-out 4 --out {0}/captions",
            "directions {0}/net --method sefa --count 1 --samples 50 --out {0}/directions",
        ):
            done = CliRunner().invoke(app, line.format(top).split(), catch_exceptions=False)
            assert done.exit_code == 0, done.output
        (top / "one.png").write_bytes(next((top / "images").glob("*.png")).read_bytes())
        yield top


def tree(folder: Path) -> dict[str, int]:
    """Files by name, each with what tells it from one that replaces it."""
    return {str(file.relative_to(folder)): file.stat().st_ino for file in folder.rglob("*") if file.is_file()}


def contents(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() if file.is_file() else "" for file in folder.rglob("*")}


def test_the_table_is_complete() -> None:
    assert {name for name in LINES if name in writing_commands()} == {*writing_commands()} - {"train", "demo"}


def fill(path: Path, text: str) -> None:
    with refilling(path, "key", ("key", "a", "b")) as scratch:
        for name in ("key", text):
            (scratch / name).write_text(text)


def build(path: Path, text: str) -> None:
    with building(path) as scratch:
        scratch.mkdir()
        write_text(scratch / "key", text)


@contextmanager
def interrupted_at(number: int) -> Iterator[list[str]]:
    """Ctrl-C comes before the so many-th operation on files."""
    done: list[str] = []

    def wrap(name: str) -> Any:
        real = getattr(os, name)

        def operation(*args: Any, **kwargs: Any) -> Any:
            done.append(name)
            if len(done) == number:
                os.kill(os.getpid(), signal.SIGINT)
            return real(*args, **kwargs)

        return mock.patch.object(os, name, operation)

    with ExitStack() as stack:
        for name in ("mkdir", "open", "fsync", "rename", "replace", "rmdir", "unlink"):
            stack.enter_context(wrap(name))
        yield done


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
@pytest.mark.parametrize("write", [write_text, fill, build, lambda path, _: check_writable(path)])
def test_ctrl_c_in_any_operation_leaves_all_or_nothing(write: Callable[[Path, str], Any], tmp_path: Path) -> None:
    found, stopped = [], True
    for number in itertools.count(1):
        place = tmp_path / f"{number}" / "place"
        place.parent.mkdir()
        if write is not build:
            write(place, "a")
        old = contents(place.parent)
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with interrupted_at(number) as done, _Signals():
                write(place, "b")
            stopped = False
        except KeyboardInterrupt:
            pass
        finally:
            signal.signal(signal.SIGINT, before)
        found.append((contents(place.parent), old))
        if not stopped:
            break
    assert len(done) == len(found) - 1 > 2
    new = found[-1][0]
    assert all(left in (old, new) for left, old in found)


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX's")
@pytest.mark.parametrize("name", LINES)
def test_what_a_command_writes_appears_whole(
    name: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frugan.cli.project.SAMPLES", 100)
    monkeypatch.setattr("frugan.cli.text.SAMPLES", 100)
    monkeypatch.setattr("frugan.leaks.plots.smallest", lambda *_: 0.5)
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    line = LINES[name].format(home=home, net=home / "net", images=home / "images", out=tmp_path / "out")
    code, printed = called(capsys, tmp_path, line)
    assert code == 0, printed
    in_place = [file for file in watch.opened if not any(part.startswith(".") for part in file.parts)]
    assert not in_place
    written = len(watch.opened)
    assert written > 1
    before = tree(tmp_path)
    if name.startswith(REFUSES):
        tmp_path = tmp_path / "again"
        tmp_path.mkdir()
        line, before = line.replace("/out", "/again/out"), {}
    code, printed = called(capsys, tmp_path, line, interrupt_at=written // 2 + 1)
    assert (code, printed.splitlines()[-1:]) == (130, ["frugan: interrupted"])
    after = tree(tmp_path)
    states = {file for file in after if file.split(os.sep)[-1] == ".fit" or ".fits" in file}
    assert ("the same command resumes it" in printed) == bool(states or name == "report")
    if name in ONE_BY_ONE:
        assert after.keys() - states == before.keys()
    else:
        assert {file: inode for file, inode in after.items() if file not in states} == before
