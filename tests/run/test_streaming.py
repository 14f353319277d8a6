"""Training on a set of which only part is on disk: the same loop, and an exact resume."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import frugan
from frugan.data.tools import shard
from frugan.run.train import Run

from .conftest import TINY
from .test_resume import assert_same

LIMIT: dict[str, Any] = {
    "cache_limit": 6.5 * 4 * 16 * 16 * 3 / 1e9,
    "mirror": True,
}  # 6 of 10 shards, of which 2 or 3 are held out


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FRUGAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("indexed", [True, False])
def test_a_streamed_run_resumes_exactly(indexed: bool, tmp_path: Path, image_folder: Path, cache: Path) -> None:
    """Stopped between two steps, all decoded shards deleted; two shards lost: on the way, or noticed without an index."""
    made = shard(image_folder, tmp_path / "set", per_shard=4)
    for k in (3, 4):
        (made.path / f"set-{k:06d}.tar").unlink()
    if not indexed:
        (made.path / "index.json").unlink()
    path = str(made.path / "set-{000000..000009}.tar")
    list(frugan.train(path, tmp_path / "whole", device="cpu", **TINY, **LIMIT))
    calls = iter(range(10**6))
    stopped = frugan.train(path, tmp_path / "run", device="cpu", stop=lambda: next(calls) == 6, **TINY, **LIMIT)
    list(stopped)
    run = Run(tmp_path / "run")
    assert run.latest().images == 7 * 8  # type: ignore[union-attr]
    assert run.config.data.cache_limit == LIMIT["cache_limit"]
    lost = ["set-000003.tar", "set-000004.tar"]
    assert [Path(url).name for url in run.config.data.without] == ([] if indexed else lost)
    shutil.rmtree(cache)
    list(run.train(device="cpu"))
    assert_same(tmp_path / "run", tmp_path / "whole")
    for name in ("run", "whole"):
        skipped = Run(tmp_path / name).read("run.json")["skipped_files"]  # type: ignore[index]
        assert sorted(Path(url).name for url, _ in skipped) == lost
    folders = [f for f in (cache / "data/streams").iterdir() if f.is_dir() and len(f.name) == 32]
    assert 0 < len(folders) <= 6
