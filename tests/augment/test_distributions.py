"""Every transform's drawn parameters against their exact distribution, from 2·10⁵ draws with a fixed seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats as st
import torch

from frugan.augment import TRANSFORMS, AugmentConfig, AugmentPipeline

N, P = 200_000, 0.4
W, H = 64, 32
LEAST = 1e-3  # p-value; the seed is fixed, so this either always passes or never
THIS_OFTEN = 1 - math.sqrt(1 - P)  # each of the two arbitrary rotations


def drawn(*names: str, p: float = P) -> list[np.ndarray]:
    pipeline = AugmentPipeline(AugmentConfig(names), channels=3, resolution=(H, W))
    generator = torch.Generator().manual_seed(7)
    return [values.numpy() for _, values in pipeline.parameters(N, p, generator=generator)]


# the continuous ones, where the transform fires: one distribution for each column
CONTINUOUS = {
    "scale": [st.norm(0, 0.2)],
    "rotate": [st.uniform(-np.pi, 2 * np.pi)],
    "aniso": [st.norm(0, 0.2)],
    "xfrac": [st.norm(0, 0.125 * W), st.norm(0, 0.125 * H)],
    "brightness": [st.norm(0, 0.2)],
    "contrast": [st.norm(0, 0.5)],
    "hue": [st.uniform(-np.pi, 2 * np.pi)],
    "saturation": [st.norm(0, 1)],
    "band0": [st.norm(0, 1)],
    "band1": [st.norm(0, 1)],
    "band2": [st.norm(0, 1)],
    "band3": [st.norm(0, 1)],
    "noise": [st.halfnorm(0, 0.1)],
    "cutout": [None, st.uniform(0, 1), st.uniform(0, 1)],  # after the side, which is always one half
}


def rounded_uniform(reach: float) -> dict[int, float]:
    """Probabilities of round(U(−reach, reach)) for a whole reach: the two ends get half a share."""
    return {k: (0.5 if abs(k) == reach else 1) / (2 * reach) for k in range(-int(reach), int(reach) + 1)}


# the discrete ones, given that they fire: the probability of each value, for each column
DISCRETE = {
    "xflip": [{0: 0.5, 1: 0.5}],
    "rotate90": [dict.fromkeys(range(4), 0.25)],
    "xint": [rounded_uniform(0.125 * W), rounded_uniform(0.125 * H)],
    "lumaflip": [{0: 0.5, 1: 0.5}],
}


def test_every_transform_is_covered() -> None:
    assert CONTINUOUS.keys() | DISCRETE.keys() == TRANSFORMS.keys()
    assert not CONTINUOUS.keys() & DISCRETE.keys()


@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_parameters(name: str) -> None:
    values = drawn(name)[0]
    fired = (values != 0).any(1)
    rate = THIS_OFTEN if name == "rotate" else P
    assert st.binomtest(int(fired.sum()), N, rate).pvalue > LEAST
    for column, distribution in zip(values[fired].T, CONTINUOUS[name]):
        if distribution is None:
            assert (column == 0.5).all()
        else:
            assert st.kstest(column, distribution.cdf).pvalue > LEAST


@pytest.mark.parametrize("name", DISCRETE)
def test_discrete_parameters(name: str) -> None:
    """With p mixed in, as the value 0 may be drawn too; and its columns together, as one draw decides over both."""
    values = drawn(name)[0]
    columns = DISCRETE[name]
    for column, probabilities in zip(values.T, columns):
        expected = {k: P * share + (1 - P) * (k == 0) for k, share in probabilities.items()}
        observed = [np.count_nonzero(column == k) for k in expected]
        assert sum(observed) == N
        assert st.chisquare(observed, N * np.array(list(expected.values()))).pvalue > LEAST
    stays = P * math.prod(column[0] for column in columns) + 1 - P
    assert st.binomtest(int((values == 0).all(1).sum()), N, stays).pvalue > LEAST


@pytest.mark.parametrize("name", ["xint", "xfrac", "cutout"])
def test_columns_are_uncorrelated(name: str) -> None:
    values = drawn(name, p=1.0)[0][:, -2:]
    assert st.pearsonr(*values.T).pvalue > LEAST  # pyright: ignore[reportAttributeAccessIssue]


def test_rotation_fires_before_or_after_with_probability_p() -> None:
    before, after = (values[:, 0] != 0 for values in drawn("rotate"))
    assert st.binomtest(int((before | after).sum()), N, P).pvalue > LEAST
    assert st.binomtest(int((before & after).sum()), N, THIS_OFTEN**2).pvalue > LEAST


def test_the_second_rotation_comes_after_the_anisotropic_scaling() -> None:
    pipeline = AugmentPipeline(AugmentConfig(tuple(TRANSFORMS)), channels=3, resolution=(H, W))
    names = [name for name, _ in pipeline.parameters(1, 0.5, generator=torch.Generator())]
    assert names[3:8] == ["scale", "rotate", "aniso", "rotate", "xfrac"]
    assert [name for i, name in enumerate(names) if i != 6] == list(TRANSFORMS)


def test_transforms_fire_independently() -> None:
    fired = np.stack([(v != 0).any(1) for v in drawn("scale", "aniso", "xfrac", "hue", "band1", "noise", "cutout")])
    correlations = np.corrcoef(fired)[np.triu_indices(len(fired), 1)]
    assert np.abs(correlations).max() < 4.5 / math.sqrt(N)


def test_p_one_always_fires() -> None:
    for values in drawn("scale", "rotate", "aniso", "hue", p=1.0):
        assert (values != 0).all()


def test_noise_has_the_drawn_deviation() -> None:
    pipeline = AugmentPipeline(AugmentConfig(("noise",)), channels=3, resolution=(H, W))
    draw = pipeline.draw(1, 1.0, generator=torch.Generator().manual_seed(3), percentile=0.9)
    assert draw.noise is not None
    sigma = 0.1 * abs(st.norm.ppf(0.9)) / math.sqrt(2)
    assert st.kstest(draw.noise.flatten().numpy(), st.norm(0, sigma).cdf).pvalue > LEAST


@pytest.mark.parametrize("q", [0.3, 0.9])
def test_percentile_replaces_every_variate(q: float) -> None:
    pipeline = AugmentPipeline(AugmentConfig(("rotate", "hue", "saturation")), channels=3, resolution=(H, W))
    rotate, again, hue, saturation = (
        values for _, values in pipeline.parameters(2, 0.0, generator=torch.Generator(), percentile=q)
    )
    angle = torch.full((2, 1), (2 * q - 1) * math.pi)
    assert torch.allclose(rotate, angle)
    assert torch.allclose(hue, angle)
    assert torch.equal(again, torch.zeros(2, 1))
    assert torch.allclose(saturation, torch.erfinv(torch.tensor(2 * q - 1)).expand(2, 1))
