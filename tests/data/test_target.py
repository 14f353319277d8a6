"""Sizes and channels derived, and the sentences for sets that cannot be decided."""

from __future__ import annotations

from dataclasses import replace

import pytest

from frugan.data.decode import Header
from frugan.data.target import (
    PixelConfig,
    derive_resolution,
    make_plan,
    size_name,
    suggest_channels,
    suggest_resolution,
    unusual_types,
)
from frugan.errors import FruganError
from frugan.pixel_format import NumberType
from frugan.resolution import base_grid


def _header(h: int, w: int, channels: int = 3, depth: int = 8) -> Header:
    return Header(h, w, channels, depth, "PNG", "RGB")  # type: ignore[arg-type]


SIZES = {
    (256, 256): (256, 256),
    (100, 100): (64, 64),
    (96, 96): (96, 96),
    (1023, 1023): (512, 512),
    (28, 28): (28, 28),
    (48, 64): (48, 64),
    (218, 178): (192, 160),
    (1080, 1920): (1024, 1792),
    (32, 16): (32, 16),
}


@pytest.mark.parametrize(("size", "derived"), SIZES.items())
def test_derived_sizes(size: tuple[int, int], derived: tuple[int, int]) -> None:
    assert derive_resolution(*size) == derived


def test_every_derived_size_fits_and_can_be_made() -> None:
    for h in range(6, 140, 5):
        for w in range(6, 140, 7):
            H, W = derive_resolution(h, w)
            assert h >= H
            assert w >= W
            base_grid(H, W)


def test_tiny_images_are_refused() -> None:
    with pytest.raises(FruganError, match="5x5 pixels are too small"):
        derive_resolution(5, 5)


def test_a_plain_set() -> None:
    plan = make_plan(PixelConfig(), ["a", "b"], [_header(64, 64, 4, 8), _header(64, 64, 4, 16)])
    assert (plan.resolution, plan.channels, plan.depth, plan.alpha) == ((64, 64), 4, 16, True)
    assert not make_plan(PixelConfig(), ["a"], [_header(64, 64, 4)], alpha=False).alpha
    assert make_plan(PixelConfig(channels="RGBA"), ["a"], [_header(64, 64, 4)], alpha=False).alpha


def test_mixed_sizes_name_the_file_and_the_remedy() -> None:
    headers = [_header(64, 64), _header(64, 64), _header(40, 60)]
    with pytest.raises(FruganError, match=r"a\.png is 64x64, c\.png is 40x60 \(1 of 3 .*--resolution 64"):
        make_plan(PixelConfig(), ["a.png", "b.png", "c.png"], headers)
    assert make_plan(PixelConfig((32, 32)), ["a", "b", "c"], headers).resolution == (32, 32)


def test_mixed_channels_name_the_file_and_the_remedy() -> None:
    headers = [_header(64, 64, 3), _header(64, 64, 1)]
    with pytest.raises(FruganError, match=r"a\.png is RGB, b\.png is L \(1 of 2.*--channels RGB"):
        make_plan(PixelConfig(), ["a.png", "b.png"], headers)
    assert make_plan(PixelConfig(channels="L"), ["a", "b"], headers).channels == 1


def test_many_channels_cannot_be_converted() -> None:
    with pytest.raises(FruganError, match="7 channels, which cannot become RGB; use --channels auto"):
        make_plan(PixelConfig(channels="RGB"), ["a"], [_header(64, 64, 7)])


def test_suggestions() -> None:
    assert suggest_resolution([_header(100, 100), _header(300, 300), _header(260, 260)]) == (256, 256)
    assert suggest_resolution([_header(200, 300), _header(300, 200)]) == (128, 128)
    for kinds, name in {(1, 2): "LA", (1, 3): "RGB", (2, 3): "RGBA", (3, 4): "RGBA", (1,): "L"}.items():
        assert suggest_channels([_header(8, 8, kind) for kind in kinds]) == name
    assert (size_name((64, 64)), size_name((48, 64))) == ("64", "48x64")


@pytest.mark.parametrize("odd", ["float32", "uint32", "int16"])
def test_images_of_an_unusual_type_of_numbers_are_skipped_with_a_reason(odd: NumberType) -> None:
    """Those of 8 and of 16 bits are of one kind, and the usual one where there are as many of another."""
    ordinary = [_header(64, 64), _header(64, 64, depth=16)]
    other = [replace(_header(64, 64), number_type=odd)] * 2
    assert unusual_types(ordinary) == unusual_types(other) == unusual_types([]) == {}
    assert set(unusual_types([*ordinary, *other])) == {2, 3}
    assert unusual_types([*ordinary[:1], *other]) == {0: f"its numbers are 8 or 16 bits, those of most images {odd}"}
