"""The house keeps its layers, its public names, and starts quickly."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import frugan

ROOT = Path(__file__).parent.parent


def test_layers() -> None:
    result = subprocess.run([Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_public_names_are_there() -> None:
    for name in frugan.__all__:
        assert getattr(frugan, name) is not None
    assert not hasattr(frugan, "nonsense")


def test_help_imports_no_torch() -> None:
    """Neither the program's help nor that of any command: it is there at once."""
    code = """
import sys, typer
from frugan.cli.app import app
program = typer.main.get_command(app)
def paths(group, before=()):
    yield before
    for name, command in getattr(group, "commands", {}).items():
        yield from paths(command, (*before, name))
asked = list(paths(program))
for path in asked:
    program.main([*path, "--help"], "frugan", standalone_mode=False)
assert len(asked) > 20, asked
heavy = {"torch", "numpy", "scipy", "PIL", "yaml"} & {*sys.modules}
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def processor_seconds(*arguments: str) -> float:
    """What a Python process takes of a processor, user and system."""
    before = os.times()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def test_help_is_fast() -> None:
    """At most 2.5 times what Typer takes for the help of a program that does nothing, whatever this machine's speed."""
    nothing = "import typer; app = typer.Typer(); app.command('a')(print); app.command('b')(print); app(['--help'])"
    pairs = [(processor_seconds("-m", "frugan", "--help"), processor_seconds("-c", nothing)) for _ in range(3)]
    ours, theirs = (min(taken) for taken in zip(*pairs, strict=True))
    assert ours < 2.5 * theirs, pairs


READERS = {
    "files.py": "the one reader",
    "metrics/features/inception.py": "weights whose hash was compared, by PyTorch's own reader of nothing but weights",
    "metrics/features/networks.py": "weights that come inside an installed package",
    "latent/fitting/lpips.py": "weights whose hash was compared, as above",
}
"""Where JSON, YAML and PyTorch's files are read by anything but `frugan.files`, and why."""


def test_one_reader_for_files() -> None:
    parsers = re.compile(
        r"\bjson\.loads?\(|\byaml\.(?!safe_dump)\w+|\btorch\.load\(|\bpickle\.loads?\(|\bnp\.load\(.*pickle=True"
    )
    source = ROOT / "src" / "frugan"
    found = {p.relative_to(source).as_posix() for p in source.rglob("*.py") if parsers.search(p.read_text("utf-8"))}
    assert found == set(READERS)
