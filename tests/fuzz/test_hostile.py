"""Files made to harm are refused at once, in memory in proportion to their size, and change nothing for the next one."""

from __future__ import annotations

import itertools
import json
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from conftest import GOLDEN
from frugan import files, tracking
from frugan.config.schema import load_config
from frugan.data.shards.index import read_index
from frugan.errors import FruganError
from frugan.interop import read_network, read_release, write_community
from frugan.networks import (
    Discriminator,
    DiscriminatorConfig,
    Generator,
    GeneratorConfig,
    MappingConfig,
    SynthesisConfig,
    load_generator,
    save_generator,
)
from frugan.tracking import monitors as health

from .damage import OF_PYTHON
from .hostile import CASES, INPUTS, _pickle
from .test_text import anything


@pytest.mark.parametrize("name", INPUTS)
def test_refused_at_once(name: str, tmp_path: Path) -> None:
    file = INPUTS[name](tmp_path)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(FruganError) as error:
        read_network(file)
    assert time.process_time() - started < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000  # kB
    assert "\x1b" not in str(error.value)
    assert len(str(error.value)) < 1000
    assert not OF_PYTHON.search(str(error.value))
    if name.startswith("tuple 200,000 deep"):
        assert "levels of nesting" in str(error.value)


def attack_on(name: bytes) -> bytes:
    """A pickle that sets a new state, and new attributes, of what it gets under a name."""
    state = b"(N}X\x04\x00\x00\x00nameX\x0b\x00\x00\x00LongStorageX\x09\x00\x00\x00_functionK\x01ut"
    return b"\x80\x02c" + name + b"\n" + state + b"b."


NAMES = [b"torch\nFloatStorage", b"collections\nOrderedDict", b"torch._utils\n_rebuild_tensor_v2", b"numpy\ndtype"]
NAMES += [b"torch.storage\n_load_from_bytes", b"dnnlib\nEasyDict", b"dnnlib.tflib.network\nNetwork", b"_codecs\nencode"]


def test_no_file_changes_what_the_next_is_read_with(tmp_path: Path) -> None:
    """In any order: what reading alone gives."""
    attacks = [CASES / "build-on-storage-type.pkl"]
    for i, name in enumerate(NAMES):
        (tmp_path / str(i)).mkdir()
        attacks.append(_pickle(attack_on(name))(tmp_path / str(i)))
    honest = GOLDEN / "nvidia_pytorch.pkl"
    alone = read_release(honest).generator.state_dict()
    for order in itertools.islice(itertools.permutations(attacks), 0, None, 40_000):
        for attack in order:
            with pytest.raises(FruganError):
                read_release(attack)
        found = read_release(honest).generator.state_dict()
        assert all(torch.equal(found[k], alone[k]) for k in alone)


SMALL = GeneratorConfig((8, 8), z_dim=4, w_dim=4, mapping=MappingConfig(2), synthesis=SynthesisConfig(32, 4))


def community(file: Path) -> dict[str, Any]:
    """What an honest `.pt` file of small networks holds; it is written there."""
    D = Discriminator(DiscriminatorConfig((8, 8), channel_base=32, channel_max=4))
    return torch.load(write_community(file, Generator(SMALL), D), weights_only=True)


CHANGES: list[tuple[tuple[str, ...], Any]] = [
    (("mapping", "lr_multiplier"), float("nan")),
    (("mapping", "lr_multiplier"), 0),
    (("mapping", "num_layers"), 2.5),
    (("mapping", "num_layers"), True),
    (("mapping", "num_layers"), -1),
    (("synthesis", "resample_filter"), [0, 0]),
    (("synthesis", "resample_filter"), [1, -1]),
    (("synthesis", "resample_filter"), []),
    (("synthesis", "resample_filter"), [1] * 3001),
    (("synthesis", "resample_filter"), [1, float("nan")]),
    (("synthesis", "channel_max"), 10**9),
    (("synthesis", "channel_base"), -1),
    (("synthesis", "clamp"), float("nan")),
    (("synthesis", "use_noise"), 1),
    (("resolution",), [2**20, 2**20]),
    (("resolution",), [8, 8, 8]),
    (("resolution",), [-8, 8]),
    (("channels",), 10**9),
    (("z_dim",), 0),
    (("w_dim",), 10**400),
    (("label_size",), 10**9),
]


@pytest.mark.parametrize("place, value", CHANGES, ids=range(len(CHANGES)))
def test_numbers_that_no_network_has(place: tuple[str, ...], value: Any, tmp_path: Path) -> None:
    """In config.json of a directory; config.yaml and foreign files build the same dataclasses."""
    save_generator(tmp_path, Generator(SMALL))
    config = json.loads((tmp_path / "config.json").read_text())
    part = config["generator"]
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(FruganError, match="holds no generator"):
        load_generator(tmp_path)


def test_numbers_that_no_discriminator_has() -> None:
    for wrong in ([0, 0], [1, -1], [], [1] * 3001, [1, float("nan")], [float("inf")], [1e30]):
        with pytest.raises(FruganError, match=r"resampling filter|resample_filter"):
            DiscriminatorConfig((8, 8), resample_filter=tuple(wrong))


@given(level=st.integers(12, 10**9) | st.integers(12, 20), part=st.sampled_from(["g_ema", "g", "d"]))
def test_levels_above_the_limit_are_refused_at_once(level: int, part: str, tmp_path_factory: Any) -> None:
    """With weights that are all there, in their own storage."""
    file = tmp_path_factory.mktemp("levels") / "x.pt"
    content = community(file)
    names = "convs.{}.0.weight" if part == "d" else "to_rgbs.{}.bias"
    content[part][names.format(level)] = torch.zeros(1, 3, 1, 1)
    torch.save(content, file)
    with pytest.raises(FruganError, match="above 8192 pixels"):
        read_network(file)


