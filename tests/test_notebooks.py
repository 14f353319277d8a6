"""The notebooks: kept without outputs, and each runs from its first cell to its last; here with small numbers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

HOME = Path(__file__).parent.parent / "notebooks"
SMALL = {r"\bKIMG = \d+": "KIMG = 0.032", r"\bSAMPLES = \d+": "SAMPLES = 24", r"\bFRAMES = \d+": "FRAMES = 3"}
NOTEBOOKS = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(HOME.glob("*.ipynb"))}


def code(notebook: dict[str, Any]) -> list[str]:
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FRUGAN_CACHE", str(folder / "cache"))
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, text in enumerate(code(NOTEBOOKS[name])):
        for pattern, small in SMALL.items():
            text = re.sub(pattern, small, text)
        exec(compile(text, f"{name}.ipynb, cell {number}", "exec"), names)
    return names


def test_the_four() -> None:
    assert set(NOTEBOOKS) == {"quickstart", "evaluate", "edit", "scientific"}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_they_are_kept_without_outputs(name: str) -> None:
    notebook = NOTEBOOKS[name]
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
    first = code(notebook)[0]
    assert "pip" in first
    assert "frugan[" in first


def test_quickstart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("quickstart", tmp_path, monkeypatch)
    assert (tmp_path / "quickstart" / "new.png").is_file()
    assert (tmp_path / "quickstart" / "training.webp").is_file()


def test_edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run("edit", tmp_path, monkeypatch)
    assert names["mixtures"].shape[-3:] == (3, 64, 64)
    assert {path.name for path in (tmp_path / "edit").iterdir()} == {"wide.png", "sefa.png", "mixed.png", "loop.webp"}


@pytest.mark.slow
def test_evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run("evaluate", tmp_path, monkeypatch)
    assert {"kid", "recall"} <= set(names["card"].values)


@pytest.mark.slow
def test_scientific(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run("scientific", tmp_path, monkeypatch)
    assert names["images"].shape == (64, 2, 32, 32)
