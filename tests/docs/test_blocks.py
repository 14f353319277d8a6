"""Every block of shell and Python on the pages that newcomers follow is run, in order, in one directory for each page.

Commands are the page's own, but for sizes: `SIZES` says which options a command gets instead of, or besides, those on the
page, so that it ends within seconds, `NUMBERS` which numbers in Python shrink, and the demo has fewer images. A block that
cannot be run says so on the page (`<!-- not run: REASON -->`); its commands must parse all the same, like those of all other
pages.
"""

from __future__ import annotations

import re
import shlex
import shutil
import tomllib
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import typer
from PIL import Image

from docsite.blocks import Block, blocks, commands
from docsite.links import DOCS, ROOT
from frugan.cli import demo
from frugan.cli.app import app
from tests.program import call

FOLLOWED = [
    ROOT / "README.md",
    *sorted((DOCS / "getting-started").glob("*.md")),
    *sorted((DOCS / "tutorials").glob("*.md")),
]
TINY = "--preset tiny --channel-base 64 --channel-max 8 --latent 16 --batch 8 --threads 1 --kimg 0.016 --evaluate-samples 40"
SIZES = {
    "train": TINY,
    "demo": "--kimg 0.016",
    "resume": "--kimg 0.024",
    "evaluate": "--samples 40",
    "directions": "--samples 500 --count 2",
    "video": "--seconds 0.3 --fps 6",
    "data sample": "--count 24",
    "text train": "--steps 2",
    "project": "--steps-w 2 --steps 2 --tune-steps 2",
    "text edit": "--images 2",
}
"""Options by command: a value replaces the page's, an option that the page has not is added."""
ADDED_ONLY_IF_GIVEN = {"--count", "--evaluate-samples", "--tune-steps", "--steps-w", "--steps"}
OF_FINE_TUNING = ("--channel-base", "--channel-max", "--latent")
NUMBERS = {
    r"\bkimg=[\d.]+": "kimg=0.016",
    r"\bsteps = \d+": "steps = 2",
    r"range\(20\)": "range(2)",
    r"preset=\"tiny\"": 'preset="tiny", channel_base=64, channel_max=8, latent=16, batch=8, threads=1',
}
SERVES = ("board", "explore")
"""Commands that run until they are stopped: they must parse."""
NOT_FRUGAN = ("pip install", "make ", "git clone", "cd ", "python -m venv", ". ", "source ", "podman ")
"""Commands that set up a machine: looked at by other tests here, not run."""


