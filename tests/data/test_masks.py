"""Masks beside images: pairs from two folders, declared channels, what they become and what is refused."""

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from frugan.channels import CHANNELS, MaskChannel, parse_channels
from frugan.data import DataConfig, open_dataset
from frugan.errors import FruganError
from frugan.image_files import choose_output
from frugan.images import mask_pixels, to_float
from tests.fuzz.damage import SMALL_RUN, program

KINDS = {
    "0 and 255": (np.array([0, 255]), lambda plane: Image.fromarray(plane.astype(np.uint8)), (0, 255), 8),
    "0 and 1": (np.array([0, 1]), lambda plane: Image.fromarray(plane.astype(np.uint8)), (0, 1), 8),
    "classes": (np.array([0, 3, 4, 9]), lambda plane: Image.fromarray(plane.astype(np.uint8)), (0, 3, 4, 9), 8),
    "16 bits": (np.array([0, 700, 40000]), lambda plane: Image.fromarray(plane.astype(np.uint16)), (0, 700, 40000), 16),
    "one bit": (
        np.array([0, 1]),
        lambda plane: Image.fromarray(plane.astype(np.uint8) * 255).convert("1"),
        (0, 255),
        8,
    ),
    "grey as RGB": (np.array([0, 128]), lambda p: Image.fromarray(p.astype(np.uint8)).convert("RGB"), (0, 128), 8),
}
PALETTE = [0, 0, 0, 128, 0, 0, 128, 128, 128]  # the background, red and a class that is grey


def photo(seed, size=(16, 16), channels=3, depth=8):
    top = 1 << depth
    pixels = (
        np.random.default_rng(seed).integers(0, top, (*size, channels)).astype(np.uint8 if depth == 8 else np.uint16)
    )
    return Image.fromarray(pixels if channels > 1 else pixels[..., 0])


def indices(seed, count, size=(16, 16)):
    """Class numbers `[H, W]`, each of them there."""
    plane = np.random.default_rng(seed + 100).integers(0, count, size)
    plane.flat[:count] = np.arange(count)
    return plane


def write(root, count, mask, **kind):
    """photos/i.png and masks/i.png."""
    for name in ("photos", "masks"):
        (root / name / "sub").mkdir(parents=True, exist_ok=True)
    for i in range(count):
        photo(i, **kind).save(root / "photos" / "sub" / f"{i}.png")
        mask(i).save(root / "masks" / "sub" / f"{i}.png")
    return DataConfig(str(root / "photos"), masks=str(root / "masks"))


def opened(config, tmp_path):
    return open_dataset(config, cache_dir=tmp_path / "cache")


@pytest.mark.parametrize("name", [*KINDS])
@pytest.mark.parametrize("channels, depth", [(3, 8), (1, 8), (1, 16)])
def test_pairs_become_one_set_with_even_steps(name, channels, depth, tmp_path):
    values, make, known, bits = KINDS[name]
    mask = lambda i: make(values[indices(i, len(values))])  # noqa: E731
    config = write(tmp_path, 3, mask, channels=channels, depth=depth)
    for _ in range(2):  # decoded, and from the cache
        found = opened(config, tmp_path)
        assert found.masks == (MaskChannel(known, bits),)
        assert found.pixels.shape == (3, 16, 16, channels + 1)
        top = np.iinfo(found.pixels.dtype).max
        assert top == (1 << depth) - 1
        steps = np.rint(np.arange(len(values)) * top / (len(values) - 1))
        for i in range(3):
            assert np.array_equal(found.pixels[i, ..., -1], steps[indices(i, len(values))])
            assert np.array_equal(
                found.pixels[i, ..., :channels].squeeze(), np.asarray(photo(i, channels=channels, depth=depth))
            )
    assert found.image_channels == channels
    assert not found.alpha
    assert found.describe()["masks"] == [{"values": list(known), "bits": bits}]


def test_colours_of_a_palette_are_the_values_even_where_a_mask_has_grey_ones_only(tmp_path):
    def mask(i):
        image = Image.fromarray((indices(i, 3) if i else 2 * indices(i, 2)).astype(np.uint8), "P")
        image.putpalette(PALETTE)
        return image

    found = opened(write(tmp_path, 3, mask), tmp_path)
    assert found.masks == (MaskChannel((0, 0x800000, 0x808080), 24),)
    assert set(np.unique(found.pixels[0, ..., -1])) == {0, 255}
    assert set(np.unique(found.pixels[1, ..., -1])) == {0, 128, 255}


