"""Measures of edits against closed forms; built-in scores against drawings whose truth is known."""

from __future__ import annotations

import pytest
import torch

from frugan.latent.directions import channels_from_examples, ganspace_directions
from frugan.latent.edit import Edit
from frugan.latent.measure import SLIDER_SHARE, Baseline, measure, pyramid_distance, scale_shares
from frugan.latent.scores import SCORES
from frugan.latent.statistics import Statistics
from frugan.networks import Generator


@pytest.mark.parametrize("size", [(16, 16), (12, 20), (32, 8), (24, 48)])
@pytest.mark.parametrize("channels", [1, 3, 4, 5])
def test_distance_of_a_constant_shift_is_the_shift(size: tuple[int, int], channels: int) -> None:
    a = torch.rand(3, channels, *size) - 0.5
    assert torch.allclose(pyramid_distance(a, a + 0.25), torch.full((3,), 0.25), atol=1e-6)
    assert pyramid_distance(a, a).max() == 0
    shares = scale_shares(a, a + 0.25)
    assert shares[0] == pytest.approx(1, abs=1e-5)  # a shift lies in the coarsest band
    fine = scale_shares(a, a + 0.1 * (torch.arange(size[1]) % 2 * 2 - 1))
    assert fine[-1] == pytest.approx(1, abs=1e-5)  # stripes of one pixel in the finest
    noise = scale_shares(torch.zeros(1, channels, *size), torch.randn(1, channels, *size))
    assert float(noise.sum()) == pytest.approx(1, abs=1e-5)


def drawing(
    *, x: int = 16, y: int = 16, r: int = 6, colour: tuple[float, ...] = (1, 1, 1), alpha: bool = False
) -> torch.Tensor:
    """A disc on black, `[1, C, 32, 32]`."""
    v, u = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    disc = ((u - x) ** 2 + (v - y) ** 2 <= r * r).float()
    image = torch.stack([disc * c for c in colour])
    if alpha:
        image = torch.cat([image, disc[None]])
    return image[None] * 2 - 1


@pytest.mark.parametrize("alpha", [False, True])
def test_scores_rank_drawings_as_they_should(alpha: bool) -> None:
    def ranked(score: str, *images: torch.Tensor) -> None:
        values = SCORES[score].function(torch.cat(images)).tolist()
        assert values == sorted(values), (score, values)
        assert values[0] < values[-1]

    d = lambda **k: drawing(alpha=alpha, **k)  # noqa: E731
    ranked("left-right", d(x=8), d(x=16), d(x=24))
    ranked("up-down", d(y=8), d(y=16), d(y=24))
    ranked("size", d(r=3), d(r=6), d(r=9))
    ranked("brightness", d(colour=(0.4, 0.4, 0.4)), d())
    ranked("contrast", d(colour=(0.4, 0.4, 0.4)), d())
    ranked("hue", d(colour=(0, 0, 1)), d(), d(colour=(1, 0, 0)))
    ranked("saturation", d(), d(colour=(1, 0.5, 0.5)), d(colour=(1, 0, 0)))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
def test_scores_take_any_channels(channels: int) -> None:
    images = torch.rand(4, channels, 12, 20) * 2 - 1
    for name, score in SCORES.items():
        values = score.function(images)
        assert values.shape == (4,), name
        assert values.isfinite().all(), name


def test_the_slider_ends_where_it_says(G: Generator, statistics: Statistics) -> None:
    baseline = Baseline.of(G, range(8))
    direction = ganspace_directions(G, statistics, 1)[0]
    effect = measure(G, direction, baseline)
    for end in effect.slider:
        moved = baseline.edited(G, [Edit(direction, end)], slice(0, 4))
        share = float(pyramid_distance(baseline.images[:4], moved).mean()) / baseline.spread
        assert share == pytest.approx(SLIDER_SHARE, abs=0.1) or abs(end) == 40
    assert 0 <= effect.pixels <= 1
    assert effect.distance > 0
    assert -1 <= effect.consistency <= 1
    assert sum(effect.scales) == pytest.approx(1, abs=1e-4)


def test_a_direction_that_does_nothing_measures_nothing(G: Generator, statistics: Statistics) -> None:
    baseline = Baseline.of(G, range(4))
    direction = channels_from_examples(G, statistics, torch.randn(3, G.num_ws, 12), 1)[0].scaled(1e-7)
    effect = measure(G, direction, baseline)
    assert effect.distance < 1e-3
    assert effect.pixels == 0
    assert effect.slider == (-40, 40)
