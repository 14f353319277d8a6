"""How data holds images, kept by all that is made of a network, and used by what reads images for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import frugan
from frugan.interop import Imported, read_network, write_community, write_directory
from frugan.latent.blending import interpolate
from frugan.latent.targets import read_targets
from frugan.networks import Generator, GeneratorConfig, MappingConfig, SynthesisConfig
from frugan.networks.serialization import load_generator, save_difference
from frugan.pixel_format import PixelFormat

FORMATS = [
    PixelFormat("float32", ((-3.5, 2.0), (0, 1), (5, 1e6)), names=("a", "ü", "c")),
    PixelFormat("uint16", ((0, 4095),)),
    PixelFormat("int16", ((-1024, 3071),)),
]


def generator(pixels: PixelFormat | None, channels: int = 3) -> Generator:
    torch.manual_seed(0)
    shape = SynthesisConfig(64, 8, architecture="skip")
    return Generator(GeneratorConfig((16, 16), channels, 0, 8, 8, MappingConfig(2), shape, pixels=pixels)).eval()


@pytest.mark.parametrize("pixels", FORMATS, ids=[pixels.dtype for pixels in FORMATS])
def test_everything_made_of_a_network_keeps_it(pixels: PixelFormat, tmp_path: Path) -> None:
    G = generator(pixels)
    home = write_directory(tmp_path / "net", Imported(G))
    assert frugan.load(home).pixels == pixels
    other = generator(pixels)
    with torch.no_grad():
        other.mapping.w_avg.add_(1)
    save_difference(tmp_path / "tuned", other, G, home)
    assert load_generator(tmp_path / "tuned").pixels == pixels
    assert interpolate(G, other, 0.5).pixels == pixels
    file = write_community(tmp_path / "x.pt", G)
    assert frugan.load(file).pixels == pixels
    assert read_network(home).generator.pixels == pixels


def test_a_community_file_with_another_format_is_read_with_a_note(tmp_path: Path) -> None:
    file = write_community(tmp_path / "x.pt", generator(FORMATS[1]))
    content = torch.load(file, weights_only=True)
    content["frugan_pixels"] = '{"dtype": "complex64"}'
    torch.save(content, file)
    found = read_network(file)
    assert found.generator.pixels == PixelFormat()
    assert any("which tells no pixel format" in note for note in found.notes)


def test_images_to_project_are_read_in_the_range_of_the_data(tmp_path: Path) -> None:
    stored = np.linspace(0, 4095, 256).round().astype(np.uint16).reshape(16, 16)
    Image.fromarray(stored).save(tmp_path / "a.png")
    found = read_targets([tmp_path / "a.png"], generator(PixelFormat("uint16", ((0, 4095),)), 1))
    np.testing.assert_allclose(found.images[0, 0], stored / 4095 * 2 - 1, atol=1e-4)
    assert found.notes == []
    Image.fromarray((stored >> 4).astype(np.uint8)).save(tmp_path / "b.png")
    eight = read_targets([tmp_path / "b.png"], generator(PixelFormat("uint16", ((0, 4095),)), 1))
    assert any("taken from black to white" in note for note in eight.notes)
    with pytest.raises(frugan.FruganError, match="has 1 channels, this generator makes 5"):
        read_targets([tmp_path / "a.png"], generator(replace(FORMATS[1]), 5))
