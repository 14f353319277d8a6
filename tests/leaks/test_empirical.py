from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from frugan.augment import AugmentConfig, AugmentPipeline
from frugan.augment.measurements import quarter_turns
from frugan.errors import FruganError
from frugan.leaks import QUESTIONS, leak, recovery


def pictures(n: int, seed: int = 0) -> Tensor:
    """`[n, 3, 16, 16]`: a sky above, a ground below, a coloured disc to the left; positions and colours vary."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:16, :16]
    horizon = rng.integers(7, 12, n)[:, None, None]
    cx, cy, r = (rng.uniform(*span, n)[:, None, None] for span in ((3, 6), (4, 11), (2, 4)))
    disc = (x - cx) ** 2 + (y - cy) ** 2 < r**2
    sky = np.array([0.2, 0.4, 0.9])[:, None, None] + rng.normal(0, 0.1, (n, 3, 1, 1))
    ground = np.array([-0.4, -0.2, -0.7])[:, None, None] + rng.normal(0, 0.1, (n, 3, 1, 1))
    ball = np.array([0.9, -0.3, -0.5])[:, None, None] + rng.normal(0, 0.1, (n, 3, 1, 1))
    images = np.where((y < horizon)[:, None], sky, ground)
    images = np.where(disc[:, None], ball, images) + rng.normal(0, 0.03, (n, 3, 16, 16))
    return torch.from_numpy(images).float().clamp(-1, 1)


def planted(name: str, images: Tensor, share: float, seed: int = 1) -> Tensor:
    """The images, of which `share` are carried to the other states, evenly."""
    states = QUESTIONS[name].carry(images)
    rng = torch.Generator().manual_seed(seed)
    moved = torch.rand(len(images), generator=rng) < share
    where = torch.where(moved, torch.randint(1, len(states), (len(images),), generator=rng), 0)
    return torch.stack(states)[where, torch.arange(len(images))]


@pytest.mark.parametrize("name", QUESTIONS)
@pytest.mark.parametrize("share", [0.0, 0.2, 0.6])
def test_planted_leaks_are_found(name: str, share: float) -> None:
    samples = planted(name, pictures(1000, seed=5), share)
    samples = (samples + 0.1 * torch.randn(samples.shape, generator=torch.Generator().manual_seed(2))).clamp(-1, 1)
    found = leak(name, samples, pictures(1000))
    assert found.answerable
    assert found.share == pytest.approx(share, abs=max(4 * found.errors[0], 0.03))
    assert found.leaks == (share > 0)
    assert sum(found.shares) == pytest.approx(1, abs=0.05)
    assert found.sentence().startswith("leaks" if share else "no leak")


def test_symmetric_pictures_cannot_tell() -> None:
    images = pictures(600)
    images = torch.maximum(images, images.flip(3))
    found = leak("xflip", images[:300], images[300:])
    assert not found.answerable
    assert not found.leaks
    assert "cannot tell" in found.sentence()


def uniform_turns(p: float, seed: int = 0):
    rng = torch.Generator().manual_seed(seed)

    def augment(x: Tensor) -> Tensor:
        fires = torch.rand(len(x), generator=rng) < p
        turns = torch.where(fires, torch.randint(4, (len(x),), generator=rng), 0)
        return quarter_turns(x, torch.eye(4)[turns])

    return augment


@pytest.mark.parametrize("p", [0.3, 0.6, 1.0])
def test_recovery_of_a_group_is_one_minus_p(p: float) -> None:
    found = recovery(pictures(1500), uniform_turns(p))
    assert found.remains is not None
    assert found.remains == pytest.approx(1 - p, abs=0.08)
    assert found.leaks == (p == 1)


CERTAIN = {
    "a turn is undone": (lambda x: x.rot90(1, (2, 3)), False),
    "grey is not": (lambda x: x.mean(dim=1, keepdim=True).expand_as(x), True),
}


@pytest.mark.parametrize("name", CERTAIN)
def test_recovery_of_what_is_certain(name: str) -> None:
    augment, leaks = CERTAIN[name]
    found = recovery(pictures(900), augment)
    assert found.leaks == leaks
    assert found.remains == pytest.approx(0 if leaks else 1, abs=0.15)


def test_recovery_of_ada_itself() -> None:
    pipeline = AugmentPipeline(AugmentConfig(("rotate90",)), channels=3, resolution=(16, 16))
    rng = torch.Generator().manual_seed(0)
    found = recovery(pictures(1500), lambda x: pipeline(x, 0.5, generator=rng))
    assert found.remains == pytest.approx(0.5, abs=0.08)


def test_nothing_leaks_where_nothing_changes() -> None:
    found = recovery(pictures(900), lambda x: x)
    assert found.remains is None
    assert not found.leaks
    assert "nothing can leak" in found.sentence()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: leak("xflip", pictures(50), pictures(500)), "too few"),
        (lambda: recovery(pictures(50), lambda x: x), "too few"),
        (lambda: leak("rotate90", pictures(200)[:, :, :8], pictures(200)[:, :, :8]), "square"),
        (lambda: leak("hue", pictures(200)[:, :1], pictures(200)[:, :1]), "colour"),
    ],
)
def test_impossible(call, message: str) -> None:
    with pytest.raises(FruganError, match=message):
        call()
