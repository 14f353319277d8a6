"""Shares of augmented images among generated ones, estimated with their uncertainty."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from frugan.errors import FruganError
from frugan.leaks import QUESTIONS, Leak, measure_leaks, question_about
from frugan.leaks import shares as module
from frugan.leaks.shares import fitting

from .toy_images import toy_images


def simulated(name: str, images: Tensor, share: float, seed: int = 1) -> Tensor:
    """The images, of which `share` are carried to the other states, evenly."""
    states = QUESTIONS[name].carry(images)
    rng = torch.Generator().manual_seed(seed)
    moved = torch.rand(len(images), generator=rng) < share
    where = torch.where(moved, torch.randint(1, len(states), (len(images),), generator=rng), 0)
    return torch.stack(states)[where, torch.arange(len(images))]


def noisy(images: Tensor, sigma: float = 0.05) -> Tensor:
    return (images + sigma * torch.randn(images.shape, generator=torch.Generator().manual_seed(2))).clamp(-1, 1)


def by_name(found: list[Leak]) -> dict[str, Leak]:
    return {leak.name: leak for leak in found}


@pytest.fixture(scope="module")
def real() -> Tensor:
    return toy_images(600)


def test_states_are_what_they_are_called() -> None:
    """By PyTorch's own flips and turns, and by where one bright pixel goes."""
    x = toy_images(3)
    for name, expected in (("xflip", [x, x.flip(3)]), ("rotate90", [x.rot90(k, (2, 3)) for k in range(4)])):
        assert all(torch.equal(a, b) for a, b in zip(QUESTIONS[name].carry(x), expected, strict=True)), name
    assert torch.allclose(QUESTIONS["lumaflip"].carry(x)[1].mean(1), -x.mean(1), atol=1e-5)
    spot = torch.zeros(1, 1, 16, 16)
    spot[0, 0, 8, 8] = 1
    places = [tuple(image.flatten(2).argmax(2).flatten().tolist()) for image in QUESTIONS["translation"].carry(spot)]
    assert places == [(16 * 8 + 8,), (16 * 8 + 10,), (16 * 8 + 6,), (16 * 10 + 8,), (16 * 6 + 8,)]  # 2 of 16 pixels


@pytest.mark.parametrize(("name", "share"), [*((name, 0.2) for name in QUESTIONS), ("rotate90", 0.6)])
def test_a_simulated_leak_is_found_and_no_other(name: str, share: float, real: Tensor) -> None:
    found = by_name(measure_leaks(noisy(simulated(name, toy_images(600, seed=5), share)), real))
    assert found[name].share == pytest.approx(share, abs=0.08)
    assert found[name].low <= share <= found[name].high
    assert [x.name for x in found.values() if x.leaks] == [name]
    assert found[name].sentence().startswith(f"leaks {QUESTIONS[name].about}: ")
    assert sum(found[name].shares.values()) == pytest.approx(1)


