"""Measured labels: their size steers both networks, in any unit, and classes are embedded as before."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from conftest import load_golden
from frugan.errors import FruganError
from frugan.label_parts import Measured, measure
from frugan.networks import (
    Discriminator,
    DiscriminatorConfig,
    Generator,
    GeneratorConfig,
    MappingConfig,
    SynthesisConfig,
    load_generator,
    save_generator,
    typical_labels,
)
from frugan.networks.labels import MeasuredEmbedding
from frugan.networks.layers import EqualizedLinear, normalize_2nd_moment

YEAR = Measured(0, "year", 2005.0, 8.0, 1990.0, 2020.0)
SMALL = SynthesisConfig(channel_base=64, channel_max=8)
G_CONFIG = GeneratorConfig((8, 8), 3, 1, 16, 16, MappingConfig(2), SMALL, (YEAR,))
D_CONFIG = DiscriminatorConfig(
    (8, 8), label_size=1, channel_base=64, channel_max=8, mapping=MappingConfig(0), measured=(YEAR,)
)


def networks(device: torch.device, *, measured: bool = True) -> tuple[Generator, Discriminator]:
    torch.manual_seed(0)
    columns = (YEAR,) if measured else ()
    G, D = Generator(replace(G_CONFIG, measured=columns)), Discriminator(replace(D_CONFIG, measured=columns))
    return G.to(device), D.to(device)


@pytest.mark.parametrize("measured", [True, False])
def test_magnitude_reaches_the_image_and_the_logit(measured: bool, device: torch.device) -> None:
    """The baseline is the paper's embedding, to which 1990 and 2020 are the same."""
    G, D = networks(device, measured=measured)
    years = torch.tensor([[1990.0], [1995.5], [2020.0]], device=device, requires_grad=True)
    z = torch.randn(1, 16, device=device).expand(3, -1)
    images, x = G(z, years, noise="const"), torch.randn(1, 3, 8, 8, device=device).expand(3, -1, -1, -1)
    logits = D(x, years)
    for out in (images.flatten(1), logits[:, None]):
        steps = (out[1:] - out[:-1]).abs().amax(dim=1) / out.abs().max()
        assert (steps > 1e-3).all() if measured else (steps < 1e-4).all()
    for out in (images.square().sum(), logits.square().sum()):
        (gradient,) = torch.autograd.grad(out, years, retain_graph=True)
        assert (gradient.abs() > 1e-6).all() if measured else (gradient.abs() < 1e-3).all()


UNITS = st.tuples(st.floats(-1e4, 1e4), st.sampled_from([1e-6, 1e-3, 1.0, 1e3, 1e6]))


@given(UNITS, st.integers(0, 9))
def test_the_unit_of_a_label_changes_nothing(unit: tuple[float, float], seed: int) -> None:
    offset, scale = unit
    rng = np.random.default_rng(seed)
    plain = rng.normal(size=(50, 2))
    other = scale * (plain + offset)
    outputs = []
    for values in (plain, other):
        torch.manual_seed(seed)
        embedding = MeasuredEmbedding(2, measure(values, [0, 1], ["a", "b"]), 8)
        outputs.append(embedding(torch.tensor(values, dtype=torch.float32)))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=max(1e-4, 2e-6 * abs(offset)))


@given(st.floats(-100, 100), st.floats(-100, 100))
def test_any_two_numbers_are_told_apart_at_equal_length(a: float, b: float) -> None:
    torch.manual_seed(0)
    embedding = MeasuredEmbedding(1, (Measured(0, "x", 0.0, 1.0, -1.0, 1.0),), 64)
    embedding.linear.weight.data = torch.eye(64, 10) * math.sqrt(10)
    one, other = normalize_2nd_moment(embedding(torch.tensor([[a], [b]]))).detach()
    assert float(one.square().mean()) == pytest.approx(float(other.square().mean()), rel=1e-4)
    near = abs(4 * math.asinh(a / 4) - 4 * math.asinh(b / 4))
    distance = float((one - other).square().mean().sqrt())
    assert distance > 0.2 * min(near, 1.0) - 1e-3


