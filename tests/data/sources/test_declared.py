"""Channel roles and names declared in a data.json beside the data: read as --channels is, in every kind of source."""

import json
import shutil
import zipfile

import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from frugan.channels import MaskChannel, parse_channels
from frugan.data import DataConfig, open_dataset
from frugan.data.sources.declared import find_channels
from frugan.data.sources.folder import Folder
from frugan.data.tools.inspect import inspect
from frugan.data.tools.prepare import prepare
from frugan.errors import FruganError
from tests.fuzz.damage import SMALL_RUN, program

ROLES = {"channels": "RGB=image,3=mask", "channel_names": ["cy5", "dapi", "gfp"]}


def pixels_of(channels, count=3):
    """uint8 `[N, 16, 16, C]` whose last channel holds 0 and 255."""
    pixels = np.random.default_rng(channels).integers(0, 256, (count, 16, 16, channels), dtype=np.uint8)
    pixels[..., -1] = np.where(pixels[..., -1] > 127, 255, 0)
    return pixels


def folder(place, channels=4, content=ROLES, file="data.json"):
    place.mkdir(exist_ok=True)
    for i, one in enumerate(pixels_of(channels)):
        tifffile.imwrite(place / f"{i}.tif", one, photometric="minisblack", planarconfig="contig")
    (place / file).write_text(json.dumps(content))
    return place


def zipped(root):
    with zipfile.ZipFile(root / "set.zip", "w") as archive:
        for file in folder(root / "inner").iterdir():
            archive.write(file, f"set/{file.name}")
    shutil.rmtree(root / "inner")
    return root / "set.zip"


def array(root):
    np.save(root / "set.npy", pixels_of(4))
    (root / "data.json").write_text(json.dumps(ROLES))
    return root / "set.npy"


def hdf5(root):
    with h5py.File(root / "set.h5", "w") as file:
        file["images"] = pixels_of(4)
    (root / "data.json").write_text(json.dumps(ROLES))
    return root / "set.h5"


def labels(root):
    return folder(root / "set", content={"labels": [[f"{i}.tif", i] for i in range(3)], **ROLES}, file="dataset.json")


def of_a_run(root):
    """As `Dataset.describe` writes it."""
    told = opened(DataConfig(str(folder(root / "first"))), root).describe()
    assert told["channel_names"] == [*ROLES["channel_names"], "mask"]
    return folder(root / "set", content=told)


SOURCES = {
    "folder": lambda root: folder(root / "set"),
    "zip": zipped,
    "npy": array,
    "hdf5": hdf5,
    "labels": labels,
    "of a run": of_a_run,
}


def opened(config, root):
    return open_dataset(config, cache_dir=root / "cache")


@pytest.mark.parametrize("name", [*SOURCES])
def test_declared_beside_the_data_as_if_asked_for(name, tmp_path):
    path = SOURCES[name](tmp_path)
    found = opened(DataConfig(str(path)), tmp_path)
    assert parse_channels(found.config.channels)[1:] == (3, 1)
    assert found.masks == (MaskChannel((0, 255)),)
    assert found.describe()["channel_names"] == [*ROLES["channel_names"], "mask"]
    assert np.array_equal(found.pixels, pixels_of(4))
    if name == "labels":
        assert opened(DataConfig(str(path), labels="auto"), tmp_path).label_size == 3


def test_a_choice_that_is_asked_for_wins(tmp_path):
    place = folder(tmp_path / "set")
    found = opened(DataConfig(str(place), channels="RGB"), tmp_path)
    assert not found.masks
    assert found.channels == 3
    assert found.describe()["channel_names"] == ROLES["channel_names"]


