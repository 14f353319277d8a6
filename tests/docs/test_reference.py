"""Reference pages are complete: every transform, monitor, command and option; every question has a short answer."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
import typer
from PIL import Image

from docsite import command_line
from docsite.figures import SIZE, transform_strip
from docsite.links import DOCS
from docsite.pages import generated
from frugan.augment import CONTROLLERS, TRANSFORMS
from frugan.cli.app import app
from frugan.metrics import METRICS
from frugan.tracking.monitors import MONITORS


def test_transforms_have_a_row_and_an_image() -> None:
    page = (DOCS / "reference" / "transforms.md").read_text("utf-8")
    rows = re.findall(r"^\|.*\| `(\w+)` \|.*!\[\1\]\((.*)\) \|$", page, re.M)
    assert [name for name, _ in rows] == list(TRANSFORMS)
    for _, image in rows:
        with Image.open(DOCS / "reference" / image) as opened:
            assert opened.height == SIZE
    assert set(CONTROLLERS) <= set(re.findall(r"^\| `(\w+)`", page, re.M))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_strips_show_the_image_and_its_changes(name: str) -> None:
    image = torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    first, *others = np.split(transform_strip(name, image), 6, axis=1)
    assert np.abs(first / 127.5 - 1 - image.permute(1, 2, 0).numpy()).max() < 0.005
    assert any((other != first).any() for other in others)


def test_metrics_have_a_row_and_stand_in_the_help() -> None:
    """(`recall` may stand in the row of a metric that is computed with it.)"""
    page = (DOCS / "reference" / "metrics.md").read_text("utf-8")
    rows = "\n".join(re.findall(r"^\| `.*\|$", page, re.M))
    evaluate = dict(command_line._commands(typer.main.get_command(app)))["frugan evaluate"]
    told = next(p.help for p in evaluate.params if p.name == "metrics")  # pyright: ignore[reportAttributeAccessIssue]
    assert told
    assert told.partition(";")[0].split(", ") == list(METRICS)
    assert [name for name in METRICS if f"`{name}`" not in rows] == []


def test_monitors_are_explained_twice() -> None:
    page = (DOCS / "reference" / "monitors.md").read_text("utf-8")
    assert (
        re.findall(r"^\| ([a-z][\w -]*) \|", page.replace("| monitor |", "").replace("| warning |", ""), re.M)
        == [*MONITORS] * 2
    )


def test_every_command_and_option_is_listed() -> None:
    page = command_line.page()
    options = (DOCS / "reference" / "options.md").read_text("utf-8")
    group = typer.main.get_command(app)
    found = dict(command_line._commands(group))
    assert re.findall(r"^## (frugan .*)$", page, re.M) == list(found)
    for name, command in found.items():
        section = page.split(f"\n## {name}\n")[1].split("\n## ")[0] + (options if name == "frugan train" else "")
        assert {flag for p in command.params for flag in p.opts if flag.startswith("--") and flag != "--help"} <= set(
            re.findall(r"--[\w-]+", section)
        ), name
    assert not re.search(r"\[/?(bold|dim|red)|\\\[", page), "markup of the terminal"


def test_files_of_the_root_are_pages() -> None:
    made = generated()
    assert made["project/changelog.md"].startswith("# Changelog")
    assert "](decisions/index.md)" in made["project/architecture.md"]


def test_questions_are_answered_within_two_minutes() -> None:
    """At 150 words a minute: 300 words, and a way to more, a table or a plain yes or no."""
    page = (DOCS / "getting-started" / "questions.md").read_text("utf-8")
    sections = re.split(r"^## (.*)$", page, flags=re.M)[1:]
    assert len(sections) // 2 >= 25
    for question, answer in zip(sections[::2], sections[1::2], strict=True):
        assert question.endswith("?"), question
        assert 15 <= len(answer.split()) <= 300, question
