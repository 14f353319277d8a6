"""Networks read in any order are those, and the refusals are those, that reading each alone gives."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import GOLDEN
from frugan.interop import pickles, read_release
from frugan.networks import Generator, save_generator

from .hostile import CASES, PICKLES, outcome
from .test_hostile import NAMES, SMALL, attack_on, community

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.fuzz.hostile"])


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, tuple[str, str]]:
    """What files of all kinds, honest and not, give, each read in a process that reads nothing else."""
    folder = tmp_path_factory.mktemp("order")
    torch.manual_seed(0)
    community(folder / "honest.pt")
    (folder / "hub").mkdir()
    save_generator(folder / "hub", Generator(SMALL))
    (folder / "again.pkl").write_bytes(PICKLES["one block, made 45,000 times"])
    files = [GOLDEN / "nvidia_pytorch.pkl", folder / "honest.pt", folder / "hub", folder / "again.pkl"]
    files += [CASES / "build-on-storage-type.pkl", CASES / "laughs-dict.pkl", CASES / "16384-pixels.pt"]
    for i, name in enumerate(NAMES):
        (folder / f"{i}.pkl").write_bytes(attack_on(name))
        files.append(folder / f"{i}.pkl")
    with _processes.Pool(1, maxtasksperchild=1) as pool:
        found = dict(zip(files, pool.map(outcome, files, chunksize=1)))
    assert [kind for kind, _ in found.values()].count("read") == 3
    return found


@settings(max_examples=5)
@given(data=st.data())
def test_reading_in_any_order_gives_what_reading_alone_gives(
    alone: dict[Path, tuple[str, str]], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(list(alone)))
    assert [outcome(file) for file in order] == [alone[file] for file in order]


@pytest.mark.parametrize("name", ["nvidia_pytorch.pkl", "nvidia_tensorflow.pkl"])
def test_what_a_file_gets_is_its_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a file might make of its stand-ins, were there an opcode for it, the next file gets others."""
    alone = read_release(GOLDEN / name).generator.state_dict()
    for stand_in in pickles._File(1 << 20).names.values():
        if isinstance(stand_in, type):
            for method in ("__init__", "__setstate__"):
                monkeypatch.setattr(
                    stand_in, method, lambda *_: pytest.fail("a stand-in of another file"), raising=False
                )
        else:
            for slot in type(stand_in).__slots__:
                setattr(stand_in, slot, "spoilt")
    found = read_release(GOLDEN / name).generator.state_dict()
    assert found.keys() == alone.keys()
    assert all(torch.equal(found[key], alone[key]) for key in alone)