@pytest.mark.parametrize("last, alpha", [("nir", False), ("alpha", True)])
def test_a_fourth_channel_is_opacity_only_where_it_is_called_so(last, alpha, tmp_path):
    names = ["red", "green", "blue", last]
    (tmp_path / "set").mkdir()
    for i, one in enumerate(pixels_of(4)):
        Image.fromarray(one).save(tmp_path / "set" / f"{i}.png")
    (tmp_path / "set" / "data.json").write_text(json.dumps({"channel_names": names}))
    found = opened(DataConfig(str(tmp_path / "set")), tmp_path)
    assert (found.alpha, found.describe()["channel_names"]) == (alpha, names)
    prepare(DataConfig(str(tmp_path / "set")), tmp_path / "copy", cache_dir=tmp_path / "cache")
    copied = opened(DataConfig(str(tmp_path / "copy")), tmp_path)
    assert (copied.alpha, copied.describe()["channel_names"]) == (alpha, names)
    assert np.array_equal(copied.pixels, found.pixels)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 6), st.integers(0, 3), st.booleans(), st.booleans(), st.booleans(), st.data())
def test_every_legal_declaration(tmp_path_factory, images, masks, told, counted, all_named, data):
    """Roles as text or by the names alone, names of the images or of all, a count or none."""
    name = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=9).filter(
        "mask".__ne__
    )
    names = data.draw(st.lists(name, min_size=images, max_size=images))
    text = f"0-{images - 1}=image,{images}-{images + masks - 1}=mask"
    content = {"channel_names": [*names, *["mask"] * masks]}
    if told and masks:
        content = {"channels": text, "channel_names": content["channel_names"] if all_named else names}
    elif counted:
        content["channels"] = images + masks
    place = tmp_path_factory.mktemp("set")
    (place / "data.json").write_text(json.dumps(content))
    (place / "0.png").write_bytes(b"")
    found = find_channels(Folder(place))
    assert parse_channels(found.channels)[1:] == ((images, masks) if masks else (None, 0))
    assert found.names == tuple(names)
    assert found.count == (None if masks else images)


OTHERS = [[1, {"channels": 3}], {"images": {"channels": 3}}, {"labels": {"0.tif": 1}}, {"fps": 3}]


@pytest.mark.parametrize("content", OTHERS)
def test_files_that_tell_nothing_of_channels_are_others_affair(content, tmp_path):
    found = opened(DataConfig(str(folder(tmp_path / "set", 5, content))), tmp_path)
    assert (found.channels, len(found.names)) == (5, 3)


BAD = {
    "unknown key": ({"channels": "RGB", "colour": 1}, "unknown key 'colour'; its keys are channels, channel_names"),
    "slip": ({"chanels": "RGB"}, "did you mean 'channels'"),
    "role": ({"channels": "RGB=image,3=masc"}, "give auto, L, LA, RGB"),
    "kind": ({"channels": True}, "give a text such as RGB=image,3=mask, or their count"),
    "count": ({"channels": 3, "channel_names": ["a", "b"]}, "3 channels, and 2 channel_names"),
    "roles": ({"channels": "RGB=image,3=mask", "channel_names": ["a", "b"]}, "name these 3"),
    "names": ({"channel_names": ["a", 3]}, "a list of up to"),
    "order": ({"channel_names": ["mask", "a"]}, "then the masks"),
    "files": ({"channel_names": ["a", "b"]}, "has 4 channels, and the data.json of .* tells of 2"),
    "files of masks": ({"channels": "RGB=image,3-4=mask"}, "has 4 channels"),
}


@pytest.mark.parametrize("name", [*BAD])
def test_other_declarations_are_a_sentence(name, tmp_path):
    content, sentence = BAD[name]
    with pytest.raises(FruganError, match=sentence):
        opened(DataConfig(str(folder(tmp_path / "set", 4, content))), tmp_path)


def test_a_broken_file_is_named(tmp_path):
    (folder(tmp_path / "set") / "data.json").write_text('{"channels": ')
    with pytest.raises(FruganError, match=r"data.json of .*set is no JSON"):
        opened(DataConfig(str(tmp_path / "set")), tmp_path)