@pytest.mark.parametrize("filter, exact", [("nearest", True), ("smooth", False)])
@pytest.mark.parametrize("fit", ["crop", "letterbox"])
def test_masks_are_resized_by_nearest_pixels_unless_asked(fit, filter, exact, tmp_path):
    big = lambda i: Image.fromarray(255 * np.kron(indices(i, 2, (8, 12)), np.ones((5, 5))).astype(np.uint8))  # noqa: E731
    config = write(tmp_path, 2, big, size=(40, 60))
    found = opened(
        DataConfig(config.path, masks=config.masks, resolution=(16, 16), fit=fit, mask_filter=filter), tmp_path
    )
    values = set(np.unique(found.pixels[..., -1]))
    assert (values == {0, 255}) == exact
    border = found.pixels[:, 0, :, -1]
    assert (fit == "crop") or (border == 0).all()


def test_declared_channels_are_the_files_own(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 4)).astype(np.uint8)
    pixels[..., 3] = np.stack([indices(i, 2) for i in range(4)]) * 255
    np.save(tmp_path / "set.npy", pixels)
    (tmp_path / "pngs").mkdir()
    for i, one in enumerate(pixels):
        Image.fromarray(one).save(tmp_path / "pngs" / f"{i}.png")
    for path in ("set.npy", "pngs"):
        found = opened(DataConfig(str(tmp_path / path), channels="RGB=image,3=mask"), tmp_path)
        assert np.array_equal(np.asarray(found.pixels), pixels)
        assert found.masks == (MaskChannel((0, 255)),)
        assert found.config.channels == "RGB=image,3=mask"
    mirrored = opened(DataConfig(str(tmp_path / "pngs"), channels="rgb=image,3=mask", mirror=True), tmp_path)
    straight, _ = mirrored.images(np.arange(4))
    flipped, _ = mirrored.images(np.arange(4, 8))
    assert np.array_equal(straight.flip(3), flipped)


BAD = {
    "no pair": (
        lambda r: [p.rename(p.with_stem(f"x{p.stem}")) for p in (r / "masks" / "sub").iterdir()],
        "name them alike",
    ),
    "a photo as mask": (lambda r: photo(7).save(r / "masks" / "sub" / "0.png"), "more than 32 different values"),
    "one value": (
        lambda r: [Image.new("L", (16, 16), 9).save(p) for p in (r / "masks" / "sub").iterdir()],
        "all hold one value only, 9",
    ),
    "depths": (
        lambda r: Image.fromarray(indices(0, 2).astype(np.uint16)).save(r / "masks" / "sub" / "0.png"),
        "some masks.*8 bits and some have more",
    ),
    "two of a name": (lambda r: photo(1).save(r / "masks" / "sub" / "0.bmp"), "two masks of one name"),
    "no folder": (lambda r: (r / "masks").rename(r / "elsewhere"), "there is no file or folder"),
}


@pytest.mark.parametrize("name", [*BAD])
def test_what_is_wrong_with_all_masks_is_a_sentence(name, tmp_path):
    spoil, sentence = BAD[name]
    config = write(tmp_path, 3, lambda i: Image.fromarray(indices(i, 2).astype(np.uint8)))
    spoil(tmp_path)
    with pytest.raises(FruganError, match=sentence):
        opened(config, tmp_path)


SKIPPED = {
    "missing": (lambda place: place.unlink(), "no mask of that name"),
    "other size": (lambda place: Image.new("L", (8, 16)).save(place), "has 16x16 pixels, and its mask 16x8"),
    "broken": (lambda place: place.write_bytes(place.read_bytes()[:60]), ""),
    "transparent": (lambda place: Image.new("LA", (16, 16), (0, 3)).save(place), "transparent pixels"),
}


