"""The stream of image numbers: complete, seeded, resumable, balanced on request."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from frugan.data.sampler import Sampler
from frugan.data.shards.sampler import ShardSampler
from frugan.errors import FruganError

INDICES = np.arange(100, 137)


def test_every_epoch_holds_every_index_once() -> None:
    sampler = Sampler(INDICES, seed=3)
    stream = np.concatenate([sampler.next(n) for n in (1, 36, 5, 32, 40, 0, 34)])
    assert stream.dtype == np.int64
    epochs = stream.reshape(4, 37)
    assert (np.sort(epochs, 1) == INDICES).all()
    assert len(np.unique(epochs, axis=0)) == 4


def test_seeds_differ_and_repeat() -> None:
    first, again, other = (Sampler(INDICES, seed=seed).next(500) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("before", [0, 5, 37, 74, 411])
def test_resume_continues_exactly(balanced: bool, before: int) -> None:
    classes = INDICES % 3 if balanced else None
    sampler = Sampler(INDICES, seed=7, classes=classes)
    sampler.next(before)
    state = json.loads(json.dumps(sampler.state_dict()))
    expected = sampler.next(200)
    resumed = Sampler(INDICES, seed=0, classes=classes)
    resumed.next(13)
    resumed.load_state_dict(state)
    np.testing.assert_array_equal(resumed.next(200), expected)


def test_how_much_is_drawn_at_once_does_not_matter() -> None:
    one, many = Sampler(INDICES, seed=5), Sampler(INDICES, seed=5)
    np.testing.assert_array_equal(one.next(300), np.concatenate([many.next(3) for _ in range(100)]))


def test_another_sets_state_is_refused() -> None:
    state = Sampler(INDICES).state_dict()
    with pytest.raises(FruganError, match="draws from 37 images but there are 10"):
        Sampler(np.arange(10)).load_state_dict(state)


def test_nothing_to_draw_from() -> None:
    with pytest.raises(FruganError, match="no images to draw from"):
        Sampler(np.zeros(0, np.int64))


def test_shuffling_is_uniform() -> None:
    """Which index comes first in an epoch: χ² over 5,000 epochs."""
    sampler = Sampler(np.arange(10), seed=0)
    firsts = np.array([sampler.next(10)[0] for _ in range(5000)])
    assert chisquare(np.bincount(firsts, minlength=10)).pvalue > 1e-3


def test_balanced_classes_are_equally_likely() -> None:
    """1 : 9 : 90 images per class come out 1 : 1 : 1, and each class's images equally often."""
    classes = np.repeat([0, 1, 2], [1, 9, 90])
    stream = Sampler(np.arange(100), seed=0, classes=classes).next(30_000)
    assert chisquare(np.bincount(classes[stream])).pvalue > 1e-3
    for c in (1, 2):
        counts = np.bincount(stream[classes[stream] == c], minlength=100)[classes == c]
        assert chisquare(counts).pvalue > 1e-3


@settings(deadline=None, max_examples=60)
@given(
    count=st.integers(1, 31),
    batches=st.lists(st.integers(1, 70), min_size=2, max_size=6),
    seed=st.integers(0, 99),
    kinds=st.sampled_from(["plain", "balanced", "windows"]),
)
def test_fewer_images_than_a_batch(count: int, batches: list[int], seed: int, kinds: str) -> None:
    """A batch holds an image twice only where all have been drawn as often, and a resume goes on exactly anywhere."""
    indices, groups = np.arange(count), np.arange(count) % 3

    def make() -> Sampler:
        if kinds == "windows":
            return ShardSampler(indices, groups, window=2, seed=seed)
        return Sampler(indices, seed=seed, classes=groups if kinds == "balanced" else None)

    sampler = make()
    drawn = []
    for n in batches:
        resumed = make()
        resumed.load_state_dict(json.loads(json.dumps(sampler.state_dict())))
        drawn.append(sampler.next(n))
        assert len(drawn[-1]) == n
        np.testing.assert_array_equal(resumed.next(n), drawn[-1])
    counts = np.bincount(np.concatenate(drawn), minlength=count)
    if kinds != "balanced":
        assert counts.max() - counts.min() <= 1
