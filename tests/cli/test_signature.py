"""The command line of training, made from its options: help in two lengths, flags, aliases, completion, examples."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from frugan.cli import app as program
from frugan.cli import train as train_module
from frugan.cli.signature import completing, option_parameters
from frugan.config.options import DataOptions, Options, descriptions, displays
from tests.cli.test_numbers import COMMANDS
from tests.cli.test_options import TRAIN, recorded

TRAIN_COMMAND: Any = typer.main.get_command(program.app).commands["train"]  # type: ignore[attr-defined]
BOTH = (Options, DataOptions)
FLAGS = [p.name for owner in BOTH for p in option_parameters(owner) if p.default is False]


def help_of(*arguments: str) -> str:
    done = CliRunner().invoke(program.app, ["train", *arguments], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert done.exit_code == 0, done.output
    return done.output


def test_help_lists_the_basics_and_help_all_the_rest() -> None:
    short, whole = help_of("--help"), help_of("--help-all")
    basics = {name for owner in BOTH for name, display in displays(owner).items() if display.basic}
    assert 8 <= len(basics) <= 12
    for owner in BOTH:
        for name in displays(owner):
            option = f"--{name.replace('_', '-')}"
            assert option in whole
            assert (f"{option} " in short or f"{option}," in short) == (name in basics), name
    for example in train_module.EXAMPLES:
        assert f"frugan train {example}" in short


def test_every_default_is_shown() -> None:
    """By the option itself, or in words where it is derived; flags are off."""
    whole = " ".join(help_of("--help-all").replace("│", " ").split())
    options = [p for p in TRAIN_COMMAND.params if p.name not in ("data", "to", "help_all") and p.default is not False]
    assert whole.count("[default: ") == len(options)


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(path) for path, _ in COMMANDS])
def test_help_on_a_narrow_terminal(path: tuple[str, ...], command: Any) -> None:
    """At 80 columns each option is named whole; flags that are off by the name that sets them, without a type."""
    told = CliRunner().invoke(program.app, [*path, "--help"], env={"COLUMNS": "80", "NO_COLOR": "1"}).output
    assert "<bool>" not in told
    for option in command.params:
        if option.param_type_name == "option" and (path != ("train",) or option.name in train_module.BASICS):
            assert all(re.search(rf"[ ,]{name}[ ,]", told) for name in option.opts), option.name
            assert all((name in told) == (option.default is not False) for name in option.secondary_opts), option.name


def test_descriptions_say_the_default_where_it_is_derived() -> None:
    for owner in BOTH:
        texts = descriptions(owner)
        for parameter in option_parameters(owner):
            assert ("[default: " in texts[parameter.name]) == (parameter.default in (None, "")), parameter.name


@pytest.mark.parametrize("name", FLAGS)
def test_flags_can_be_switched_off(name: str) -> None:
    flag = name.replace("_", "-")
    assert recorded(("train",), {**TRAIN.needs, "": f"--{flag} --no-{flag}"}) == recorded(("train",), TRAIN.needs)


def test_aliases() -> None:
    assert recorded(("train",), {**TRAIN.needs, "": "--gamma 3"})["plan.options.r1_gamma"] == 3


@pytest.mark.parametrize("example", train_module.EXAMPLES)
def test_examples_are_understood(example: str) -> None:
    words = shlex.split(example)
    assert recorded(("train",), {str(i): word for i, word in enumerate(words)})["plan.data.path"] == "photos"


def test_values_complete() -> None:
    """Presets, methods, metrics: names that begin like the word; after a comma, those of the last one."""
    assert completing(lambda: ["ada", "apa", "bcr"])("a") == ["ada", "apa"]
    assert completing(lambda: ["ada", "apa", "bcr"], several=True)("ada,b") == ["ada,bcr"]
    for path, name, word, expected in (
        ("train", "preset", "pa", "paper256"),
        ("train", "method", "ada,z", "ada,zcr"),
        ("train", "metrics", "fi", "fid"),
        ("evaluate", "metrics", "kid,re", "kid,recall"),
        ("evaluate", "features", "di", "dinov2"),
        ("demo", "style", "sh", "shapes"),
        ("data sample", "style", "pi", "pixel-art"),
    ):
        parameter = next(p for p in dict(COMMANDS)[tuple(path.split())].params if p.name == name)
        found = parameter.shell_complete(None, word)
        assert expected in [getattr(item, "value", item) for item in found], path


WITHOUT_OPPOSITE = {"help", "help_all", "version", "as_json", "install_completion", "show_completion"}


def test_every_flag_shows_its_opposite() -> None:
    flags = [p for _, command in COMMANDS for p in command.params if getattr(p, "is_flag", False)]
    lacking = {p.name for p in flags if not p.secondary_opts}
    assert {"grid", "tune", "mirror", "per_class", "loop"} <= {p.name for p in flags}
    assert lacking <= WITHOUT_OPPOSITE
