"""Options that belong to another method or option, and are given without it: a warning names both."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from frugan.checks import Only, as_option
from frugan.cli import latent, project, text, video
from frugan.config.options import Options, displays
from frugan.config.resolve import vain_options
from tests.program import SMALL_NETWORKS, call

COMMANDS = {
    "directions": latent.directions,
    "blend": latent.blend,
    "project": project.project,
    "encode": project.encode,
    "text edit": text.edit,
    "video": video.video,
}


def marked() -> Iterator[tuple[str, str, inspect.Parameter, Only]]:
    for command, function in COMMANDS.items():
        for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
            for mark in getattr(parameter.annotation, "__metadata__", ()):
                if isinstance(mark, Only):
                    yield command, name, parameter, mark


MARKED = list(marked())


@pytest.mark.parametrize(
    ("command", "name", "parameter", "mark"), MARKED, ids=[f"{command} {name}" for command, name, *_ in MARKED]
)
def test_marks_name_a_parameter_and_agree_with_the_help(
    command: str, name: str, parameter: inspect.Parameter, mark: Only
) -> None:
    others = inspect.signature(COMMANDS[command], eval_str=True).parameters
    assert mark.option in others
    *_, option = parameter.annotation.__metadata__
    choices = set(re.findall(r"'([\w+-]+)'", str(others[mark.option].annotation)))
    assert set(mark.values) <= choices
    told = set(re.split(r", | and ", option.help.partition(":")[0].partition(".")[0]))
    if told <= choices:
        assert told == set(mark.values)
    assert (mark.called or as_option(name)) in (as_option(name), option.default, *(option.param_decls or ()))


def other_value(name: str) -> Any:
    """A value of an option of training that is not its default."""
    default = {f.name: f.default for f in fields(Options)}[name]
    known = {"controller": "rv", "transforms": "bg", "metrics": "fid", "features": "clip", "weights": "w.pt"}
    return known.get(name, not default if isinstance(default, bool) else 0 if name == "d_mapping_layers" else 0.5)


ONLY = {name: how.only for name, how in displays(Options).items() if how.only}


@pytest.mark.parametrize("name", ONLY)
def test_options_of_training(name: str) -> None:
    """Told where the other option is missing, also where the method decides on it; not where it is there."""
    only = ONLY[name]
    value: Any = 100 if name == "evaluate_samples" else other_value(name)
    assert only is not None
    off: dict[str, Any] = {"augment": "none"} if only.option == "augment" else {}
    on = {"augment": "ada"} if off else {only.option: "net" if only.option == "init_from" else True}
    on = {"evaluate_kimg": 2.0} if only.option == "evaluate_kimg" else on
    given = Options(**{name: value})
    (told,) = vain_options(replace(given, **off))
    assert told.startswith(as_option(name))
    assert f"has no effect: it belongs to {as_option(only.option)}" in told
    assert vain_options(replace(given, **on)) == []
    if off:
        assert vain_options(replace(given, method="none")) == [told]
        assert vain_options(given) == []  # the default method is ada
    assert vain_options(Options()) == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("project missing x.png --rank 8", "--rank 8 has no effect: it belongs to --tune"),
        ("project missing x.png --rank 8 --tune", ""),
        ("project missing x.png --space w --steps 9", "--steps 9 has no effect: it belongs to --space pn or w+ or s"),
        ("directions missing --no-normalize", "--normalize has no effect: it belongs to --method sefa"),
        ("directions missing --no-normalize --method sefa", ""),
        ("directions missing --to-class 3", "--to-class 3 has no effect: it belongs to --method difference"),
        ("video missing --strengths 0:1", "--strengths 0:1 has no effect: it belongs to --edit"),
        ("blend missing missing --interpolate 0:1:5 --width 2", "--width 2.0 has no effect: it belongs to --at"),
        ("encode missing x.png --steps 9", "--steps 9 has no effect: it belongs to --train"),
    ],
)
def test_on_the_command_line(
    line: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    call(capsys, tmp_path, *line.split())
    assert [record.message for record in caplog.records] == ([f"warning: {words}"] if words else [])


def test_training_tells_before_it_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    options = f"--metrics fid --labels x.csv --device cpu {SMALL_NETWORKS}".split()
    _, printed = call(capsys, tmp_path, "train", "missing", "run", *options)
    assert "warning: --labels x.csv has no effect: it belongs to --conditional or --balanced" in printed
    assert [record.message for record in caplog.records] == [
        "warning: --metrics fid has no effect: it belongs to --evaluate-kimg"
    ]
