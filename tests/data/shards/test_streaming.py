"""Shards streamed within a limit of the cache: order, prefetching, exact resumes, lost shards."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data.shards.served import PER_SHARD, Server, check, foreign, pil_image
from frugan.data import DataConfig, Dataset, open_dataset
from frugan.data.shards.sampler import ShardSampler
from frugan.data.streaming import StreamedPixels
from frugan.data.tools import shard
from frugan.errors import FruganError


@pytest.fixture
def streamed(tmp_path: Path, server: Server) -> Callable[..., Dataset]:
    """A set of 12 shards, 960 bytes each when decoded, of which `slots` may be on disk."""
    foreign(tmp_path / "served", 12)

    def make(slots: float = 6, **settings: object) -> Dataset:
        limit = slots * PER_SHARD * 8 * 8 * 3 / 1e9
        return open_dataset(DataConfig(f"{server.url}/set-{{000..011}}.tar", cache_limit=limit, **settings))  # type: ignore[arg-type]

    return make


def on_disk(cache: Path) -> int:
    return sum(1 for entry in (cache / "streams").iterdir() if entry.is_dir() and entry.name[0] != ".")


def test_streaming_gives_all_images_within_the_limit(streamed, cache: Path, server: Server) -> None:
    data = streamed(labels="auto", mirror=True)
    assert isinstance(data.store, StreamedPixels)
    assert data.store.window == 2
    assert sum(count for name, count in server.gets.items() if name.endswith(".tar")) == 12  # the first pass
    sampler = data.sampler(3)
    seen: Counter[int] = Counter()
    for _ in range(40):  # two epochs of 120
        indices = sampler.next(6)
        images, labels = data.images(indices)
        for index, image, label in zip(indices, images, labels):
            expected = torch.from_numpy(pil_image(index % 60)).permute(2, 0, 1) / 127.5 - 1
            torch.testing.assert_close(image, expected.flip(2) if index >= 60 else expected, atol=1e-6, rtol=0)
            assert label.argmax() == index % 60 % 3
        seen.update(indices.tolist())
        assert on_disk(cache) <= 6
    assert seen == dict.fromkeys(range(120), 2)
    assert data.skipped == []


def test_the_next_window_is_fetched_ahead(streamed, server: Server) -> None:
    data = streamed()
    sampler = data.sampler(0)
    sampler.next(1)
    soon = data.sampler(0)._order[:20]  # two windows of two shards
    wanted = set(data.pixels.shard_of(soon).tolist())
    assert len(wanted) == 4
    deadline = time.monotonic() + 120
    while not all(data.pixels._open[k].done() for k in wanted):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    before = sum(server.gets.values())
    data.images(soon)
    assert sum(server.gets.values()) == before


@pytest.mark.parametrize("before", [0, 1, 9, 10, 55, 60, 137])
def test_a_stream_resumes_exactly(before: int, streamed) -> None:
    data = streamed()
    sampler = data.sampler(7)
    sampler.next(before)
    state = json.loads(json.dumps(sampler.state_dict()))
    expected = sampler.next(100)
    again = streamed()
    assert again.fingerprint == data.fingerprint
    resumed = again.sampler(0)
    resumed.load_state_dict(state)
    np.testing.assert_array_equal(resumed.next(100), expected)
    with pytest.raises(FruganError, match="same --cache-limit"):
        streamed(9).sampler(7).load_state_dict(state)


def test_what_is_held_out_stays(streamed, cache: Path, server: Server) -> None:
    data = streamed(6, held_out=7)
    held_out = data.held_out_indices
    assert len(held_out) == 7
    assert len(np.unique(data.pixels.shard_of(held_out))) == 2
    assert not set(held_out) & set(data.train_indices)
    sampler = data.sampler(0)
    data.images(sampler.next(5))
    data.images(held_out)
    fetched = server.gets.copy()
    mine = {Path(data.pixels.url(int(k))).name for k in data.pixels.shard_of(held_out)}
    for _ in range(30):
        data.images(sampler.next(5))
        data.images(held_out)
    assert all(server.gets[name] == fetched[name] for name in mine)
    assert on_disk(cache) <= 6


def test_a_shard_lost_on_the_way_is_named_and_replaced(streamed, server: Server, tmp_path: Path) -> None:
    data = streamed(5, held_out=2)
    pinned = data.pixels.shard_of(data.held_out_indices)
    folders = [data.pixels._store.folder(shard) for shard in data.pixels._shards]
    gone = next(k for k in range(12) if k not in pinned and not folders[k].exists())
    server.faults[f"set-{gone:03d}.tar"] = ["404"] * 99
    sampler = data.sampler(0)
    for _ in range(12):
        indices = sampler.next(5)
        images, _ = data.images(indices)
        for index, image in zip(indices, images):
            if data.pixels.shard_of(index) != gone:
                np.testing.assert_allclose(image.permute(1, 2, 0), pil_image(index) / 127.5 - 1, atol=1e-6)
            else:
                shown = [
                    i for i in range(60) if np.allclose(image.permute(1, 2, 0), pil_image(i) / 127.5 - 1, atol=1e-6)
                ]
                assert len(shown) == 1
                assert shown[0] in data.train_indices
                assert data.pixels.shard_of(np.array(shown))[0] != gone
    assert data.skipped == [(f"{server.url}/set-{gone:03d}.tar", "not found")]


def test_losing_everything_ends_in_a_sentence(tmp_path: Path, make_images, server: Server) -> None:
    make_images(tmp_path / "own", [f"{i}.png" for i in range(60)])
    shard(tmp_path / "own", tmp_path / "served/set", per_shard=5)
    server.faults = {f"set-{k:06d}.tar": ["404"] * 99 for k in range(12)}
    config = DataConfig(f"{server.url}/set", cache_limit=6 * 960 / 1e9)
    with pytest.raises(FruganError, match=r"continue with: .*frugan resume RUN"):
        open_dataset(config).images(np.arange(3))
    with pytest.raises(FruganError, match="cannot be had: not found; fix it"):
        open_dataset(replace(config, strict=True)).images(np.arange(3))


def test_an_index_spares_the_first_pass(tmp_path: Path, make_images, server: Server) -> None:
    make_images(tmp_path / "own", [f"{i % 3}/{i}.png" for i in range(60)])
    shard(tmp_path / "own", tmp_path / "served/set", per_shard=5, labels="folders")
    data = open_dataset(DataConfig(f"{server.url}/set", cache_limit=5 * 960 / 1e9, labels="auto"))
    assert not any(name.endswith(".tar") for name in server.gets)
    assert (len(data), data.label_size) == (60, 3)
    data.images(data.sampler(0).next(3))
    assert 0 < sum(count for name, count in server.gets.items() if name.endswith(".tar")) <= 4


def test_a_set_that_fits_is_not_streamed(streamed) -> None:
    data = streamed(12)
    assert type(data) is Dataset
    check(data, list(range(60)))


def test_order_within_windows_is_shuffled_and_complete() -> None:
    indices, shards_ = np.arange(100, 160), np.repeat(np.arange(12), 5)
    heard: list[tuple[list[int], list[int]]] = []
    sampler = ShardSampler(
        indices, shards_, window=5, seed=1, entering=lambda now, soon: heard.append((list(now), list(soon)))
    )
    epochs = [sampler.next(60) for _ in range(3)]
    assert all(sorted(epoch) == list(indices) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    for epoch in epochs:
        windows = [set((epoch[a:b] - 100) // 5) for a, b in ((0, 25), (25, 50), (50, 60))]
        assert [len(window) for window in windows] == [5, 5, 2]
        assert set.union(*windows) == set(range(12))
        assert (np.diff((epoch[:25] - 100) // 5) != 0).sum() > 10  # not shard after shard
    one = ShardSampler(indices, shards_, window=5, seed=1)
    np.testing.assert_array_equal(np.concatenate([one.next(7) for _ in range(20)]), np.concatenate(epochs)[:140])
    assert len(heard) == 3  # whole epochs at a time: announced at the beginning of each
    heard.clear()
    for _ in range(24):
        sampler.next(5)
    assert len(heard) == 6
    assert all(heard[i][1] == heard[i + 1][0] for i in range(5))
