# pyright: reportArgumentType=false
"""StyleCLIP against closed forms of a linear toy: relevances, directions, the optimum, the shared direction; the mapper; files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from frugan.errors import FruganError
from frugan.latent.direction import Direction, Identity
from frugan.latent.statistics import Statistics, compute_statistics
from frugan.latent.text import styleclip
from frugan.latent.text.search import find_seeds
from frugan.networks import Generator
from tests.latent.conftest import make_generator
from tests.latent.text.toy import C, D, L, LinearGenerator, LinearModel

MODEL = LinearModel()


@pytest.fixture(scope="module")
def toy() -> Any:
    return LinearGenerator()


@pytest.fixture(scope="module")
def statistics(toy: Any) -> Statistics:
    return compute_statistics(toy, samples=4000)


@pytest.fixture
def text() -> Tensor:
    return MODEL.texts(["a sad critter"])[0]


def gradient_of_styles(toy: Any) -> Tensor:
    """∂E/∂s, `[C, d]`: a constant."""
    return 1e3 * toy.synthesis.W @ MODEL.A


def test_relevances_are_the_gradients_of_a_linear_model(toy: Any, statistics: Statistics) -> None:
    """ΔI_c = the row's direction: of the paper's finite differences and of the Jacobian alike."""
    ws = styleclip.sample_ws(toy, 4, 0, 0.7)
    expected = F.normalize(gradient_of_styles(toy), dim=1)
    channels = torch.tensor([0, 3, 6])
    assert torch.allclose(
        styleclip.relevance_by_differences(toy, MODEL, statistics, ws, channels, batch=5), expected[channels], atol=1e-4
    )
    assert torch.allclose(styleclip.relevance_by_jacobian(toy, MODEL, statistics, ws), expected, atol=1e-4)


def test_a_global_direction_is_its_formula(toy: Any, statistics: Statistics, text: Tensor) -> None:
    """Δs_c = σ_c R_c / max|R|, R = ΔI·Δt, of so many channels, none of ToRGB."""
    relevance = F.normalize(gradient_of_styles(toy), dim=1)
    R = relevance @ text
    R[C - 2 :] = 0
    order = R.abs().argsort(descending=True)
    R[order[3:]] = 0
    expected = R / R.abs().max() * statistics.style_std
    found = styleclip.global_direction(toy, statistics, relevance, text, channels=3, name="sad")
    assert torch.allclose(found.vector * found.sigma, expected, atol=1e-5)
    assert found.source["channels"] == 3
    assert found.source["beta"] == pytest.approx(float((relevance @ text)[order[2]].abs()))
    whole = styleclip.global_direction(toy, statistics, relevance, text, channels=100, name="all")
    assert int((whole.vector != 0).sum()) == C - 2
    with pytest.raises(FruganError, match="no style channel"):
        styleclip.global_direction(toy, statistics, torch.zeros_like(relevance), text, channels=3, name="none")


def test_both_relevances_agree_on_a_real_generator(G: Generator) -> None:
    """Small steps of the finite differences around the images' own styles go to the Jacobian."""
    statistics = compute_statistics(G, samples=2000, style_samples=2000)
    model = Colours()
    ws = styleclip.sample_ws(G, 2, 0, 0.5)
    some = torch.nonzero(styleclip.convolution_channels(G)).flatten()[::7]
    first_order = styleclip.relevance_by_jacobian(G, model, statistics, ws)[some]
    differences = styleclip.relevance_by_differences(G, model, statistics, ws, some, step=1.0)
    assert float((first_order * differences).sum(1).mean()) > 0.5


def test_optimisation_reaches_its_optimum(toy: Any, statistics: Statistics, text: Tensor) -> None:
    """1 - ⟨E(w₀ + σm), t⟩ + λ mean m² is least at m = ½ (LD/λ) σ ∂⟨E, t⟩/∂w."""
    ws = styleclip.sample_ws(toy, 2, 0, 0.7)
    sigma = styleclip.w_deviation(statistics, "cpu")
    slope = (toy.synthesis.B @ gradient_of_styles(toy) @ text) / L
    keep = float(20 * (slope * sigma).abs().max() * L * D)
    optimum = 0.5 * L * D / keep * sigma * slope
    config = styleclip.OptimiseConfig(steps=400, lr=0.01, keep=keep)
    moved, _ = styleclip.optimise(toy, MODEL, ws, text, statistics, config)
    assert torch.allclose((moved - ws) / sigma, optimum.expand(2, L, D), atol=2e-3)


def test_optimisation_stops_at_the_wanted_similarity(toy: Any, statistics: Statistics, text: Tensor) -> None:
    ws = styleclip.sample_ws(toy, 2, 0, 0.7)
    config = styleclip.OptimiseConfig(steps=2000, lr=0.01, keep=0, wanted=1.0)
    moved, report = styleclip.optimise(toy, MODEL, ws, text, statistics, config)
    assert report.reached.all()
    assert report.step < 2000
    gain = (MODEL.images(toy.synthesis(moved)) - MODEL.images(toy.synthesis(ws))) @ text
    assert (gain >= 1.0 - 1e-3).all()
    assert (gain < 1.5).all()