def test_a_copy_that_would_lose_it_is_refused(tmp_path):
    place = folder(tmp_path / "set")
    with pytest.raises(FruganError, match="a prepared copy holds no masks"):
        prepare(DataConfig(str(place)), tmp_path / "copy", cache_dir=tmp_path / "cache")
    assert not list(tmp_path.glob("copy*"))


def test_through_the_command_line(tmp_path):
    place = folder(tmp_path / "set")
    run = tmp_path / "run"
    code, printed = program("train", str(place), str(run), *SMALL_RUN)
    assert code == 0, printed
    code, printed = program("generate", str(run), "--pairs", "--seeds", "0-1", "--out", str(tmp_path / "out"))
    assert code == 0, printed
    for seed in (0, 1):
        assert set(np.unique(np.asarray(Image.open(tmp_path / "out" / "masks" / f"seed000{seed}.png")))) <= {0, 255}
    assert json.loads((run / "data.json").read_text())["channel_names"] == [*ROLES["channel_names"], "mask"]


def test_masks_are_left_out_where_others_are_asked_for(tmp_path):
    """They are no opacity: pixels stay as they are, instead of being laid over the background."""
    (tmp_path / "set").mkdir()
    for i, one in enumerate(pixels_of(4)):
        Image.fromarray(one).save(tmp_path / "set" / f"{i}.png")
    (tmp_path / "set" / "data.json").write_text(json.dumps(ROLES))
    found = opened(DataConfig(str(tmp_path / "set"), channels="RGB"), tmp_path)
    assert np.array_equal(found.pixels, pixels_of(4)[..., :3])


def test_files_passes_it_over(tmp_path):
    place = folder(tmp_path / "set", 5, {"channels": "0-3=image,4=mask", "channel_names": ["a", "b", "c", "d"]})
    found = opened(DataConfig(str(place), channels="files"), tmp_path)
    assert np.array_equal(found.pixels, pixels_of(5))
    assert (found.masks, found.config.channels, found.pixel_format.names) == ((), "files", ())
    again = opened(found.config, tmp_path)
    assert again.fingerprint == found.fingerprint
    (place / "data.json").write_text("no JSON at all")
    assert opened(found.config, tmp_path).fingerprint == found.fingerprint


def test_values_are_told_by_the_channels_names(tmp_path):
    names = ["blue", "green", "red", "nir", "swir"]
    place = folder(tmp_path / "set", 5, {"channel_names": names})
    report = inspect(place, cache_dir=tmp_path / "cache")
    rows = dict(report.rows())
    assert [f"values, {name}" for name in names] == [row for row in rows if row.startswith("values")]
    assert rows["training at"] == "16, 5 channels (blue, green, red, nir, swir), 8 bits"


@pytest.mark.parametrize("channels, text", [(1, "1 channel L"), (3, "3 channels RGB"), (5, "5 channels")])
def test_channels_in_a_row(channels, text, tmp_path):
    np.save(tmp_path / "set.npy", np.random.default_rng(0).integers(0, 256, (4, 16, 16, channels), np.uint8))
    row = dict(inspect(tmp_path / "set.npy", cache_dir=tmp_path / "cache").rows())["training at"]
    assert row == f"16, {text}, 8 bits"


def test_a_range_at_fault_names_the_channel(tmp_path):
    (tmp_path / "set").mkdir()
    for i in range(3):
        pixels = np.random.default_rng(i).random((16, 16, 5)).astype(np.float32)
        pixels[..., 3] = 2
        tifffile.imwrite(tmp_path / "set" / f"{i}.tif", pixels, photometric="minisblack", planarconfig="contig")
    (tmp_path / "set" / "data.json").write_text(json.dumps({"channel_names": ["a", "b", "c", "nir", "e"]}))
    with pytest.raises(FruganError, match=r"^nir: the range of values from 2 to 2 holds one value"):
        opened(DataConfig(str(tmp_path / "set")), tmp_path)
