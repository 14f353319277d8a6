"""Label files, configurations, cards and command lines that make no sense: a sentence, never a traceback."""

from __future__ import annotations

import json
import time
import typing
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from frugan.cli import data as data_commands
from frugan.cli import generate, train
from frugan.cli.common import parse_seeds
from frugan.config.options import Options
from frugan.config.resolve import Facts, resolve
from frugan.config.schema import load_config, to_dict
from frugan.data import DataConfig, open_dataset
from frugan.errors import FruganError
from frugan.latent import parse_label
from frugan.metrics import EvaluationCard
from frugan.resolution import parse_resolution

from .damage import damaged, program

EXAMPLE = resolve(Options(preset="tiny"), DataConfig("images"), Facts((16, 16), 3, 2, 100, 10))[0]

numbers = st.one_of(
    st.integers(), st.floats(), st.sampled_from([0, -1, 1, 2**31, 2**63, 10**400, 1e300, float("nan"), float("inf")])
)
scalars = st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=20))
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from PIL import Image

    folder = tmp_path_factory.mktemp("text")
    (folder / "set").mkdir()
    for name in ("a", "b", "c"):
        Image.fromarray(np.full((8, 8, 3), ord(name), np.uint8)).save(folder / "set" / f"{name}.png")
    return folder


