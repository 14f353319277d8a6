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
from frugan.cli import convert, data, evaluate, generate, latent, leaks, project, text, video
from frugan.config.options import Options, displays
from frugan.config.resolve import vain_options
from frugan.metrics.metric import METRICS
from tests.program import SMALL_NETWORKS, call

COMMANDS = {
    "directions": latent.directions,
    "blend": latent.blend,
    "project": project.project,
    "encode": project.encode,
    "text edit": text.edit,
    "video": video.video,
    "evaluate": evaluate.evaluate,
    "generate": generate.generate,
    "export": convert.export,
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
    choices |= set(METRICS) if mark.option == "metrics" else set()
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


VAIN = {
    "evaluate": {
        "path_distance": {
            "missing --path-distance lpips --metrics fid,kid": "lpips has no effect: it belongs to --metrics ppl_w_full or",
            "missing --path-distance lpips": "lpips has no effect: it belongs to --metrics ppl_w_full or",
            "missing --path-distance lpips --metrics kid,ppl_z_end": "",
        },
    },
    "generate": {
        "truncation_cutoff": {
            "missing --truncation-cutoff 3": "3 has no effect: it belongs to --truncation",
            "missing --truncation-cutoff 3 --truncation 0.5": "",
        },
    },
    "leaks": {
        "function": {
            "--function a:b --draw 1,0": "a:b has no effect: it belongs to RUNS or --data with --function",
            "--function a:b": "a:b has no effect: it belongs to RUNS or --data with --function",
            "missing --function a:b": "",
            "--data missing --function a:b": "",
        },
        "transforms": {
            "--transforms bg": "bg has no effect: it belongs to RUNS or --data with --transforms",
            "missing --transforms bg": "",
            "--data missing --transforms bg": "",
        },
        "p": {
            "missing --p 0.5": "0.5 has no effect: it belongs to --data with --transforms or --draw or the table of transforms",
            "--data missing --function a:b --p 0.5": "0.5 has no effect: it belongs to --data with --transforms or",
            "--data missing --transforms bg --p 0.5": "",
            "--draw 1,0 --p 0.5": "",
            "--p 0.5": "",
        },
        "condition": {
            "missing --condition 5": "5.0 has no effect: it belongs to --draw or the table of transforms",
            "--data missing --transforms bg --condition 5": "5.0 has no effect: it belongs to --draw or",
            "--draw 1,0 --condition 5": "",
            "--condition 5": "",
        },
        "draw": {
            "missing --draw 1,0": "1,0 has no effect: it belongs to --draw",
            "--data missing --transforms bg --draw 1,0": "1,0 has no effect: it belongs to --draw",
            "--draw 1,0": "",
        },
        "observed": {
            "--observed 1,0": "1,0 has no effect: it belongs to --draw",
            "missing --observed 1,0": "1,0 has no effect: it belongs to --draw",
            "--draw 1,0 --observed 1,0": "",
        },
        "size": {
            "--draw 1,0 --size 8": "8 has no effect: it belongs to the table of transforms",
            "missing --size 8": "8 has no effect: it belongs to the table of transforms",
            "--size 8": "",
        },
        "samples": {
            "--samples 8": "8 has no effect: it belongs to RUNS or --data with --function or --data with --transforms",
            "--draw 1,0 --samples 8": "8 has no effect: it belongs to RUNS or",
            "missing --samples 8": "",
            "--data missing --transforms bg --samples 8": "",
            "--data missing --function a:b --samples 8": "",
        },
        "device": {
            "--data missing --transforms bg --device cpu": "cpu has no effect: it belongs to RUNS",
            "--device cpu": "cpu has no effect: it belongs to RUNS",
            "missing --device cpu": "",
        },
    },
}
"""By command and option: lines, and the warning of each after the option's name, or none."""

IN_SHARDS = {"frames": "all", "stride": "2", "use_generated": ""}
for _command, _before in {"inspect": "", "prepare": "out", "corrupt": "out --measurement noise"}.items():
    VAIN[f"data {_command}"] = {
        name: {
            f"missing.txt {_before} {as_option(name)} {value}": f"{value} has no effect: it belongs to images outside of shards",
            f"missing {_before} {as_option(name)} {value}": "",
        }
        for name, value in IN_SHARDS.items()
    }

ALWAYS = {
    "evaluate": "metrics samples seed truncation per_class intervals statistic data reference group against features weights "
    "resize input_size mean std out batch verbose device",
    "generate": "out seeds truncation noise label code pairs grid scale repeat format bits palette atlas batch device",
    "leaks": "data as_json plot",
    "data inspect": "resolution channels masks fit filter background labels value_range group held_out crops crop_size "
    "crop_overlap crop_rotations crop_seed sheet as_json",
    "data prepare": "resolution channels fit filter background labels value_range strict",
    "data corrupt": "measurement seed resolution channels labels value_range",
    "data sample": "style count size seed offset background",
    "data shard": "per_shard labels channels masks seed",
}
"""Options that have an effect with all others that are not refused beside them; tests/cli/test_options.py holds each to it."""


@pytest.mark.parametrize("command", ALWAYS)
def test_every_option_is_in_a_table(command: str) -> None:
    functions = {**COMMANDS, "leaks": leaks.leaks}
    function = functions.get(command) or getattr(data, command.partition(" ")[2])
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    options = {
        one.name for one in parameters if one.default is not inspect.Parameter.empty or one.name == "measurement"
    }
    assert options - {"runs"} == {*ALWAYS[command].split(), *VAIN.get(command, {})}


@pytest.mark.parametrize(
    ("command", "name", "line", "words"),
    [
        (command, name, line, words)
        for command, options in VAIN.items()
        for name, lines in options.items()
        for line, words in lines.items()
    ],
)
def test_an_option_is_told_of_where_it_has_no_effect(
    command: str,
    name: str,
    line: str,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    call(capsys, tmp_path, *command.split(), *line.split())
    told = [record.message for record in caplog.records]
    assert len(told) == bool(words)
    assert all(one.startswith(f"warning: {as_option(name)} {words}".replace("  ", " ")) for one in told)


def test_every_path_length_is_named() -> None:
    assert set(evaluate.PATH_LENGTHS) == {name for name in METRICS if name.startswith("ppl")}


def test_training_tells_before_it_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    options = f"--metrics fid --labels x.csv --device cpu {SMALL_NETWORKS}".split()
    _, printed = call(capsys, tmp_path, "train", "missing", "run", *options)
    assert "warning: --labels x.csv has no effect: it belongs to --conditional or --balanced" in printed
    assert [record.message for record in caplog.records] == [
        "warning: --metrics fid has no effect: it belongs to --evaluate-kimg"
    ]
