"""Every numeric option of every command refuses numbers that make no sense: exit code 2, one sentence, nothing written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from frugan.cli import app as program
from frugan.cli.common import parse_seeds
from frugan.config.options import read_count
from frugan.errors import FruganError

NUMBERS = ("nan", "1e400", "-3", "99999999999999999999999")


def commands(group: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    found = []
    for name, command in group.commands.items():
        found += commands(command, (*path, name)) if hasattr(command, "commands") else [((*path, name), command)]
    return found


def numeric(param: Any) -> bool:
    described = getattr(param, "type_descriptor", None)  # Typer without Click
    return described.annotation in (int, float) if described else param.type.name in ("integer", "float")


COMMANDS = commands(typer.main.get_command(program.app))
CASES = [(path, command, param) for path, command in COMMANDS for param in command.params if numeric(param)]  # fmt: skip


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[Any, str]:
    monkeypatch.setattr("sys.argv", ["frugan", *arguments])
    with pytest.raises(SystemExit) as ended:
        program.main()
    return ended.value.code, capsys.readouterr().err


def test_there_are_numeric_options_of_most_commands() -> None:
    names = {(path[-1], param.name) for path, _, param in CASES}
    assert len(CASES) > 50
    assert {("train", "batch"), ("resume", "kimg"), ("shard", "per_shard"), ("generate", "truncation")} <= names


@pytest.mark.parametrize("path, command, param", CASES, ids=lambda v: getattr(v, "name", None) or "-".join(v))
def test_numbers_that_make_no_sense(
    path: tuple[str, ...],
    command: Any,
    param: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A new option is tested the moment it exists."""
    monkeypatch.chdir(tmp_path)
    option = max(param.opts, key=len)
    needed: list[str] = []
    for i, other in enumerate(p for p in command.params if p.required and p is not param):
        is_option = other.opts[0].startswith("-")
        needed += [other.opts[0], "onnx" if other.name == "format" else "1"] if is_option else [f"nowhere/{i}"]
    for number in NUMBERS:
        code, said = run([*path, *needed, f"{option}={number}"], monkeypatch, capsys)
        assert code == 2, (number, said)
        assert option in said or param.name in said.replace("-", "_"), (number, said)
        assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["train", "x", "--batch-per-device", "0"], "--batch-per-device"),
        (["train", "x", "--resolution", "0"], "--resolution"),
        (["train", "x", "--resolution", "64x-3"], "--resolution"),
        (["generate", "x", "--out", "y", "--seeds", "5-1"], "--seeds 5-1"),
        (["generate", "x", "--out", "y", "--seeds", "nan"], "--seeds"),
        (["generate", "x", "--out", "y", "--truncation", "70"], "--truncation 70"),
        (["leaks", "--p", "2"], "--p 2"),
        (["leaks", "--p", "nan"], "--p nan"),
        (["leaks", "--draw", "inf,0"], "--draw inf"),
        (["train", "x", "y", "--batch", "0"], "--batch 0"),
        (["train", "x", "--held-out", "2.5"], "--held-out 2.5"),
        (["train", "x", "--threads", "0"], "--threads '0'"),
        (["train", "x", "--processes", "0"], "--processes 0"),
        (["train", "x", "--keep-last", "0"], "--keep-last 0"),
        (["train", "x", "--p", "2", "--augment", "fixed"], "--p 2"),
        (["train", "x", "y", "--out", "z"], "twice"),
        (["train", "x", "--preset", "tinny"], "did you mean 'tiny'"),
        (["train", "x", "--metod", "ada"], "--method"),
        (["trian", "x"], "train"),
    ],
)
def test_by_name(
    arguments: list[str], word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = run(arguments, monkeypatch, capsys)
    assert code == 2, said
    assert word in said
    assert list(tmp_path.iterdir()) == []


def test_texts_of_numbers() -> None:
    for text in ("5-1", "4294967296", "0-4294967296", "9" * 40, "²", "1-", "-1"):
        with pytest.raises(FruganError, match="--seeds"):
            parse_seeds(text)
    assert parse_seeds("3-3,4294967295") == [3, 4294967295]
    for text in ("²", "1.5", "9" * 5000):
        with pytest.raises(FruganError, match="--batch-per-device"):
            read_count("--batch-per-device", text)
