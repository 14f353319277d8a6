"""Masks in shards: a set of shards is the very data set of its files, whatever is declared of their channels."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data.shards.served import Server, png, tar
from frugan.channels import MaskChannel
from frugan.data import DataConfig, Dataset, open_dataset
from frugan.data.open import declared_masks, has_channels_of
from frugan.data.shards import index as index_module
from frugan.data.tools import shard
from frugan.errors import FruganError
from tests.fuzz.damage import SMALL_RUN, program


def planes(count: int, values: list[int], masks: int, size: tuple[int, int], seed: int) -> np.ndarray:
    """`[N, H, W, masks]` of these values, few of them in each image, but all of them in the set."""
    rng = np.random.default_rng(seed)
    pairs = [[values[i % len(values)], values[(i + 1) % len(values)]] for i in range(count)]
    return np.stack([rng.choice(pair, (*size, masks)) for pair in pairs])


def write(folder: Path, images: np.ndarray, kind: str) -> str:
    """As files or as an array; the path of the set."""
    folder.mkdir()
    if kind == "npy":
        np.save(folder / "set.npy", images)
        return str(folder / "set.npy")
    for i, image in enumerate(images):
        if kind == "png":
            (folder / f"{i:02d}.png").write_bytes(png(image[..., 0] if image.shape[-1] == 1 else image))
        else:
            planar: Any = {"planarconfig": "contig"} if image.shape[-1] > 1 else {}
            tifffile.imwrite(folder / f"{i:02d}.tif", image, photometric="minisblack", **planar)
    return str(folder)


def same(shards: Dataset, files: Dataset, seed: int = 0) -> None:
    """Bit for bit, and in all that a run keeps of its data."""
    order = np.random.default_rng(seed).permutation(len(files))
    np.testing.assert_array_equal(shards.pixels[:], np.asarray(files.pixels)[order])
    assert shards.pixels.dtype == files.pixels.dtype
    assert (shards.masks, shards.pixel_format, shards.image_channels) == (
        files.masks,
        files.pixel_format,
        files.image_channels,
    )
    told = [{**data.describe(), "path": 0, "fingerprint": 0, "label_origin": 0} for data in (shards, files)]
    assert told[0] == told[1]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_shards_are_the_set_that_they_were_made_of(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    draw = data.draw
    images, masks = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    dtype: Any = draw(st.sampled_from([np.uint8, np.uint16]))
    top = int(np.iinfo(dtype).max)
    values = draw(st.lists(st.integers(0, top), min_size=2, max_size=7, unique=True).map(sorted))
    png_may = images + masks <= 4 and (images + masks, dtype) in [(2, np.uint8), (3, np.uint8), (4, np.uint8)]
    kind: Any = draw(st.sampled_from(["tif", "npy", *(["png"] if png_may else [])]))
    root = tmp_path_factory.mktemp("set")
    count, size = draw(st.integers(len(values), 9)), (12, 16)
    pixels = np.random.default_rng(1).integers(0, top + 1, (count, *size, images))
    every = np.concatenate([pixels, planes(count, values, masks, size, 2)], -1).astype(dtype)
    path = write(root / "set", every, kind)
    roles = f"0-{images - 1}=image,{images}-{images + masks - 1}=mask"
    if images == 3:
        roles = draw(st.sampled_from([roles, f"RGB=image,3-{2 + masks}=mask"]))
    told = draw(st.booleans())
    if told:
        content: dict[str, Any] = {"channels": roles}
        if draw(st.booleans()):
            content["channel_names"] = [f"c{i}" for i in range(images)]
        (root / "set" / "data.json").write_text(json.dumps(content))
    asked = "auto" if told else roles
    shard(path, root / "shards", per_shard=draw(st.integers(1, 9)), channels=asked)
    if draw(st.booleans()):
        (root / "shards" / "index.json").unlink()
    config = DataConfig(
        path,
        channels=draw(st.sampled_from([asked, "files", "auto"])) if told else roles,
        resolution=draw(st.sampled_from([None, (8, 8)])) if dtype == np.uint8 else None,
        fit=draw(st.sampled_from(["crop", "letterbox"])),
        mask_filter=draw(st.sampled_from(["nearest", "smooth"])),
    )
    cache = root / "cache"
    files = open_dataset(config, cache_dir=cache)
    for _ in range(2):  # decoded, and from the cache
        same(open_dataset(replace(config, path=str(root / "shards")), cache_dir=cache), files)
    assert declared_masks(DataConfig(str(root / "shards"))) == masks
    assert has_channels_of(roles, str(root / "shards"))
    one_more = f"0-{images + masks - 1}=image,{images + masks}=mask"
    assert not has_channels_of(one_more, str(root / "shards"))


def pairs(folder: Path, count: int = 9, values: tuple[int, ...] = (0, 3, 200)) -> Path:
    """RGBA files whose fourth channel is a mask."""
    folder.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3))
    every = np.concatenate([images, planes(count, list(values), 1, (16, 16), 1)], -1).astype(np.uint8)
    for i, image in enumerate(every):
        Image.fromarray(image).save(folder / f"{i}.png")
    return folder


ROLES = "RGB=image,3=mask"


@pytest.mark.parametrize("served", [False, True])
@pytest.mark.parametrize("index", [False, True])
def test_each_shard_may_lack_values_of_the_others(index: bool, served: bool, tmp_path: Path, server: Server) -> None:
    """Shards of one image each, some of whose masks hold a single value."""
    folder = pairs(tmp_path / "set", values=(0, 255))
    for i in range(0, 9, 2):
        pixels = np.asarray(Image.open(folder / f"{i}.png")).copy()
        pixels[..., 3] = 255 * (i % 4 == 0)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    shard(folder, tmp_path / "served/set", per_shard=1, channels=ROLES)
    names = sorted(place.name for place in (tmp_path / "served/set").glob("*.tar"))
    if not index:
        (tmp_path / "served/set/index.json").unlink()
        (tmp_path / "served/set/list.txt").write_text("\n".join(names))
    path = f"{server.url}/set" if served else str(tmp_path / "served/set")
    files = open_dataset(DataConfig(str(folder), channels=ROLES))
    same(open_dataset(DataConfig(path if index or not served else f"{path}/list.txt")), files)
    if index and served:  # whose values are known: each shard is fetched once
        assert [server.gets[name] for name in names] == [1] * 9


def test_streamed_masks(tmp_path: Path) -> None:
    folder = pairs(tmp_path / "set", count=40)
    shard(folder, tmp_path / "shards", per_shard=4, channels=ROLES)
    (tmp_path / "shards/index.json").unlink()
    files = open_dataset(DataConfig(str(folder), channels=ROLES))
    data = open_dataset(DataConfig(str(tmp_path / "shards"), cache_limit=24 * 16 * 16 * 4 / 1e9))
    assert not data.store.at_hand
    same(data, files)
    images, _ = data.images(np.arange(40))
    assert np.unique(images[:, 3].numpy()).tolist() == pytest.approx([-1, 128 / 127.5 - 1, 1], abs=1e-6)


def test_shards_of_other_programs(tmp_path: Path) -> None:
    """Without an index or a data.json: with --channels."""
    folder = pairs(tmp_path / "set", count=6)
    (tmp_path / "shards").mkdir()
    for k in range(3):
        tar(tmp_path / f"shards/{k}.tar", {f"{i}.png": (folder / f"{i}.png").read_bytes() for i in (2 * k, 2 * k + 1)})
    files = open_dataset(DataConfig(str(folder), channels=ROLES))
    data = open_dataset(DataConfig(str(tmp_path / "shards"), channels=ROLES))
    np.testing.assert_array_equal(data.pixels[:], files.pixels)
    assert data.masks == files.masks == (MaskChannel((0, 3, 200)),)
    plain = open_dataset(DataConfig(str(tmp_path / "shards"), channels="RGBA"))
    assert (plain.masks, plain.alpha) == ((), True)
    assert plain.fingerprint != data.fingerprint


def test_other_channels_may_be_asked_for(tmp_path: Path) -> None:
    folder = pairs(tmp_path / "set")
    (folder / "data.json").write_text(json.dumps({"channels": ROLES}))
    shard(folder, tmp_path / "shards", per_shard=4)
    for channels in ("RGB", "files", "0-1=image,2-3=mask"):
        if "mask" in channels:  # of a photo, which is no mask: the same sentence
            for path in (folder, tmp_path / "shards"):
                with pytest.raises(FruganError, match="more than 32 different values"):
                    open_dataset(DataConfig(str(path), channels=channels))
        else:
            files, data = (open_dataset(DataConfig(str(p), channels=channels)) for p in (folder, tmp_path / "shards"))
            same(data, files)


def write_apart(root: Path, images: np.ndarray, masks: np.ndarray, kind: str) -> tuple[str, str]:
    """Images and masks in sets of their own."""
    return write(root / "images", images, kind), write(root / "masks", masks, "npy" if kind == "npy" else "tif")


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_masks_in_files_of_their_own_are_carried_along(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """The very data set that --masks makes of the files, for any channels, depth and kind of file, wide or tall."""
    draw = data.draw
    kind: Any = draw(st.sampled_from(["png", "tif", "npy"]))
    count = draw(st.sampled_from([1, 3] if kind == "png" else [1, 2, 3, 4, 5, 9]))
    dtype: Any = draw(st.sampled_from([np.uint8, *([np.uint16] if kind != "png" else [])]))
    own: Any = draw(st.sampled_from([np.uint8, *([np.uint16] if dtype == np.uint16 else [])]))
    values = draw(st.lists(st.integers(0, int(np.iinfo(own).max)), min_size=2, max_size=7, unique=True).map(sorted))
    root, size = tmp_path_factory.mktemp("set"), draw(st.sampled_from([(12, 16), (16, 12)]))
    number = draw(st.integers(len(values), 9))
    images = np.random.default_rng(1).integers(0, int(np.iinfo(dtype).max) + 1, (number, *size, count)).astype(dtype)
    where, masks = write_apart(root, images, planes(number, values, 1, size, 2).astype(own), kind)
    done = shard(where, root / "shards", per_shard=draw(st.integers(1, 9)), masks=masks)
    assert (done.count, done.skipped) == (number, [])
    if draw(st.booleans()):
        (root / "shards" / "index.json").unlink()
    settings: dict[str, Any] = {"resolution": draw(st.sampled_from([None, (8, 8)])) if dtype == np.uint8 else None}
    settings |= {"mask_filter": draw(st.sampled_from(["nearest", "smooth"]))}
    files = open_dataset(DataConfig(where, masks=masks, **settings), cache_dir=root / "cache")
    found = open_dataset(DataConfig(str(root / "shards"), **settings), cache_dir=root / "cache")
    order = np.random.default_rng(0).permutation(number)
    np.testing.assert_array_equal(found.pixels[:], np.asarray(files.pixels)[order])
    assert (found.image_channels, found.alpha, found.value_range) == (count, False, files.value_range)
    assert files.image_channels == count
    assert found.masks == (MaskChannel(tuple(values), 16 if dtype == np.uint16 else 8),)


def photos(root: Path) -> tuple[Path, Path]:
    """JPEG, grey, RGBA and sideways photos of two classes in folders, and PNG masks of the same names."""
    rng = np.random.default_rng(0)
    for i in range(8):
        name, size = f"{'ab'[i % 2]}/{i}", (16, 24)
        shape = (*size, *((), (3,), (4,), (3,))[i % 4 :][0])
        image, suffix = (
            Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)),
            ("png", "jpg", "png", "jpg")[i % 4],
        )
        exif = Image.Exif()
        exif[274] = 6  # lies on its side
        mask = Image.fromarray((rng.random(size) < 0.5).astype(np.uint8) * 7)
        for folder, stored, ending in (("photos", image, suffix), ("masks", mask, "png")):
            (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
            turned = stored.transpose(Image.Transpose.ROTATE_90) if i == 7 else stored
            options: dict[str, Any] = {"exif": exif} if i == 7 else {}
            turned.save(root / folder / f"{name}.{ending}", **options)
    return root / "photos", root / "masks"


def test_photos_with_masks(tmp_path: Path) -> None:
    """Labels come along; grey ones are RGB beside others; opacity is laid over white; one without a mask is left out and named."""
    images, masks = photos(tmp_path)
    (masks / "a/0.png").unlink()
    done = shard(images, tmp_path / "shards", per_shard=3, masks=masks)
    assert [name for name, _ in done.skipped] == ["a/0.png"]
    files = open_dataset(DataConfig(str(images), channels="RGB", labels="folders", masks=str(masks)))
    found = open_dataset(DataConfig(str(tmp_path / "shards"), labels="auto"))
    order = np.random.default_rng(0).permutation(7)
    np.testing.assert_array_equal(found.pixels[:], np.asarray(files.pixels)[order])
    np.testing.assert_array_equal(found.labels, files.labels[order])
    assert (found.masks, found.resolution, found.image_channels) == (files.masks, (16, 24), 3)


def test_changed_masks_are_noticed(tmp_path: Path) -> None:
    images, masks = photos(tmp_path)
    shard(images, tmp_path / "one/set", masks=masks)
    mask = masks / "b/1.png"
    Image.fromarray(7 - np.asarray(Image.open(mask))).save(mask)
    shard(images, tmp_path / "two/set", masks=masks)
    found = [open_dataset(DataConfig(str(tmp_path / place / "set"))) for place in ("one", "two")]
    assert found[0].names == found[1].names
    assert found[0].masks == found[1].masks
    assert found[0].fingerprint != found[1].fingerprint


UNFIT: dict[str, tuple[Any, Any, dict[str, Any], str]] = {
    "colours": (np.uint8, lambda m: np.stack([m, 0 * m, m], -1), {}, "its mask has colours"),
    "16 bits beside 8": (
        np.uint8,
        lambda m: m.astype(np.uint16) * 300,
        {},
        "its mask holds 300, which images of 8 bits",
    ),
    "many values": (np.uint8, lambda m: np.arange(m.size, dtype=np.uint8).reshape(m.shape), {}, "32 different values"),
    "one value": (np.uint8, lambda m: 0 * m + 5, {}, "one value only, 5"),
    "floats": (np.float32, lambda m: m, {}, "float32 numbers; shards hold images of 8 or 16 bits"),
    "roles": (np.uint8, lambda m: m, {"channels": "0-1=image,2=mask"}, "go with images of grey values or RGB"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_masks_that_no_channel_can_hold_are_refused(name: str, tmp_path: Path) -> None:
    dtype, made, options, sentence = UNFIT[name]
    mask = np.stack([np.eye(12, 16, k=i, dtype=np.uint8) for i in range(3)])
    images = np.random.default_rng(0).integers(0, 200, (3, 12, 16, 3)).astype(dtype)
    where, masks = write(tmp_path / "images", images, "tif"), tmp_path / "masks"
    masks.mkdir()
    for i, plane in enumerate(mask):
        tifffile.imwrite(masks / f"{i:02d}.tif", made(plane))
    with pytest.raises(FruganError, match=sentence):
        shard(where, tmp_path / "shards", masks=masks, **options)
    assert not list(tmp_path.glob("shards*"))


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "many values": (
        lambda folder: _noisy(folder), "more than 32 different values"),
    "one value": (lambda folder: [_constant(file) for file in folder.glob("*.png")], "all hold one value only, 7"),
    "roles": (lambda folder: None, r"--channels RGB: files are copied as they are"),
}  # fmt: skip


def _noisy(folder: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "3.png")


def _constant(file: Path) -> None:
    pixels = np.asarray(Image.open(file)).copy()
    pixels[..., 3] = 7
    Image.fromarray(pixels).save(file)


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_mask_is_refused_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    spoil, sentence = BAD[name]
    folder = pairs(tmp_path / "set")
    spoil(folder)
    with pytest.raises(FruganError, match=sentence):
        shard(folder, tmp_path / "shards", per_shard=4, channels="RGB" if name == "roles" else ROLES)
    assert not list(tmp_path.glob("shards*"))


def test_files_of_other_channels_are_left_out(tmp_path: Path) -> None:
    folder = pairs(tmp_path / "set")
    Image.new("RGB", (16, 16)).save(folder / "rgb.png")
    done = shard(folder, tmp_path / "shards", channels=ROLES)
    assert done.skipped == [("rgb.png", "has 3 channels, and --channels names 4")]
    assert done.count == 9


@pytest.mark.parametrize("masks", [[], [[[3, 0]], 8], [[[0, 256]], 8], [[["0", 1]], 8], [[[0, 1]], 24], [[[]], 8], 5])
def test_an_index_of_other_values(masks: Any, tmp_path: Path) -> None:
    shard(pairs(tmp_path / "set"), tmp_path / "shards", channels=ROLES)
    file = tmp_path / "shards/index.json"
    content = json.loads(file.read_text())
    assert content["shards"][0]["masks"] == [[[0, 3, 200]], 8]
    content["shards"][0]["masks"] = masks
    file.write_text(json.dumps(content))
    with pytest.raises(FruganError, match=r"index\.json is damaged"):
        index_module.read_index(str(tmp_path / "shards"), 1)


def test_through_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written, trained on and generated as of the folder: the same first images, and masks of the same values."""
    monkeypatch.chdir(tmp_path)
    folder = pairs(tmp_path / "set", count=8)
    code, said = program("data", "shard", "set", "shards", "--per-shard", "3", "--channels", ROLES)
    assert code == 0, said
    shutil.rmtree(folder)
    code, said = program("train", "shards", "run", *SMALL_RUN)
    assert code == 0, said
    told = json.loads(Path("run/data.json").read_text())
    assert told["masks"] == [{"values": [0, 3, 200], "bits": 8}]
    code, said = program("generate", "run", "--pairs", "--seeds", "0-1", "--out", "out")
    assert code == 0, said
    assert set(np.unique(np.asarray(Image.open("out/masks/seed0000.png")))) <= {0, 3, 200}


def test_masks_of_their_own_through_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence that refuses --masks with shards names the way."""
    monkeypatch.chdir(tmp_path)
    photos(tmp_path)
    code, said = program("data", "shard", "photos", "shards", "--per-shard", "3", "--masks", "masks")
    assert code == 0, said
    code, said = program("train", "shards", "run", "--masks", "masks", *SMALL_RUN)
    assert code == 2
    assert "data shard IMAGES OUT --masks masks" in " ".join(said.split())
    code, said = program("train", "shards", "run", *SMALL_RUN)
    assert code == 0, said
    assert json.loads(Path("run/data.json").read_text())["masks"] == [{"values": [0, 7], "bits": 8}]