@pytest.mark.parametrize("name", [*SKIPPED])
def test_what_is_wrong_with_one_mask_skips_its_image(name, tmp_path):
    spoil, reason = SKIPPED[name]
    config = write(tmp_path, 3, lambda i: Image.fromarray(indices(i, 2).astype(np.uint8)))
    spoil(tmp_path / "masks" / "sub" / "1.png")
    found = opened(config, tmp_path)
    assert found.names == ["sub/0.png", "sub/2.png"]
    ((skipped, why),) = found.skipped
    assert skipped == "sub/1.png"
    assert reason in why
    with pytest.raises(FruganError, match="cannot be read"):
        opened(DataConfig(config.path, masks=config.masks, strict=True), tmp_path)


@pytest.mark.parametrize("crops", ["grid", "40"])
def test_masks_are_cut_and_turned_with_their_images(crops, tmp_path):
    for name in ("photos", "masks"):
        (tmp_path / name).mkdir()
    for i in range(3):
        image = np.random.default_rng(i).integers(0, 256, (40, 56, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / "photos" / f"{i}.png")
        Image.fromarray(np.where(image[..., 1] > 99, 7, 3).astype(np.uint8)).save(tmp_path / "masks" / f"{i}.png")
    config = DataConfig(
        str(tmp_path / "photos"), masks=str(tmp_path / "masks"), crops=crops, crop_size=16, crop_rotations=True
    )
    found = opened(config, tmp_path)
    assert found.masks == (MaskChannel((3, 7)),)
    assert len(found) == 3 * (40 if crops == "40" else 24)
    assert any("r3" in name for name in found.names)
    assert np.array_equal(found.pixels[:, ..., 3], np.where(found.pixels[:, ..., 1] > 99, 255, 0))
    assert len(found.groups.names) == 3


def test_another_mask_is_another_set(tmp_path):
    config = write(tmp_path, 2, lambda i: Image.fromarray(indices(i, 2).astype(np.uint8)))
    before = opened(config, tmp_path)
    Image.fromarray(indices(5, 2).astype(np.uint8)).save(tmp_path / "masks" / "sub" / "0.png")
    after = opened(config, tmp_path)
    assert before.fingerprint != after.fingerprint
    assert opened(DataConfig(config.path), tmp_path).channels == 3


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 6), st.integers(1, 4), st.booleans())
def test_every_way_to_declare_channels(images, masks, spaced):
    first = {1: ["0=image", "L=image"], 3: ["0-2=image", "rgb=image", "0=image,1-2=image"]}.get(
        images, [f"0-{images - 1}=image"]
    )
    for text in first:
        line = ",".join([text, *(f"{images + i}=mask" for i in range(masks))])
        found = parse_channels(line.replace("=", " = ") if spaced else line)
        choice = {"L": "L", "r": "RGB"}.get(text[0], "auto")
        assert found == (choice, images, masks)
    ranged = parse_channels(f"0-{images - 1}=image,{images}-{images + masks - 1}=mask")
    assert ranged[1:] == (images, masks)


@pytest.mark.parametrize(
    "text",
    ["", "rgb", "RGB=image", "RGB=mask", "RGB=image,4=mask", "3=mask,RGB=image", "RGB=image,3=masks", "2-1=image,3=mask", "A=image",
     "0=image,1=mask,2=image", "0-99999=image,3=mask", "RGB=image,,3=mask"],
)  # fmt: skip
def test_other_texts_are_refused(text):
    with pytest.raises(FruganError, match="--channels"):
        parse_channels(text)


def test_plain_names_stay():
    for name in ("auto", *CHANNELS):
        assert parse_channels(name) == (name, None, 0)