def labelled(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    try:
        data = open_dataset(DataConfig(str(folder / "set"), labels=str(folder / name)), cache_dir=folder / "cache")
    except FruganError:
        return
    assert len(data.labels) == 3
    assert np.isfinite(data.labels).all()


cells = st.one_of(
    scalars.map(str),
    st.sampled_from(["a.png", "b.png", "c.png", "", "1", "0.5", "nan", "1e400", "²", "٣", '"', "9" * 5000]),
)


@given(rows=st.lists(st.lists(cells, max_size=4), max_size=6), mark=st.sampled_from(",;\t"))
def test_tables_of_anything(folder: Path, rows: list[list[str]], mark: str) -> None:
    text = "\n".join(mark.join(row) for row in rows)
    labelled(folder, "labels.csv", text.encode("utf-8", "surrogatepass"))


@given(values=st.lists(cells, min_size=3, max_size=3), more=st.lists(cells, min_size=3, max_size=3))
def test_tables_whose_names_are_right(folder: Path, values: list[str], more: list[str]) -> None:
    rows = [",".join(row) for row in zip(("a.png", "b.png", "c.png"), values, more)]
    labelled(folder, "labels.csv", "\n".join(rows).encode("utf-8", "surrogatepass"))


@given(content=damaged([b"name,class\na.png,cat\nb.png,dog\nc.png,cat\n", b"a.png,1,0.5\nb.png,2,1.5\nc.png,3,2\n"]))
def test_damaged_tables(folder: Path, content: bytes) -> None:
    labelled(folder, "labels.tsv", content)


@given(labels=st.lists(anything, min_size=3, max_size=3), classes=anything)
def test_json_labels_of_anything(folder: Path, labels: list, classes: object) -> None:
    pairs = [list(pair) for pair in zip(("a.png", "b.png", "c.png"), labels)]
    labelled(folder, "labels.json", json.dumps({"labels": pairs, "class_names": classes}).encode())


@given(content=anything)
def test_json_of_anything(folder: Path, content: object) -> None:
    labelled(folder, "labels.json", json.dumps(content).encode())
    labelled(folder, "labels.json", json.dumps({"labels": content}).encode())


@pytest.mark.parametrize("content", ["[" * 100_000, '{"labels": ' + "[" * 100_000, '{"a":' * 100_000])
def test_json_too_deep(folder: Path, content: str) -> None:
    labelled(folder, "labels.json", content.encode())


def test_as_many_classes_as_images(folder: Path) -> None:
    """Identifiers taken for classes: refused before memory is set aside, at once."""
    from frugan.data.labels.read import read_labels

    names = [f"{i}.png" for i in range(30_000)]
    source = mock.Mock(path=Path("set"), text=lambda name: None)
    (folder / "many.csv").write_text("\n".join(f"{name},id{i}" for i, name in enumerate(names)))
    started = time.process_time()
    with pytest.raises(FruganError, match="classes"):
        read_labels(source, str(folder / "many.csv"), names)
    assert time.process_time() - started < 20


def configured(file: Path) -> None:
    """The configuration is refused in a sentence, or such that one can begin with it."""
    try:
        config = load_config(file)
    except FruganError:
        return
    assert config.kimg > 0


@given(data=st.data())
def test_a_configuration_with_anything_in_a_place(folder: Path, data: st.DataObject) -> None:
    config = to_dict(EXAMPLE)
    part: dict = config
    while True:
        key = data.draw(st.sampled_from(sorted(part)))
        if not isinstance(part[key], dict) or not part[key] or data.draw(st.integers(0, 9)) == 0:
            break
        part = part[key]
    part[key] = data.draw(anything)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    configured(folder / "config.yaml")


@given(content=damaged([yaml.safe_dump(to_dict(EXAMPLE)).encode()]))
def test_a_damaged_configuration(folder: Path, content: bytes) -> None:
    (folder / "config.yaml").write_bytes(content)
    configured(folder / "config.yaml")


LAUGHS = "\n".join(["a0: &a0 [1]", *(f"a{i + 1}: &a{i + 1} [{','.join([f'*a{i}'] * 9)}]" for i in range(9))]).encode()
"""9⁹ elements, once references are followed."""

ODD = [
    b"",
    b"- a\n",
    b"text",
    b"\xff\xfe",
    b"a: &a [*a]",
    b"[" * 5000,
    b"!!python/object/apply:os.system ['true']",
    LAUGHS,
    b"kimg: 1\non: 2\n1: 3\n",
    b"training: {on: 2, x: 1}\n",
]


@pytest.mark.parametrize("content", ODD)
def test_odd_configurations(folder: Path, content: bytes) -> None:
    (folder / "config.yaml").write_bytes(content)
    with pytest.raises(FruganError):
        load_config(folder / "config.yaml")


@given(content=anything)
def test_cards_of_anything(folder: Path, content: object) -> None:
    file = folder / "card.json"
    file.write_text(json.dumps(content))
    code, printed = program("compare", str(file), str(file))
    assert code == 2, printed
    with pytest.raises(FruganError):
        EvaluationCard.load(file)


@given(text=st.one_of(st.text(max_size=20), cells, st.from_regex(r"[0-9x,\-²٣]{1,12}", fullmatch=True)))
def test_small_languages(text: str) -> None:
    for parse in (parse_resolution, parse_seeds, lambda t: parse_label(t, 3, ["a", "b", "c"])):
        try:
            parse(text)
        except FruganError:
            continue


def test_more_seeds_than_memory() -> None:
    with pytest.raises(FruganError, match="seeds"):
        parse_seeds("0-4294967295")


COMMANDS = {
    "train": (train.train, ["SET", "-o", "OUT", "--preset=tiny", "--batch=2", "--dry-run"]),
    "resume": (train.resume, ["SET"]),
    "generate": (generate.generate, ["SET", "-o", "OUT"]),
    "data inspect": (data_commands.inspect, ["SET", "--sheet=SHEET"]),
}
HARMLESS = {"out", "device", "sheet", "threads", "weights", "init_from", "dry_run"}


def _options(command: str) -> list[tuple[str, tuple[str, ...] | None]]:
    """(--option, its choices) of a command; None for a flag."""
    found: list[tuple[str, tuple[str, ...] | None]] = []
    for name, hint in typing.get_type_hints(COMMANDS[command][0]).items():
        if name not in HARMLESS and name != "return":
            choices = typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()
            found.append((f"--{name.replace('_', '-')}", None if hint is bool else tuple(map(str, choices))))
    return found


@pytest.mark.parametrize("command", COMMANDS)
@given(data=st.data())
def test_command_lines(folder: Path, command: str, data: st.DataObject) -> None:
    """Any values of up to four options, until networks would be built: exit code 0 or 2."""
    chosen = data.draw(st.lists(st.sampled_from(_options(command)), min_size=1, max_size=4, unique_by=lambda o: o[0]))
    places = {"SET": folder / "set", "OUT": folder / "out", "--sheet=SHEET": f"--sheet={folder / 'sheet.png'}"}
    words = [str(places.get(word, word)) for word in COMMANDS[command][1]]
    for name, choices in chosen:
        value = st.sampled_from(choices) if choices else cells
        words.append(name if choices is None else f"{name}={data.draw(value)}".replace("\0", ""))
    with (
        mock.patch("frugan.cli.train.show_cost"),
        mock.patch.dict("os.environ", {"FRUGAN_CACHE": str(folder / "cache")}),
    ):
        code, printed = program(*command.split(), *words)
    assert code in (0, 2), (words, printed)
    assert not (folder / "out").exists()
