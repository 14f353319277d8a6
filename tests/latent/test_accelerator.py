"""Projection, tuning, text edits and dragging on a fake accelerator: no tensors of two devices meet."""

from __future__ import annotations

import copy

import pytest
import torch

from frugan.latent.code import render_points
from frugan.latent.drag import DragConfig, drag
from frugan.latent.encoder import EncoderConfig, train_encoder
from frugan.latent.fitting.distances import Pixels
from frugan.latent.projection import ProjectionConfig, Target, project
from frugan.latent.statistics import compute_statistics
from frugan.latent.text import styleclip
from frugan.latent.text.nada import AdaptConfig, adapt
from frugan.latent.tuning import TuningConfig, tune
from tests.fake_device import NAME, needed, pretending
from tests.latent.conftest import make_generator
from tests.latent.text.test_styleclip import Colours

pytestmark = needed


class ColoursThere(Colours):
    def images(self, images: torch.Tensor) -> torch.Tensor:
        rough = torch.nn.functional.avg_pool2d(images, 8).flatten(1)
        ones = torch.ones(len(images), 1, device=images.device)
        return torch.nn.functional.normalize(torch.cat([rough, ones], 1), dim=1)


def test_everything_that_is_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    G = make_generator((16, 16))
    statistics = compute_statistics(G, samples=500, style_samples=50)
    images = G.sample([3])
    config = ProjectionConfig(steps_w=2, steps=2, noise="keep", start="mean")
    expected = project(G, images, Pixels(), statistics, config)
    text = Colours().texts(["red"])[0]
    with torch.autograd.set_multithreading_enabled(False), pretending(monkeypatch):
        D, model, there = copy.deepcopy(G).to(NAME), ColoursThere(), text.to(NAME)
        made = project(D, images, Pixels(), statistics, config)
        assert torch.allclose(made.last.ws.cpu(), expected.last.ws, atol=1e-3)
        (code,) = made.codes(D, ["a"])
        render_points(D, [code, 1])
        ws = made.last.ws
        tune(D, Target(images.to(NAME), Pixels()), ws, statistics, TuningConfig(steps=1))
        train_encoder(D, EncoderConfig(steps=1, batch=2, width=4))
        next(drag(D, ws, [(3, 3)], [(9, 9)], DragConfig(steps=1)))
        styleclip.optimise(D, model, ws, there, statistics, styleclip.OptimiseConfig(steps=1))  # pyright: ignore[reportArgumentType]
        mapper = styleclip.train_mapper(D, model, there, statistics, styleclip.MapperConfig(steps=1, batch=1))  # pyright: ignore[reportArgumentType]
        assert mapper(ws).device == ws.device
        relevance = styleclip.relevance_by_jacobian(D, model, statistics, ws)  # pyright: ignore[reportArgumentType]
        direction = styleclip.global_direction(D, statistics, relevance, there, channels=5, name="red")
        styleclip.relevance_by_differences(D, model, statistics, ws, torch.tensor([0, 1]))  # pyright: ignore[reportArgumentType]
        styleclip.strength_for(D, direction, ws, kept=0.1, most=1.0)
        styleclip.shared_direction(D, model, there, statistics, name="red", seeds=4)  # pyright: ignore[reportArgumentType]
        list(adapt(D, model, there, there, AdaptConfig(steps=1, layers=1)))  # pyright: ignore[reportArgumentType]
