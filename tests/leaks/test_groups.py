"""Groups of transforms: what they do to a distribution, and its inverse."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from frugan.augment import TRANSFORMS, AugmentConfig, AugmentPipeline
from frugan.errors import FruganError
from frugan.leaks import GROUPS, FiniteGroup, cyclic


def test_a_certain_turn_is_undone_exactly() -> None:
    """Orientations of (50, 15, 15, 20) %, all turned by 90°, are seen as (20, 50, 15, 15) %."""
    turn = cyclic([0, 1, 0, 0])
    seen = turn.apply([0.5, 0.15, 0.15, 0.2], 1.0)
    np.testing.assert_allclose(seen, [0.2, 0.5, 0.15, 0.15])
    np.testing.assert_allclose(turn.invert(seen, 1.0), [0.5, 0.15, 0.15, 0.2])  # pyright: ignore[reportArgumentType]
    assert turn.condition(1.0) == pytest.approx(1)


@pytest.mark.parametrize("name", GROUPS)
def test_uniform_draws(name: str) -> None:
    """(1 − p)·I + p·J/n: eigenvalues 1 and 1 − p, condition 1/(1 − p), singular at p = 1."""
    group = GROUPS[name]
    n = len(group.draw)
    for p in (0.0, 0.3, 0.8, 0.99):
        np.testing.assert_allclose(group.transition(p), (1 - p) * np.eye(n) + p / n, atol=1e-12)
        np.testing.assert_allclose(group.eigenvalues(p), [1] + [1 - p] * (n - 1), atol=1e-9)
        assert group.condition(p) == pytest.approx(1 / (1 - p))
    assert group.condition(1.0) == np.inf
    with pytest.raises(FruganError, match="leaks"):
        group.invert([1 / n] * n, 1.0)
    assert group.safe_p(5) == pytest.approx(0.8, abs=1e-6)


@pytest.mark.parametrize("name", GROUPS)
def test_the_draw_is_the_pipelines(name: str) -> None:
    group = GROUPS[name]
    pipeline = AugmentPipeline(AugmentConfig((name,)), channels=3, resolution=(16, 16))
    drawn = dict(pipeline.parameters(20000, 1.0, generator=torch.Generator().manual_seed(0)))[name][:, 0]
    shares = torch.bincount(drawn.long(), minlength=len(group.draw)) / len(drawn)
    np.testing.assert_allclose(shares, group.draw, atol=0.02)
    assert TRANSFORMS[name].variates == "u"


def test_an_uneven_draw_by_its_fourier_transform() -> None:
    """A circulant matrix has the discrete Fourier transform of its column as eigenvalues."""
    draw = [0.4, 0.3, 0.2, 0.1, 0.0]
    for p in (0.2, 0.7, 1.0):
        expected = np.fft.fft(p * np.array(draw) + (1 - p) * np.eye(5)[0])
        actual = cyclic(draw).eigenvalues(p)
        np.testing.assert_allclose(
            np.sort_complex(np.round(actual, 9)), np.sort_complex(np.round(expected, 9)), atol=1e-8
        )
        assert cyclic(draw).condition(p) == pytest.approx(abs(expected).max() / abs(expected).min())


def test_a_group_of_ones_own() -> None:
    """All permutations of three states, drawn evenly: the mean, which leaks at p = 1; and half of the time, which does not."""
    permutations = np.array([[0, 1, 2], [1, 0, 2], [0, 2, 1], [2, 1, 0], [1, 2, 0], [2, 0, 1]])
    group = FiniteGroup(permutations, np.full(6, 1 / 6))
    np.testing.assert_allclose(group.transition(1.0), np.full((3, 3), 1 / 3))
    assert group.condition(0.5) == pytest.approx(2)
    clean = [0.7, 0.2, 0.1]
    np.testing.assert_allclose(group.invert(group.apply(clean, 0.5), 0.5), clean)  # pyright: ignore[reportArgumentType]


def test_the_condition_number_is_numpys() -> None:
    group = cyclic([0.5, 0.3, 0.15, 0.05])
    for p in (0.2, 0.9):
        assert group.condition(p) == pytest.approx(np.linalg.cond(group.transition(p)))


def test_safe_p_of_a_draw_that_is_singular_inside() -> None:
    """A flip that is certain when it fires: at p = ½ both states look alike, and at p = 1 it is undone again."""
    flip = cyclic([0, 1])
    assert flip.condition(0.5) == np.inf
    assert flip.condition(1.0) == pytest.approx(1)
    assert flip.safe_p(3) == pytest.approx(1 / 3, abs=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cyclic([1.0]), "two elements"),
        (lambda: cyclic([0.5, 0.6]), "sum to 1"),
        (lambda: FiniteGroup(np.array([[0, 0]]), np.array([1.0])), "permutation"),
        (lambda: GROUPS["xflip"].transition(1.5), "between 0 and 1"),
        (lambda: GROUPS["xflip"].apply([0.5, 0.2], 0.1), "sum to 1"),
        (lambda: GROUPS["xflip"].safe_p(0.5), "1 or more"),
    ],
)
def test_impossible(call, message: str) -> None:
    with pytest.raises(FruganError, match=message):
        call()