def test_the_shared_direction_follows_the_gradient(toy: Any, statistics: Statistics, text: Tensor) -> None:
    """Of a linear model every step is the same: u along σ·∂⟨E, t⟩/∂s, so that styles move along σ² times it."""
    found = styleclip.shared_direction(toy, MODEL, text, statistics, name="sad", seeds=16)
    expected = statistics.style_std**2 * (gradient_of_styles(toy) @ text)
    expected[:2] = expected[C - 2 :] = 0  # the first style and ToRGB are left out
    assert float(F.cosine_similarity(found.vector, expected, dim=0)) == pytest.approx(1, abs=1e-4)


class Colours:
    """Mean colours and their spread, and a constant: a differentiable model of images without training."""

    name, templates = "colours", ("{}",)

    def images(self, images: Tensor) -> Tensor:
        rough = F.adaptive_avg_pool2d(images, 2).flatten(1)
        return F.normalize(torch.cat([rough, torch.ones(len(images), 1)], 1), dim=1)

    def texts(self, texts: list[str]) -> Tensor:
        return F.normalize(torch.cat([torch.eye(12)[: len(texts)], torch.ones(len(texts), 1)], 1), dim=1)


def test_methods_raise_the_similarity_of_a_real_generator(G: Generator, tmp_path: Path) -> None:
    statistics = compute_statistics(G, samples=2000, style_samples=2000)
    model, ws = Colours(), styleclip.sample_ws(G, 4, 9, 0.7)
    text = model.texts(["red"])[0]

    def similarity(moved: Tensor) -> float:
        return float((model.images(G.synthesis(moved, noise="const").clamp(-1, 1)) @ text).mean())

    before = similarity(ws)
    config = styleclip.OptimiseConfig(steps=30, keep=0.01)
    assert similarity(styleclip.optimise(G, model, ws, text, statistics, config)[0]) > before + 0.05
    mapper = styleclip.train_mapper(G, model, text, statistics, styleclip.MapperConfig(steps=60, batch=4))
    assert similarity(mapper(ws)) > before + 0.03
    styleclip.save_mapper(mapper, G, tmp_path)
    assert torch.equal(styleclip.load_mapper(tmp_path, G)(ws), mapper(ws))
    with pytest.raises(FruganError, match="another generator"):
        styleclip.load_mapper(tmp_path, make_generator((16, 16), seed=4))
    with pytest.raises(FruganError, match="no mapper"):
        styleclip.load_mapper(tmp_path / "none", G)
    relevance = styleclip.relevance_by_jacobian(G, model, statistics, ws)
    way = F.normalize(text - model.texts(["red", "other"])[1], dim=0)
    for direction in (
        styleclip.global_direction(G, statistics, relevance, way, channels=20, name="red"),
        styleclip.shared_direction(G, model, text, statistics, name="red", seeds=16),
    ):
        small = styleclip.strength_for(G, direction, ws, kept=0.1)
        large = styleclip.strength_for(G, direction, ws, kept=0.3)
        assert 0 < small < large
        by_text = styleclip.strength_for(G, direction, ws, model=model, text=text, wanted=0.01)
        assert 0 < by_text <= 40


def test_mapper_groups_leave_the_other_levels_alone() -> None:
    mapper = styleclip.Mapper(6, 4, ("coarse", "fine"))
    for parameter in mapper.parameters():
        torch.nn.init.normal_(parameter)
    moved = mapper.change(torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0)))
    assert (moved[:, 2:4] == 0).all()
    assert (moved[:, [0, 1, 4, 5]] != 0).all()
    with pytest.raises(FruganError, match="choose some of"):
        styleclip.Mapper(6, 4, ("rough",))


def test_strength_is_exact_where_the_change_is_linear(toy: Any, statistics: Statistics, text: Tensor) -> None:
    vector = F.normalize(gradient_of_styles(toy) @ text, dim=0)
    direction = Direction("d", "style", vector, 1.0, Identity.of(toy))
    ws = styleclip.sample_ws(toy, 3, 0, 0.7)
    slope = float(vector @ gradient_of_styles(toy) @ text)
    found = styleclip.strength_for(toy, direction, ws, model=MODEL, text=text, wanted=2 * slope)
    assert found == pytest.approx(2, rel=0.05)


def test_seeds_are_ranked_by_similarity(G: Generator) -> None:
    model = Colours()
    text = model.texts(["red"])[0]
    found = find_seeds(G, model, text, range(20), batch=6)
    expected = (model.images(G.sample(range(20))) @ text).sort(descending=True)
    assert sorted(f.seed for f in found) == list(range(20))
    assert found[0].seed == int(expected.indices[0])
    assert [f.similarity for f in found] == pytest.approx(expected.values.tolist(), abs=1e-5)
