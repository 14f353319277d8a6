"""Every command that writes refuses a place that cannot be written before it looks at anything else."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from frugan.cli.app import app
from frugan.errors import FruganError
from frugan.files import check_writable
from tests.program import call

COMMANDS: dict[str, str] = {
    "train": "train missing --out {out}",
    "generate": "generate missing --out {out}",
    "directions": "directions missing --out {out}",
    "edit": "edit missing --direction missing:0 --out {out}",
    "mix": "mix missing --out {out}.png",
    "sweep": "sweep missing --out {out}.png",
    "video": "video missing --out {out}.gif",
    "blend": "blend missing missing --at 8 --out {out}",
    "project": "project missing missing.png --out {out}",
    "encode": "encode missing --train --out {out}",
    "evaluate": "evaluate missing --out {out}.json",
    "report": "report missing --out {out}",
    "import": "import missing.pkl {out}",
    "leaks": "leaks missing --plot {out}.png",
    "export": "export missing {out} --format pretrained",
    "demo": "demo {out}",
    "data inspect": "data inspect missing --sheet {out}.png",
    "data prepare": "data prepare missing {out}",
    "data corrupt": "data corrupt missing {out} --measurement drop-pixels:0.5",
    "data sample": "data sample {out}",
    "data shard": "data shard missing {out}",
    "text train": "text train missing --out {out}",
    "text edit": "text edit missing --target a --neutral b --model clip --out {out}",
    "text adapt": "text adapt missing --source a --target b --model clip --out {out}",
    "text find": "text find missing words --model clip --out {out}.png",
}
"""A command line of each command that writes, all of whose inputs are missing."""


def writing_commands() -> Iterator[str]:
    """The names of all commands with a parameter for the place of what they write."""
    root: dict = typer.main.get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]
    for name, command in root.items():
        for inner, one in getattr(command, "commands", {"": command}).items():
            if {"out", "to", "sheet", "plot"} & {parameter.name for parameter in one.params}:
                yield f"{name} {inner}".strip()


def test_the_table_is_complete() -> None:
    assert sorted(COMMANDS) == sorted(writing_commands())


def beneath_a_file(folder: Path) -> Path:
    (folder / "file").write_text("x")
    return folder / "file" / "inner" / "place"


def too_long(folder: Path) -> Path:
    return folder / ("n" * 300)


@pytest.mark.parametrize("place", [beneath_a_file, too_long], ids=lambda place: place.__name__)
@pytest.mark.parametrize("line", COMMANDS.values(), ids=COMMANDS)
def test_refused_before_anything_is_opened(
    line: str, place: Callable[[Path], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = place(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    code, printed = call(capsys, tmp_path, *line.format(out=out).split())
    assert code == 2
    assert "cannot be written" in printed.replace("\n", " ")
    assert "name another place" in printed.replace("\n", " ")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("command", "name"), [("generate", "generated"), ("evaluate", "evaluations")])
def test_the_default_place_within_a_run(
    command: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file stands where the folder of a run's images or cards would be; the network is not even read."""
    (tmp_path / name).write_text("x")
    (tmp_path / "network.pt").write_text("x")
    monkeypatch.setattr("frugan.run.evaluate.run_of", lambda _: SimpleNamespace(path=tmp_path))
    code, printed = call(capsys, tmp_path, command, "network.pt")
    assert code == 2
    assert f"{name} exists and is not a folder; name another place" in printed.replace("\n", " ")


parts = st.text("ab ä.'-", min_size=1, max_size=8).filter(lambda name: name.strip(".") and name == name.strip())


@settings(deadline=None, max_examples=50)
@given(st.lists(parts, min_size=1, max_size=4), st.sampled_from(["file", "folder", "either"]), st.integers(0, 3))
def test_a_place_that_can_be_made_passes_and_stays_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], kind, there: int
) -> None:
    folder = tmp_path_factory.mktemp("place")
    (folder.joinpath(*names[:-1][:there])).mkdir(parents=True, exist_ok=True)
    before = sorted(folder.rglob("*"))
    path = folder.joinpath(*names)
    check_writable(path, kind)
    assert sorted(folder.rglob("*")) == before
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir() if kind == "folder" else path.write_text("x")
    check_writable(path, kind)  # what is there may be filled or replaced
    if kind != "either":
        path.rmdir() if kind == "folder" else path.unlink()
        path.write_text("x") if kind == "folder" else path.mkdir()
        with pytest.raises(FruganError, match="is not a folder" if kind == "folder" else "is a folder"):
            check_writable(path, kind)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_the_reason_and_remedy(number: int, tmp_path: Path) -> None:
    """Also of what permissions do not tell: a full disk, a read-only one."""
    with (
        mock.patch.object(Path, "write_bytes", side_effect=OSError(number, os.strerror(number))),
        pytest.raises(FruganError) as refused,
    ):
        check_writable(tmp_path / "out" / "deep", "folder")
    assert os.strerror(number) in str(refused.value)
    assert ("make room" in str(refused.value)) == (number in (errno.ENOSPC, errno.EDQUOT))
    assert not list(tmp_path.iterdir())


def test_a_read_only_disk_which_refuses_removals_too(tmp_path: Path) -> None:
    refusal = OSError(errno.EROFS, os.strerror(errno.EROFS))
    with mock.patch.object(os, "makedirs", side_effect=refusal), mock.patch.object(Path, "unlink", side_effect=refusal):
        for kind in ("file", "folder"):
            with pytest.raises(FruganError, match=r"cannot be written.*Read-only.*name another place"):
                check_writable(tmp_path / "out", kind)


def test_odd_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("new/../other/x.png", "./x", "../sibling/x.png"):
        check_writable(path)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for path, kind in (("link", "folder"), ("link/x.png", "file"), ("a\0b", "file")):
        with pytest.raises(FruganError):
            check_writable(path, kind)  # pyright: ignore[reportArgumentType]
    assert [path.name for path in tmp_path.iterdir()] == ["link"]
