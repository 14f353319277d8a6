"""Images from files, as a generator makes them: channels, depth, shape, size, and a note of each change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from frugan.channels import CHANNEL_NAMES
from frugan.errors import FruganError
from frugan.latent.targets import read_mask, read_targets
from tests.latent.conftest import make_generator


def write(file: Path, pixels: np.ndarray) -> Path:
    """Any channels at either depth."""
    kinds = {1: "minisblack", 2: "minisblack", 3: "rgb", 4: "rgb"}
    extra = [2] if pixels.shape[2] in (2, 4) else []
    plain = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    tifffile.imwrite(file, plain, photometric=kinds[pixels.shape[2]], extrasamples=extra, planarconfig="contig")
    return file


def expected(pixels: np.ndarray, channels: int) -> Tensor:
    """Pixels of one colour `[C]`, by hand → `[channels]` in [-1, 1]."""
    share = pixels.astype(np.float64) / np.iinfo(pixels.dtype).max
    colour, alpha = (share[:-1], share[-1]) if len(share) in (2, 4) else (share, 1.0)
    if channels in (1, 3):
        colour, rest = colour * alpha + 1 - alpha, []
    else:
        rest = [alpha]
    if channels > 2:
        colour = np.broadcast_to(colour, 3)
    elif len(colour) == 3:
        colour = np.array([colour @ [0.299, 0.587, 0.114]])
    return torch.tensor([*colour, *rest]).mul(2).sub(1).float()


@settings(deadline=None, max_examples=25)
@given(
    data=st.data(),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    given_channels=st.integers(1, 4),
    channels=st.integers(1, 4),
    shape=st.sampled_from([(8, 8), (8, 12), (20, 8)]),
)
def test_any_channels_and_depth_at_any_shape(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, dtype: type, given_channels: int, channels: int,
    shape: tuple[int, int],
) -> None:  # fmt: skip
    """To one step of the file's own depth; a plain image stays plain at another size."""
    top = np.iinfo(dtype).max
    colour = np.array(data.draw(st.lists(st.integers(0, top), min_size=given_channels, max_size=given_channels)), dtype)
    G = make_generator(shape, channels=channels)
    side = data.draw(st.sampled_from([shape, (shape[0] + 3, shape[1] + 9), (5, 4)]))
    file = write(tmp_path_factory.mktemp("one") / "a.tiff", np.broadcast_to(colour, (*side, given_channels)).copy())
    found = read_targets([file], G)
    assert found.images.shape == (1, channels, *shape)
    step = 2 / top * (1 if given_channels == channels and side == shape else 2)
    wanted = expected(colour, channels)[:, None, None].expand(-1, *shape)
    if not (channels in (2, 4) and given_channels == channels and wanted[-1, 0, 0] < 1 and side != shape):
        assert (found.images[0] - wanted).abs().max() <= step  # colours behind opacity are resampled with its weight
    assert (f"{CHANNEL_NAMES[given_channels]} became" in " ".join(found.notes)) == (given_channels != channels)
    assert (f"to {shape[0]}x{shape[1]}" in " ".join(found.notes)) == (side != shape)


def test_the_middle_is_cropped(tmp_path: Path) -> None:
    pixels = np.zeros((16, 48, 3), np.uint8)
    pixels[:, 16:32] = 200
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    found = read_targets([tmp_path / "wide.png"], make_generator((16, 16)))
    assert torch.allclose(found.images, torch.tensor(200 / 127.5 - 1))
    assert "cropped to 16x16: wide.png (16x48)" in found.notes[0]


def test_files_of_one_name_stay_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (16, 16), "red").save(tmp_path / folder / "me.png")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    G = make_generator((16, 16))
    assert read_targets([tmp_path / "a", tmp_path / "b"], G).names == ["me", "me-2"]
    (tmp_path / "c").mkdir()
    for name in ("a-2.png", "a.jpg", "a.png", "progress.png", "sheet.png"):
        Image.new("RGB", (16, 16), "red").save(tmp_path / "c" / name)
    assert read_targets([tmp_path / "c"], G).names == ["a-2", "a", "a-3", "progress-2", "sheet-2"]
    (tmp_path / "empty").mkdir()
    for paths, message in (([tmp_path / "empty"], "holds no images"), ([], "no images were given")):
        with pytest.raises(FruganError, match=message):
            read_targets(paths, G)


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "I;16"])
def test_a_mask_of_any_kind_is_true_where_it_is_white(tmp_path: Path, mode: str) -> None:
    white = np.zeros((8, 12), bool)
    white[2:5, 3:9] = True
    high = 65535 if mode == "I;16" else 255
    image = Image.fromarray(white.astype(np.uint16 if mode == "I;16" else np.uint8) * high)
    (image if mode == "I;16" else image.convert(mode)).save(tmp_path / "mask.png")
    found = read_mask(tmp_path / "mask.png", make_generator((8, 12)))
    assert np.array_equal(found.numpy(), white)
