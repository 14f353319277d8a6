"""Shards in a bucket, against moto's server of S3."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from data.shards.served import check, foreign, patterns, pil_image, png, tar
from frugan.data import DataConfig, open_dataset
from frugan.data.streaming import StreamedPixels
from frugan.data.tools import shard


@pytest.fixture(scope="module")
def _object_server() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(_object_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[Path], str]]:
    """`bucket(folder)` uploads a folder's files and returns their place, s3://…"""
    import boto3
    from fsspec.config import conf
    from s3fs import S3FileSystem

    for name, value in {"ACCESS_KEY_ID": "id", "SECRET_ACCESS_KEY": "key", "DEFAULT_REGION": "us-east-1"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setitem(conf, "s3", {"endpoint_url": _object_server})  # as FSSPEC_S3_ENDPOINT_URL sets it at import
    S3FileSystem.clear_instance_cache()
    client = boto3.client("s3", endpoint_url=_object_server)
    client.create_bucket(Bucket="images")

    def upload(folder: Path) -> str:
        for file in folder.iterdir():
            client.upload_file(str(file), "images", f"sets/{file.name}")
        return "s3://images/sets"

    yield upload
    for item in client.list_objects_v2(Bucket="images").get("Contents", []):
        client.delete_object(Bucket="images", Key=item["Key"])
    client.close()
    S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize("how", patterns(""))
def test_objects_of_a_bucket(how: str, bucket: Callable[[Path], str], tmp_path: Path) -> None:
    foreign(tmp_path / "set")
    if how == "list":
        (tmp_path / "set/shards.txt").write_text("".join(f"set-{k:03d}.tar\n" for k in range(4)))
    data = open_dataset(DataConfig(patterns(bucket(tmp_path / "set"))[how], labels="auto"))
    check(data, list(range(20)))
    assert data.skipped == []


def test_objects_that_are_missing_damaged_or_changed(bucket: Callable[[Path], str], tmp_path: Path) -> None:
    made = foreign(tmp_path / "set")
    os.truncate(made[1], 3000)
    place = bucket(tmp_path / "set")
    config = DataConfig(f"{place}/set-{{000..004}}.tar")
    data = open_dataset(config)
    check(data, [*range(5), *range(10, 20)])
    assert [(url.rpartition("/")[2], reason[:9]) for url, reason in data.skipped] == [
        ("set-004.tar", "not found"),
        ("set-001.tar", "set-001 c"),
    ]
    tar(made[0], {"0100.png": png(pil_image(100))})
    bucket(tmp_path / "set")
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()
    check(open_dataset(config), [100, *range(10, 20)])


def test_a_bucket_is_streamed_with_its_index(bucket: Callable[[Path], str], tmp_path: Path, make_images) -> None:
    made = make_images(tmp_path / "own", [f"{i:02d}.png" for i in range(60)])
    shard(tmp_path / "own", tmp_path / "set", per_shard=5)
    place = bucket(tmp_path / "set")
    data = open_dataset(DataConfig(place, cache_limit=5 * 960 / 1e9))
    assert isinstance(data.store, StreamedPixels)
    sampler = data.sampler(0)
    seen = torch.cat([data.images(sampler.next(6))[0] for _ in range(10)])
    found = Counter(image.tobytes() for image in seen.permute(0, 2, 3, 1).add(1).mul(127.5).round().byte().numpy())
    assert found == Counter(pixels.tobytes() for pixels in made)
