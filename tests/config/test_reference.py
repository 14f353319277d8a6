"""What is made from the options is in step with them: the page, the keywords of `frugan.train`, the fields of `DataConfig`."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import frugan
from frugan.checks import as_option
from frugan.config.keywords import TrainKeywords
from frugan.config.options import DataOptions, Options
from frugan.config.reference import KEYWORDS, PAGE, keywords, page
from frugan.data import DataConfig

ROOT = Path(__file__).parents[2]


def test_files_are_those_that_are_made() -> None:
    """`python -m frugan.config.reference` writes them."""
    assert (ROOT / PAGE).read_text("utf-8") == page()
    assert (ROOT / KEYWORDS).read_text("utf-8") == keywords()


def test_every_option_is_on_the_page() -> None:
    for owner in (Options, DataOptions):
        for field in fields(owner):
            assert page().count(f"`{as_option(field.name)}`") == 1, field.name


def test_options_of_images_are_those_of_their_configuration() -> None:
    config = {f.name: f.default for f in fields(DataConfig)}
    assert {f.name: f.default for f in fields(DataOptions)}.items() <= config.items()
    assert config.keys() - {f.name for f in fields(DataOptions)} == {"path", "held_out_seed", "without"}
    hints = get_type_hints(DataConfig)
    assert all(hints[name] == hint for name, hint in get_type_hints(DataOptions).items())


def test_train_is_typed_and_completes() -> None:
    """Every keyword has its type and default, and `dir(frugan)` the public names."""
    parameters = inspect.signature(frugan.train).parameters
    names = {f.name for owner in (Options, DataConfig) for f in fields(owner)} - {"path"}
    assert names <= parameters.keys()
    assert get_type_hints(TrainKeywords).keys() == names
    assert {*frugan.__all__} <= {*dir(frugan)}