@pytest.mark.parametrize("channels", ["LA", "RGBA", "RGB=image,3=mask"])
def test_masks_of_a_folder_go_with_grey_and_rgb(channels):
    with pytest.raises(FruganError, match="give --channels L, RGB or auto"):
        DataConfig("photos", channels=channels, masks="masks")
    with pytest.raises(FruganError, match="masks in shards are channels of the images"):
        DataConfig("set-{0..3}.tar", masks="masks")


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_masks_of_any_numbers_come_out_bit_for_bit(tmp_path_factory, data):
    """Beside measured images of every type, in the same files or in others: through the set, and an identity for a generator."""
    dtype = np.dtype(
        data.draw(st.sampled_from(["uint8", "uint16", "int8", "int16", "int32", "float16", "float32", "float64"]))
    )
    values = data.draw(st.lists(st.integers(0, 127), min_size=2, max_size=5, unique=True).map(sorted))
    channels, apart, masks = (
        data.draw(st.sampled_from([1, 3, 5])),
        data.draw(st.booleans()),
        data.draw(st.integers(1, 2)),
    )
    masks = 1 if apart else masks
    rng = np.random.default_rng(0)
    images = (
        rng.integers(-100 if dtype.kind != "u" else 0, 100, (3, 16, 24, channels)) * (0.5 if dtype.kind == "f" else 1)
    ).astype(dtype)
    planes = np.array(values)[rng.integers(0, len(values), (3, 16, 24, masks))]
    planes[:, 0, : len(values)] = np.array(values)[None, :, None]
    root = tmp_path_factory.mktemp("set")
    if apart:
        np.save(root / "images.npy", images)
        np.save(
            root / "masks.npy",
            planes[..., 0].astype(data.draw(st.sampled_from(["uint8", "uint16", "int32", "float32"]))),
        )
        config = DataConfig(str(root / "images.npy"), masks=str(root / "masks.npy"))
    else:
        np.save(root / "images.npy", np.concatenate([images, planes.astype(dtype)], -1))
        config = DataConfig(
            str(root / "images.npy"),
            channels=f"0-{channels - 1}=image,{channels}-{channels + masks - 1}=mask".replace("0-0=", "0=").replace(
                "1-1=", "1="
            ),
        )
    found = opened(config, root)
    assert (found.skipped, found.pixel_format.dtype, len(found.masks)) == ([], str(dtype), masks)
    assert all(mask.values == tuple(values) for mask in found.masks)
    made = to_float(torch.from_numpy(np.array(found.pixels)))
    for i, mask in enumerate(found.masks):
        assert np.array_equal(mask_pixels(made[:, channels + i], mask)[..., 0], planes[..., i])
    output = choose_output(found.pixel_format, channels)
    written = output.values(made[:, :channels])
    assert np.allclose(
        written.astype(float), images.astype(float), rtol=0, atol=0 if dtype.kind != "f" else 100 * 2**-23
    )


@pytest.mark.parametrize("value", [0.5, -1, 70_000, np.nan])
def test_values_that_no_mask_holds_skip_their_image(value, tmp_path):
    images = np.random.default_rng(0).random((4, 16, 16, 4)).astype(np.float32)
    images[..., 3] = indices(0, 2)
    images[2, 3, 3, 3] = value
    np.save(tmp_path / "set.npy", images)
    config = DataConfig(str(tmp_path / "set.npy"), channels="0-2=image,3=mask")
    found = opened(config, tmp_path)
    ((_, why),) = found.skipped
    assert f"its mask holds {value:g}; values of a mask are whole numbers from 0 to 65535" in why
    assert len(found) == 3
    images[..., 3] = value
    np.save(tmp_path / "set.npy", images)
    with pytest.raises(FruganError, match=r"none of the masks in .* can be read, the first is .*its mask holds"):
        opened(config, tmp_path)


def test_pairs_of_measured_images_through_the_command_line(tmp_path):
    """Float TIFFs whose last channel is a mask: trained on, and generated in their own numbers with masks of theirs."""
    (tmp_path / "set").mkdir()
    for i in range(8):
        image = np.random.default_rng(i).normal(300, 20, (16, 16, 3)).astype(np.float32)
        image[..., 2] = 7 * indices(i, 2)
        tifffile.imwrite(tmp_path / "set" / f"{i}.tif", image, photometric="minisblack", planarconfig="contig")
    run = str(tmp_path / "run")
    for words in (
        ["train", str(tmp_path / "set"), run, "--channels", "0-1=image,2=mask", *SMALL_RUN],
        ["generate", run, "--pairs", "--seeds", "0-1", "--out", str(tmp_path / "out")],
    ):
        code, printed = program(*words)
        assert code == 0, printed
    for seed in (0, 1):
        image = tifffile.imread(tmp_path / "out" / "images" / f"seed000{seed}.tif")
        mask = tifffile.imread(tmp_path / "out" / "masks" / f"seed000{seed}.tif")
        assert (image.shape, image.dtype) == ((16, 16, 2), np.float32)
        assert (mask.shape, mask.dtype) == ((16, 16), np.uint8)
        assert set(np.unique(mask)) <= {0, 7}