SHAPES = {
    "wide": (3, 48, 64),
    "tall, grey": (1, 64, 48),
    "wide, opacity": (4, 48, 64),
    "tall, five channels": (5, 64, 48),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_a_simulated_leak_of_any_shape(kind: str) -> None:
    """Each question that such images can be asked finds its own leak, and no other one."""
    shape = SHAPES[kind]
    images, samples = toy_images(400, shape=shape), toy_images(400, seed=5, shape=shape)
    asked = fitting(shape[0], shape[1:])
    assert "rotate90" not in asked
    assert ("hue" in asked) == (shape[0] in (3, 4))
    for name in asked:
        found = by_name(measure_leaks(noisy(simulated(name, samples, 0.3)), images))
        assert found.keys() == asked.keys()
        assert found[name].share == pytest.approx(0.3, abs=0.1)
        assert [x.name for x in found.values() if x.leaks] == [name]
    assert not [x for x in measure_leaks(noisy(samples), images) if x.leaks]


def test_clean_samples_leak_nothing(real: Tensor) -> None:
    for leak in measure_leaks(noisy(toy_images(600, seed=5)), real):
        assert leak.answerable, leak
        assert not leak.leaks, leak
        assert leak.share < 0.05
        assert leak.sentence().startswith("no leak of")


def test_two_leaks_at_once(real: Tensor) -> None:
    samples = toy_images(600, seed=5)
    samples = torch.cat(
        [simulated("lumaflip", samples[:240], 1), simulated("rotate90", samples[240:360], 1), samples[360:]]
    )
    found = by_name(measure_leaks(noisy(samples), real))
    assert found["lumaflip"].share == pytest.approx(0.4, abs=0.06)
    assert found["rotate90"].share == pytest.approx(0.2, abs=0.06)
    assert {x.name for x in found.values() if x.leaks} == {"lumaflip", "rotate90"}


def test_poor_samples_are_no_leak(real: Tensor) -> None:
    """Blurs and grey, as of a generator that has learnt little, are neither mirrored nor turned."""
    blurred = F.avg_pool2d(F.pad(toy_images(600, seed=5), (3, 3, 3, 3), mode="reflect"), 7, 1)
    for samples in (blurred, 0.2 * toy_images(600, seed=5), blurred.mean(1, keepdim=True).expand_as(blurred)):
        assert not [x for x in measure_leaks(noisy(samples), real) if x.leaks]


def test_symmetric_images_cannot_tell() -> None:
    images = toy_images(600)
    images = torch.maximum(images, images.flip(3))
    images = noisy(images, 0.02)  # nearly symmetric
    found = by_name(measure_leaks(images[:300], images[300:]))["xflip"]
    assert not found.answerable
    assert not found.leaks
    assert "nearly symmetric" in found.sentence()


def test_a_function_of_ones_own(real: Tensor) -> None:
    def solarise(x: Tensor) -> Tensor:
        return torch.where(x > 0, -x, x)

    samples = toy_images(600, seed=5)
    samples[:240] = solarise(samples[:240])
    (found,) = measure_leaks(noisy(samples, 0.03), real, {"solarise": question_about("solarisation", solarise)})
    assert found.leaks
    assert found.share == pytest.approx(0.4, abs=0.06)
    assert "leaks solarisation" in found.sentence()


def test_few_images_are_carried_at_once(real: Tensor) -> None:
    """Large images in all states would need many times the memory of the set."""
    seen: list[int] = []

    def count(x: Tensor) -> Tensor:
        seen.append(len(x))
        return -x

    measure_leaks(real[:200], real[200:], {"negative": question_about("negatives", count)})
    assert sum(seen) == 400
    assert max(seen) <= 64


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: measure_leaks(toy_images(50), toy_images(500)), "too few"),
        (lambda: QUESTIONS["rotate90"].carry(toy_images(2)[:, :, :8]), "square"),
        (lambda: QUESTIONS["hue"].carry(toy_images(2)[:, :1]), "colour"),
    ],
)
def test_impossible(call, message: str) -> None:
    with pytest.raises(FruganError, match=message):
        call()


def test_only_questions_that_fit_are_asked() -> None:
    narrow = measure_leaks(toy_images(200)[:, :1, :, :12], toy_images(200, seed=1)[:, :1, :, :12])
    assert [leak.name for leak in narrow] == ["xflip", "translation"]


def test_the_interval_holds_the_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """95 %, and more for what no mixture explains: by answers drawn from known histograms, of which a fifth are mirrored."""
    monkeypatch.setattr(module, "_REPLICATES", 200)
    monkeypatch.setattr(module, "_STEPS", 60)
    rng = np.random.default_rng(0)
    parts = np.array([[1, 2, 3, 8, 1, 1, 1, 0.5], [1, 1, 1, 0.5, 1, 2, 3, 8], [4, 1, 1, 0.1, 4, 1, 1, 0.1]])
    parts /= parts.sum(1, keepdims=True)

    def answers(*_: object) -> tuple[np.ndarray, np.ndarray]:
        real = np.stack([rng.choice(8, 400, p=part) for part in parts], axis=1)
        return real, rng.choice(8, 400, p=0.8 * parts[0] + 0.2 * parts[1])

    monkeypatch.setattr(module, "_classify", answers)
    images = torch.zeros(100, 1, 4, 4)
    asked = {"xflip": QUESTIONS["xflip"]}
    found = [measure_leaks(images, images, asked, seed=i)[0] for i in range(60)]
    share, low, high = np.array([(leak.share, leak.low, leak.high) for leak in found]).T
    assert share.mean() == pytest.approx(0.2, abs=0.03)
    assert ((low <= 0.2) & (high >= 0.2)).mean() > 0.9
    assert (share - low).mean() > 1.6 * share.std()
    assert (high - share).mean() > 1.6 * share.std()
