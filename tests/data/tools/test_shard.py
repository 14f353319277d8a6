"""Sets written as shards, with their index."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from frugan.data import DataConfig, open_dataset
from frugan.data.shards import index as index_module
from frugan.data.tools import shard
from frugan.errors import FruganError


@pytest.mark.parametrize("kind", ["folder", "zip", "npz", "tar"])
def test_shards_hold_what_the_source_held(kind: str, tmp_path: Path, make_images) -> None:
    made = make_images(tmp_path / "own", [f"{['cat', 'dog'][i % 2]}/{i:02d}.png" for i in range(13)])
    by_name = {f"{['cat', 'dog'][i % 2]}/{i:02d}.png": pixels for i, pixels in enumerate(made)}
    path, labels = tmp_path / "own", "folders"
    if kind == "zip":
        path = Path(shutil.make_archive(str(tmp_path / "own"), "zip", path))
    elif kind == "npz":
        path, labels = tmp_path / "own.npz", "array"
        np.savez(path, images=np.stack(list(by_name.values())), labels=np.arange(13) % 2)
    elif kind == "tar":
        path = Path(shutil.make_archive(str(tmp_path / "own"), "tar", path))
    done = shard(path, tmp_path / "out", per_shard=5, labels=labels)
    assert (done.count, done.shards, done.skipped) == (13, 3, [])
    assert sorted(p.name for p in done.path.iterdir()) == ["index.json", *(f"out-00000{k}.tar" for k in range(3))]
    row = json.loads((done.path / "index.json").read_text())["shards"][0]
    assert row["sha256"] == hashlib.sha256((done.path / row["file"]).read_bytes()).hexdigest()
    with_index = open_dataset(DataConfig(str(done.path), labels="auto"))
    (done.path / "index.json").unlink()
    without = open_dataset(DataConfig(str(done.path), labels="auto"))
    for data in (with_index, without):
        found = Counter((pixels.tobytes(), int(c)) for pixels, c in zip(data.pixels[:], data.labels.argmax(1)))
        assert found == Counter((pixels.tobytes(), i % 2) for i, pixels in enumerate(made))
        assert data.class_names == (None if kind == "npz" else ["cat", "dog"])
    assert with_index.names == without.names
    if kind == "folder":  # byte for byte
        with tarfile.open(done.path / "out-000000.tar") as archive:
            contents = {archive.extractfile(m).read() for m in archive if m.name.endswith(".png")}  # type: ignore[union-attr]
        assert contents <= {(tmp_path / "own" / name).read_bytes() for name in by_name}


def test_writing_skips_what_cannot_be_decoded(tmp_path: Path, make_images) -> None:
    make_images(tmp_path / "own", [f"{i}.png" for i in range(6)])
    whole = (tmp_path / "own/3.png").read_bytes()
    (tmp_path / "own/3.png").write_bytes(whole[: len(whole) // 2])
    done = shard(tmp_path / "own", tmp_path / "out", per_shard=5)
    assert done.count == 5
    assert [name for name, _ in done.skipped] == ["3.png"]
    assert len(open_dataset(DataConfig(str(done.path), strict=True))) == 5
    with pytest.raises(FruganError, match="exists already"):
        shard(tmp_path / "own", tmp_path / "out")
    with pytest.raises(FruganError, match="--per-shard 0: give"):
        shard(tmp_path / "own", tmp_path / "other", per_shard=0)


def test_a_damaged_index_is_told(tmp_path: Path, make_images) -> None:
    make_images(tmp_path / "own", ["a.png", "b.png"])
    out = shard(tmp_path / "own", tmp_path / "out").path
    content = (out / "index.json").read_text()
    for damaged in (content[:-20], content.replace("names", "nemas"), content.replace('"labels": [', '"labels": [1, ')):
        (out / "index.json").write_text(damaged)
        with pytest.raises(FruganError, match=r"index\.json is damaged"):
            open_dataset(DataConfig(str(out)))
    (out / "index.json").write_text('{"of": "another program"}')
    assert index_module.read_index(str(out)) == {}