def identifier(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def words(command: str) -> list[str]:
    """The words of a command after `frugan`."""
    return shlex.split(command)[1:]


def name_of(arguments: list[str]) -> str:
    return " ".join(arguments[:2]) if arguments[0] in ("data", "text") else arguments[0]


def reduced(arguments: list[str]) -> list[str]:
    """The same command at the sizes of `SIZES`."""
    options = shlex.split(SIZES.get(name_of(arguments), ""))
    small = dict(zip(options[::2], options[1::2], strict=True))
    if "--init-from" in arguments:
        small = {key: value for key, value in small.items() if key not in OF_FINE_TUNING}
    out = list(arguments)
    for option, value in small.items():
        if option in out:
            out[out.index(option) + 1] = value
        elif option not in ADDED_ONLY_IF_GIVEN:
            out += [option, value]
    return out


def make_photos(folder: Path, count: int = 24) -> None:
    """What pages call `photos`: small images in two sub-folders, one of them broken."""
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / ("cat" if number % 2 else "dog") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(path)
    (folder / "broken.png").write_bytes(b"\x89PNG")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with `photos`, `ffhq.pkl` (a small network in the file format of that one), and caches of its own."""
    monkeypatch.setenv("FRUGAN_CACHE", str(tmp_path / ".cache"))
    monkeypatch.chdir(tmp_path)
    for name, small in {"IMAGES": 24, "HELD_OUT": 8, "FRAMES": 2, "SAMPLES": 16}.items():
        monkeypatch.setattr(demo, name, small)
    make_photos(tmp_path / "photos")
    shutil.copy(ROOT / "tests" / "golden" / "nvidia_pytorch.pkl", tmp_path / "ffhq.pkl")
    return tmp_path


def run_shell(block: Block, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in commands(block.text):
        if command.startswith(NOT_FRUGAN):
            continue
        if command.startswith("python -c "):
            exec(words(command)[1], {})
            continue
        assert command.startswith("frugan "), f"{command}: neither run nor known"
        arguments = reduced(words(command))
        if name_of(arguments) in SERVES:
            parse(command)
            continue
        code, said = call(capsys, home, *arguments)
        assert code == 0, f"line {block.line}: frugan {shlex.join(arguments)}\n{said}"


def run_python(block: Block, names: dict[str, Any]) -> None:
    text = block.text
    for pattern, small in NUMBERS.items():
        text = re.sub(pattern, small, text)
    exec(compile(text, f"line {block.line}", "exec"), names)


@pytest.mark.parametrize("page", FOLLOWED, ids=identifier)
def test_blocks_run(page: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks(page):
        if block.why is not None:
            continue
        if block.language in ("sh", "bash"):
            run_shell(block, home, capsys)
        elif block.language == "python":
            run_python(block, names)


# ---- all pages ----

PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


@cache
def program() -> Any:
    return typer.main.get_command(app)


def parse(command: str) -> None:
    """Reads a command as the program would, but for the work: unknown commands, options and words for numbers are errors."""
    arguments, entered = words(command), program()
    with click.Context(entered) as context:
        while hasattr(entered, "commands"):
            name, entered, arguments = entered.resolve_command(context, arguments)
            context = click.Context(entered, parent=context, info_name=name)
    if not {"--help", "--help-all"} & set(arguments):
        entered.make_context("frugan", list(arguments))


@pytest.mark.parametrize("page", PAGES, ids=identifier)
def test_commands_parse(page: Path) -> None:
    for block in blocks(page):
        for command in commands(block.text) if block.language in ("sh", "bash") else []:
            if command.startswith("frugan ") and words(command) != ["--version"] and "…" not in command:
                try:
                    parse(command)
                except click.ClickException as error:
                    pytest.fail(f"{page.name}, line {block.line}: {command}: {error.format_message()}")


@pytest.mark.parametrize("page", [page for page in PAGES if DOCS in page.parents], ids=identifier)
def test_comments_fit_the_column(page: Path) -> None:
    """A page has room for 86 characters on a screen of 1280 pixels: the end of a longer comment would begin a line of its own."""
    for block in blocks(page):
        for number, line in enumerate(block.text.splitlines(), block.line + 1):
            assert len(line) <= 86 or not re.search(r"(^|\s)# ", line), f"{page.name}, line {number}"


@pytest.mark.parametrize("page", PAGES, ids=identifier)
def test_names_imported_in_blocks_exist(page: Path) -> None:
    for block in blocks(page):
        for module, names in re.findall(r"^from (frugan[\w.]*) import (.+)$", block.text, re.M):
            for name in re.split(r", *", names):
                assert hasattr(import_module(module), name), f"{page.name}, line {block.line}: {module} has no {name}"


@pytest.mark.parametrize("page", PAGES, ids=identifier)
def test_commands_in_sentences_parse(page: Path) -> None:
    """`frugan resume RUN --kimg N` in a sentence; a command that is only named needs no arguments."""
    prose = re.sub(r"^ *```.*?^ *``` *$", "", page.read_text("utf-8"), flags=re.M | re.S)
    for command in re.findall(r"`(frugan [^`\n]+)`", prose):
        if "…" not in command and words(command) != ["--help"]:
            try:
                parse(re.sub(r" N$", " 1", command))
            except Exception as error:  # typer's, or click's, by its version
                if type(error).__name__ != "MissingParameter":
                    pytest.fail(f"{page.name}: {command}: {error}")


def test_every_extra_of_users_is_explained() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    page = (DOCS / "getting-started" / "install.md").read_text("utf-8")
    rows = re.findall(r"^\| ((?:`[a-z0-9]+`(?:, )?)+) \|", page, re.M)
    assert {name for row in rows for name in re.findall(r"[a-z0-9]+", row)} == set(extras) - {"dev", "docs"}


def test_extras_and_targets_exist() -> None:
    """`pip install -e '.[NAME]'` and `make NAME`, wherever pages say so."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    for page in PAGES:
        text = page.read_text("utf-8")
        named = {name for found in re.findall(r"(?:frugan|\.)\[([a-z,]+)\]", text) for name in found.split(",")}
        assert named <= set(extras), page
        assert set(re.findall(r"`make ([a-z-]+)`|^make ([a-z-]+)", text, re.M)) <= {(t, "") for t in targets} | {
            ("", t) for t in targets
        }, page