def test_parts_weigh_alike_however_many_classes_there_are() -> None:
    columns = (Measured(3, "x", 5.0, 2.0, 0.0, 9.0), Measured(500, "y", 0.0, 1.0, -1.0, 1.0))
    torch.manual_seed(0)
    embedding = MeasuredEmbedding(1000, columns, 256)

    def moved(column: int, value: float) -> float:
        c = torch.zeros(1, 1000)
        c[0, 0], c[0, 3] = 1, 5.0
        other = c.clone()
        if column == 0:
            other[0, 0], other[0, 7] = 0, 1
        else:
            other[0, column] += value
        return float((embedding(c) - embedding(other)).detach().square().mean())

    assert float(embedding(torch.eye(1000)[:1]).detach().square().mean()) == pytest.approx(1, rel=0.3)
    assert moved(3, 6.0) > 0.2 * moved(0, 1)
    assert moved(500, 3.0) > 0.2 * moved(0, 1)


def test_a_constant_column_has_no_influence() -> None:
    constant = measure(np.full((5, 1), 7.0), [0], ["x"])
    assert (constant[0].std, constant[0].mean) == (0, 7)
    embedding = MeasuredEmbedding(1, constant, 4)
    out = embedding(torch.tensor([[7.0], [1e9]]))
    torch.testing.assert_close(out[0], out[1])


def test_columns_that_are_not_there_are_refused() -> None:
    for columns in ((1,), (0, 0), ()):
        with pytest.raises(FruganError, match="measured label columns"):
            MeasuredEmbedding(1, tuple(replace(YEAR, column=column) for column in columns), 4)
    for change in ({"std": -1.0}, {"mean": math.nan}, {"column": -1}):
        with pytest.raises(FruganError, match="measured label 'year'"):
            replace(YEAR, **change)


@pytest.mark.parametrize("measured", [True, False])
def test_the_label_steers_after_a_few_steps(measured: bool) -> None:
    """A mapping network learns w → (year − 2005) / 8 from years as they are, also for years between those it saw."""
    torch.manual_seed(0)
    config = MappingConfig(2, lr_multiplier=1)
    G = Generator(replace(G_CONFIG, mapping=config, measured=(YEAR,) if measured else ()))
    head = EqualizedLinear(16, 1)
    optimizer = torch.optim.Adam([*G.mapping.parameters(), *head.parameters()], lr=0.02)
    years, unseen = torch.linspace(1990, 2020, 31)[:, None], torch.linspace(1991.5, 2018.5, 28)[:, None]
    for _ in range(100):
        loss = (head(G.mapping.features(torch.randn(31, 16), years)) - (years - 2005) / 8).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        found = head(G.mapping.features(torch.randn(28, 16), unseen))
    correlation = float(torch.corrcoef(torch.cat([found, unseen], dim=1).T)[0, 1])
    assert correlation > 0.95 if measured else correlation < 0.8


def test_a_kept_network_knows_its_scale(tmp_path: Path) -> None:
    G, _ = networks(torch.device("cpu"))
    save_generator(tmp_path, G)
    read = load_generator(tmp_path)
    assert read.config == G.config
    c = torch.tensor([1995.5])
    assert torch.equal(read.sample([1, 2], c=c), G.sample([1, 2], c=c))


def test_networks_without_measured_columns_are_the_papers() -> None:
    """Bit for bit: an embedding of the golden networks' kind has the same weights, names and values."""
    golden = load_golden("generator_1.npz")
    G = Generator(GeneratorConfig((8, 8), 3, 3, 16, 16, MappingConfig(2), SMALL))
    assert isinstance(G.mapping.embed, EqualizedLinear)
    assert "measured" not in golden["config"]
    assert {k for k in G.mapping.state_dict() if k.startswith("embed")} == {"embed.weight", "embed.bias"}
    assert GeneratorConfig((8, 8)).measured == DiscriminatorConfig((8, 8)).measured == ()


@pytest.mark.parametrize("classes", [0, 3])
def test_typical_labels_lie_in_the_range(classes: int) -> None:
    year = replace(YEAR, column=classes)
    rows: Tensor = typical_labels(classes + 1, (year,))
    assert rows[:, classes].min() >= 1990
    assert rows[:, classes].max() <= 2020
    assert len(rows[:, classes].unique()) > 5
    assert (rows[:, :classes].sum(1) == (1 if classes else 0)).all()
    assert torch.equal(typical_labels(3), torch.eye(3))