def test_a_member_that_is_said_to_be_packed_into_more_than_there_is(tmp_path: Path) -> None:
    """`zipfile` would set aside as much as the directory says."""
    community(tmp_path / "x.pt")
    content = bytearray((tmp_path / "x.pt").read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 20 : entry + 24] = b"\xff\xff\xff\x7f"  # its compressed size
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(FruganError, match="compressed numbers"):
        read_network(tmp_path / "x.pt")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names")
@pytest.mark.parametrize("suffix", [".pkl", ".pt"])
def test_a_pipe_is_not_waited_for(suffix: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"x{suffix}")
    with pytest.raises(FruganError, match="is no regular file"):
        read_network(tmp_path / f"x{suffix}")


def test_a_file_that_memory_does_not_hold(tmp_path: Path) -> None:
    (tmp_path / "x.pkl").touch()
    os.truncate(tmp_path / "x.pkl", (4 << 30) - 1)  # takes no room on the disk
    with limited_to(2 << 30), pytest.raises(FruganError, match="takes more memory to read than there is"):
        read_network(tmp_path / "x.pkl")


@contextmanager
def limited_to(size: int) -> Iterator[None]:
    """The address space is at most `size` bytes larger than it is now."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_expanded_tensors_are_read_as_pytorch_reads_them(tmp_path: Path) -> None:
    """A tensor that repeats what its storage holds once (stride 0) is written out, within the budget."""
    state = community(tmp_path / "x.pt")["g_ema"]
    name = "to_rgb1.bias"
    repeated = torch.zeros(1).expand(state[name].shape)
    torch.save({"g_ema": {**state, name: repeated}}, tmp_path / "x.pt")
    G = read_network(tmp_path / "x.pt").generator
    assert torch.equal(G.state_dict()["synthesis.b4.torgb.bias"], torch.zeros(3))
    torch.save({"g_ema": {**state, name: torch.zeros(1).expand(1 << 40)}}, tmp_path / "x.pt")
    with pytest.raises(FruganError, match="memory beyond 8 times"):
        read_network(tmp_path / "x.pt")


@pytest.mark.parametrize("dtype", ["I32", "U32"])
def test_weights_of_another_type_are_refused(dtype: str, tmp_path: Path) -> None:
    save_generator(tmp_path, Generator(SMALL))
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes().replace(b'"F32"', f'"{dtype}"'.encode()))
    with pytest.raises(FruganError, match="expected floating-point numbers"):
        load_generator(tmp_path)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    G = Generator(SMALL)
    torch.nn.init.constant_(G.mapping.get_submodule("fc0").bias, torch.nan)  # pyright: ignore[reportArgumentType]
    save_generator(tmp_path, G)
    with pytest.raises(FruganError, match="not finite"):
        load_generator(tmp_path)


@pytest.mark.parametrize("taps", range(1, 25))
def test_every_legal_filter_computes(taps: int) -> None:
    filter_ = tuple(float(i + 1) for i in range(taps))
    G = Generator(GeneratorConfig((6, 12), z_dim=4, w_dim=4, synthesis=SynthesisConfig(32, 4, resample_filter=filter_)))
    assert G.sample(seeds=[0]).isfinite().all()


@pytest.mark.parametrize("name", ["yaml-merge", "yaml-resolution"])
def test_configurations_of_runs(name: str) -> None:
    with pytest.raises(FruganError, match="aliases" if name == "yaml-merge" else "8,192|8192"):
        load_config(CASES / name / "config.yaml")


def test_an_index_of_other_types() -> None:
    with pytest.raises(FruganError, match=r"index\.json is damaged"):
        read_index(str(CASES / "index-kinds"))


@given(records=st.lists(st.dictionaries(st.sampled_from(["kimg", "p", "r_t", "non_finite", "seconds_total",
    "seconds_per_kimg", "logits/real", "logits/generated", "metric/fid", "warnings", "memory_bytes"]), anything), max_size=4),
    run=anything, fields=st.dictionaries(st.sampled_from(["name", "status", "kimg", "total_kimg", "warnings",
    "skipped_files", "resolution", "channels", "device", "held_out"]), anything))  # fmt: skip
def test_no_report_of_any_content_stops_a_page_or_a_monitor(
    tmp_path_factory: Any, records: Any, run: Any, fields: Any
) -> None:
    folder = tmp_path_factory.mktemp("run")
    lines = [json.dumps(r) for r in records] + [(CASES / "stats-text-kimg.jsonl").read_text().strip()]
    (folder / "stats.jsonl").write_text("\n".join([*lines, (CASES / "stats-deep.jsonl").read_text().strip()]))
    for content in (run, fields):
        (folder / "run.json").write_text(json.dumps(content))
        (folder / "environment.json").write_text(json.dumps(content))
        assert tracking.Page(folder).write().is_file()
    found = tracking.read_stats(folder / "stats.jsonl")
    health.check([health.digest(r) for r in found], health.Setting(0.5, "fid"))
    tracking.JsonLines(folder / "stats.jsonl").truncate(after_kimg=3)


def test_nothing_is_written_where_a_run_was(tmp_path: Path) -> None:
    gone = tmp_path / "run"
    with pytest.raises(FileNotFoundError):
        files.write_json(gone / "run.json", {})
    with pytest.raises(FileNotFoundError):
        tracking.Page(gone).write()
    assert not gone.exists()
