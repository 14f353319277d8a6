"""Commands printed for pasting: a real shell takes them back, and the program's name is one that can be called."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

import frugan
from frugan.cli.app import app
from frugan.command_line import command, program, quote

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="the shell that takes the commands back")
CHARACTERS = st.characters(exclude_characters="\0", exclude_categories=["Cs"])


@given(st.lists(st.text(CHARACTERS), min_size=1, max_size=20))
def test_a_shell_takes_back_what_was_quoted(texts: list[str]) -> None:
    """Blanks, quotes, dollars, newlines and control characters arrive as they were, and none is printed raw."""
    line = " ".join(map(quote, texts))
    assert line.isprintable()
    done = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == texts


def test_bytes_that_are_no_text_survive() -> None:
    name = b"caf\xe9 \x1b[2J".decode("utf-8", "surrogateescape")
    done = subprocess.run(["bash", "-c", f"printf %s {quote(name)}"], capture_output=True, check=True)
    assert done.stdout == b"caf\xe9 \x1b[2J"


def test_a_path_is_no_option(monkeypatch: pytest.MonkeyPatch) -> None:
    assert quote(Path("-o run")) == "'./-o run'"
    assert quote("--out") == "--out"
    monkeypatch.setattr("frugan.command_line.program", lambda: "frugan")
    assert command("resume", Path("my run"), "--kimg", 2.5, None) == "frugan resume 'my run' --kimg 2.5"


def script(folder: Path) -> Path:
    """A `frugan` that can be called."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "frugan"
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)
    return file


@pytest.mark.parametrize("name", ["bin", "my bin"])
def test_the_name_is_one_that_can_be_called(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, other = script(tmp_path / name), script(tmp_path / "other")
    (ours.parent / "python").symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(ours.parent / "python"))

    def called(argv0: object, path: Path) -> str:
        monkeypatch.setattr(sys, "argv", [str(argv0)])
        monkeypatch.setenv("PATH", str(path))
        return program()

    nowhere = tmp_path / "nowhere"
    module = tmp_path / "site-packages" / "frugan" / "__main__.py"
    assert called(ours, ours.parent) == "frugan"
    assert called(ours, other.parent) == called(ours, nowhere) == quote(ours)
    assert called(module, ours.parent) == "python -m frugan"
    assert called(module, other.parent) == called(module, nowhere) == f"{quote(sys.executable)} -m frugan"
    assert called("notebook.py", ours.parent) == "frugan"
    assert called("notebook.py", other.parent) == called("", nowhere) == f"{quote(sys.executable)} -m frugan"


def test_what_is_printed_runs(tmp_path: Path) -> None:
    """A long command stays on one line of a narrow terminal, and the printed program answers."""
    long = tmp_path / ("a [bold]name[/bold] " * 8)
    code = (
        "import sys; from pathlib import Path; from frugan.cli.common import print_command; "
        "print_command('Try', '--version'); print_command('Resume with', 'resume', Path(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(long)], capture_output=True, text=True, env=_narrow(), check=True
    )
    first, second = done.stdout.splitlines()
    assert str(long) in second
    version = subprocess.run(
        ["bash", "-c", first.removeprefix("Try: ")], capture_output=True, text=True, env=_narrow(), check=True
    )
    assert version.stdout.startswith("frugan ")


def _narrow() -> dict[str, str]:
    return {**os.environ, "COLUMNS": "40"}


SOURCE = Path(frugan.__file__).parent
COMMANDS = typer.main.get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]
TYPED = re.compile(rf"\bfrugan ({'|'.join(COMMANDS)})\b")


def commands_in(file: Path) -> list[str]:
    """Commands that stand as they are in what a module prints or raises: in no docstring, comment, or text of --help."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    helped = [
        k.value for node in ast.walk(tree) if isinstance(node, ast.Call) for k in node.keywords if k.arg == "help"
    ]
    stated = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)]  # docstrings, of attributes too
    allowed = {id(part) for node in helped for part in ast.walk(node)} | {
        id(n) for n in stated if isinstance(n, ast.Constant)
    }
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [f"{file.name}:{node.lineno}" for node in texts if id(node) not in allowed and TYPED.search(node.value)]  # pyright: ignore[reportArgumentType, reportCallIssue]


def test_no_printed_command_is_typed_by_hand(tmp_path: Path) -> None:
    """The program may be called otherwise than `frugan`, and paths need quotes: `command` knows both."""
    assert [place for file in sorted(SOURCE.rglob("*.py")) for place in commands_in(file)] == []
    (tmp_path / "x.py").write_text(
        '"""frugan train"""\nx = Option(help="frugan train")\nprint(f"use frugan resume {run}")\n'
    )
    assert commands_in(tmp_path / "x.py") == ["x.py:3"]
