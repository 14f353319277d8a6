"""Optional terms of the losses: which an objective has, what they draw, and their closed forms for a linear critic."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from frugan.config.methods import METHODS
from frugan.losses import TERMS, ObjectiveConfig, Seen, Term, terms_of

N, SHAPE = 6, (2, 4, 4)
WEIGHT = torch.linspace(-1, 1, 32).reshape(SHAPE)


class Half:
    """An augmentation that halves an image, and draws which of them."""

    def draw(self, n: int, p: float | Tensor, *, generator: torch.Generator) -> Tensor:
        return (torch.rand(n, generator=generator) < p).float()

    def apply(self, images: Tensor, draw: Tensor) -> Tensor:
        return images * (1 - draw / 2)[:, None, None, None]


def judge(x: Tensor) -> Tensor:
    """A linear critic: its gradient is `WEIGHT` everywhere."""
    return (x * WEIGHT).sum(dim=(1, 2, 3))


def rotation_logits(x: Tensor) -> Tensor:
    return torch.stack([x[:, 0, i, j] for i in (0, -1) for j in (0, -1)], dim=1)


def seen(seed: int) -> Seen:
    rng = torch.Generator().manual_seed(seed)
    images, perturbed = torch.randn(2, N, *SHAPE, generator=rng)
    return Seen(images, judge(images), judge, rotation_logits, lambda x: 3 * x, images / 3, perturbed)


def losses(objective: ObjectiveConfig) -> tuple[Any, Any, list[Any], Term]:
    (term,) = terms_of(objective, Half)
    rng = torch.Generator().manual_seed(0)
    drawn = [term.draw(N, rng) for _ in range(2)]
    means = torch.tensor([0.5, -0.25])
    return (
        term.discriminator_loss(REAL, FAKE, drawn[0], drawn[1], means),
        term.generator_loss(FAKE, drawn[1]),
        drawn,
        term,
    )


REAL, FAKE = seen(1), seen(2)


def test_an_objective_without_weights_has_no_terms() -> None:
    assert terms_of(ObjectiveConfig(), Half) == ()


def test_each_term_comes_from_a_method() -> None:
    """And of each method that sets weights, the terms carry all of them."""
    found: set[type[Term]] = set()
    for method in METHODS.values():
        terms = terms_of(ObjectiveConfig(**method.objective), Half)
        found |= {type(term) for term in terms}
        weights = {k: v for k, v in method.objective.items() if k in WEIGHTS}
        held = [value for term in terms for value in vars(term).values()]
        assert all(value in held for value in weights.values())
        assert bool(weights) == bool(terms)
    assert found == {*TERMS}


WEIGHTS = {
    field.name
    for field in fields(ObjectiveConfig)
    if field.name.startswith(
        ("consistency_r", "consistency_f", "latent_consistency_", "rotation_", "gradient_", "drift")
    )
    or field.name == "lecam"
} - {"consistency_reach"}


@pytest.mark.parametrize("name", ["consistency_real", "consistency_fake"])
def test_consistency(name: str) -> None:
    loss, none, drawn, _ = losses(replace(ObjectiveConfig(), **{name: 5.0}))
    kind, halved = (REAL, drawn[0]) if name == "consistency_real" else (FAKE, drawn[1])
    assert halved.all(), "taken at p = 1"
    torch.testing.assert_close(loss, 5 * (kind.logits / 2).square().mean())
    assert none == 0.0


def test_latent_consistency() -> None:
    objective = ObjectiveConfig(
        latent_consistency_sigma=0.3, latent_consistency_generator=2.0, latent_consistency_discriminator=7.0
    )
    d, g, drawn, term = losses(objective)
    assert drawn == [None, None]
    assert FAKE.perturbed is not None
    torch.testing.assert_close(d, 7 * (FAKE.logits - 3 * judge(FAKE.perturbed)).square().mean())
    torch.testing.assert_close(g, -2 * (FAKE.before - FAKE.perturbed).square().mean())
    step = term.draw_step(torch.zeros(10000, 2), torch.Generator().manual_seed(0))  # pyright: ignore[reportAttributeAccessIssue]
    assert step.std().item() == pytest.approx(0.3, rel=0.03)
    assert term.discriminator_loss(REAL, FAKE._replace(perturbed=None), None, None, torch.zeros(2)) == 0.0
    assert term.generator_loss(FAKE._replace(perturbed=None), None) == 0.0


@pytest.mark.parametrize("generator, discriminator", [(3.0, 0.0), (0.0, 4.0), (3.0, 4.0)])
def test_auxiliary_rotation(generator: float, discriminator: float) -> None:
    objective = ObjectiveConfig(rotation_generator=generator, rotation_discriminator=discriminator)
    d, g, drawn, _ = losses(objective)
    for loss, weight, kind, turned in ((d, discriminator, REAL, drawn[0]), (g, generator, FAKE, drawn[1])):
        k = turned.argmax(dim=1)
        assert turned.sum(dim=1).eq(1).all()
        images = torch.stack([x.rot90(int(i), (1, 2)) for x, i in zip(kind.images, k)])
        expected = -rotation_logits(images).log_softmax(dim=1)[torch.arange(N), k].mean()
        assert float(loss) == pytest.approx(weight * expected.item())


def test_gradient_penalty_and_drift() -> None:
    loss, none, drawn, _ = losses(ObjectiveConfig(gradient_penalty=10.0, drift=0.1))
    assert drawn[0].shape == (N, 1, 1, 1)
    expected = 10 * (WEIGHT.norm() - 1) ** 2 + 0.1 * REAL.logits.square().mean()
    torch.testing.assert_close(loss, expected)
    assert none == 0.0


def test_lecam() -> None:
    loss, none, _, _ = losses(ObjectiveConfig(lecam=2.0))
    expected = (REAL.logits + 0.25).square().mean() + (FAKE.logits - 0.5).square().mean()
    torch.testing.assert_close(loss, 2 * expected)
    assert none == 0.0


def test_defaults_are_the_published_values() -> None:
    """R1 and path lengths of StyleGAN2 and StyleGAN2-ADA; decay of LeCam; σ of zCR."""
    config = ObjectiveConfig()
    assert (config.r1_interval, config.path_length_interval, config.path_length_weight) == (16, 4, 2)
    assert (config.path_length_decay, config.path_length_shrink, config.style_mixing) == (0.01, 2, 0.9)
    assert (config.lecam_decay, config.latent_consistency_sigma) == (0.99, 0.1)
