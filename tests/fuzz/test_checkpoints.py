"""Networks' files that are damaged or made to harm: refused in a sentence, in bounded memory and time."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from frugan.errors import FruganError
from frugan.networks import Generator, GeneratorConfig, MappingConfig, SynthesisConfig, load_generator, save_generator

from .damage import damaged
from .test_text import anything

SMALL = GeneratorConfig((8, 8), z_dim=4, w_dim=4, mapping=MappingConfig(2), synthesis=SynthesisConfig(32, 4))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    save_generator(folder, Generator(SMALL))
    for name in ("model.safetensors", "config.json"):
        (folder / f"{name}.sound").write_bytes((folder / name).read_bytes())
    return folder


def restored(folder: Path) -> None:
    for sound in folder.glob("*.sound"):
        sound.with_suffix("").write_bytes(sound.read_bytes())


def loaded(folder: Path) -> None:
    started = time.process_time()
    try:
        load_generator(folder)
    except FruganError:
        pass
    finally:
        restored(folder)
    assert time.process_time() - started < 10


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@given(data=st.data())
def test_damaged_files(folder: Path, name: str, data: st.DataObject) -> None:
    (folder / name).write_bytes(data.draw(damaged([(folder / f"{name}.sound").read_bytes()])))
    loaded(folder)


@given(data=st.data())
def test_configurations_with_anything_in_a_place(folder: Path, data: st.DataObject) -> None:
    config = json.loads((folder / "config.json").read_text())
    part: dict = config
    while True:
        key = data.draw(st.sampled_from(sorted(part)))
        if not isinstance(part[key], dict) or not part[key]:
            break
        part = part[key]
    part[key] = data.draw(st.one_of(anything, st.sampled_from([10**9, 2**40, [2**20, 2**20], [16, 2**30]])))
    (folder / "config.json").write_text(json.dumps(config))
    loaded(folder)
