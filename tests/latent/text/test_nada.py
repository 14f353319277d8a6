# pyright: reportArgumentType=false
"""StyleGAN-NADA: the child's images move along the change, by the chosen layers alone; the parent's mapping stays."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from frugan.errors import FruganError
from frugan.latent.direction import Identity
from frugan.latent.text.nada import AdaptConfig, adapt, change_to_images
from frugan.latent.text.styleclip import sample_ws
from frugan.networks import Generator
from tests.latent.text.test_styleclip import Colours


@pytest.mark.parametrize("layers", [None, 2])
def test_images_move_along_the_change(G: Generator, layers: int | None) -> None:
    model = Colours()
    before = {k: v.clone() for k, v in G.state_dict().items()}
    change = F.normalize(torch.eye(13)[0] - torch.eye(13)[4], dim=0)
    target = model.texts(["red"])[0]
    config = AdaptConfig(steps=30, batch=4, lr=0.02, layers=layers)
    snapshots = list(adapt(G, model, change, target, config, every=10))
    assert [s.step for s in snapshots] == [10, 20, 30]
    child = snapshots[-1].child
    ws = sample_ws(G, 16, 5, 1.0)
    moved = model.images(child.synthesis(ws, noise="const")) - model.images(G.synthesis(ws, noise="const"))
    assert float(F.cosine_similarity(moved, change[None]).mean()) > 0.4
    assert snapshots[-1].loss < 0.7
    changed = {k for k, v in child.state_dict().items() if not torch.equal(v, before[k])}
    assert all("conv" in name for name in changed)
    assert all(torch.equal(v, before[k]) for k, v in G.state_dict().items())
    assert Identity.of(G).relation(child) > 0.99
    times = snapshots[-1].chosen
    assert set(times) == {"3x5-conv1", "6x10-conv0", "6x10-conv1", "12x20-conv0", "12x20-conv1"}
    assert (sum(times.values()) == 30 * 5) == (layers is None)
    assert max(times.values()) == 30 or layers


def test_layers_are_chosen_by_the_w_that_they_read(G: Generator) -> None:
    """The convolution of the w that moves the text most is trained, a step at a time; never the last w, which none reads."""
    G = deepcopy(G)
    with torch.no_grad():
        G.synthesis.blocks[-1].torgb.affine.weight.mul_(20)
    model = Colours()
    target = model.texts(["red"])[0]
    config = AdaptConfig(steps=4, batch=2, layers=1)
    (last,) = list(adapt(G, model, target, target, config, every=4))
    ws = sample_ws(G, 64, 3, 1.0).clone().requires_grad_()
    (gradient,) = torch.autograd.grad((model.images(G.synthesis(ws, noise="const")) @ target).mean(), ws)
    moved = gradient.abs().mean(dim=(0, 2))
    assert moved.argmax() == G.num_ws - 1
    layer = max((s for s in G.synthesis.style_layers if s.kind != "torgb"), key=lambda s: moved[s.ws_index])
    name = f"{3 << layer.level}x{5 << layer.level}-{layer.kind}"
    assert last.chosen[name] >= 2
    assert sum(last.chosen.values()) == 4


def test_resumed(G: Generator, tmp_path: Path) -> None:
    """One that was left between two snapshots goes on from the last, bit for bit, counts included; another one begins anew."""
    model = Colours()
    change = F.normalize(torch.eye(13)[0] - torch.eye(13)[4], dim=0)
    target, config, state = model.texts(["red"])[0], AdaptConfig(steps=8, layers=2), tmp_path / "state"
    (*_, whole) = adapt(G, model, change, target, config, every=3)

    def stop(step: int, steps: int) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(adapt(G, model, change, target, config, every=3, state=state, progress=stop))
    steps: list[int] = []
    for snapshot in adapt(G, model, change, target, config, every=3, state=state):
        steps.append(snapshot.step)
        last = snapshot
    assert steps == [3, 6, 8]
    assert last.chosen == whole.chosen
    assert last.loss == whole.loss
    assert all(torch.equal(v, last.child.state_dict()[k]) for k, v in whole.child.state_dict().items())
    first = next(adapt(G, model, -change, target, config, every=1, state=state))
    assert first.step == 1


def test_towards_images(G: Generator) -> None:
    model = Colours()
    images = torch.full((3, 3, 16, 16), 0.5)
    change, target = change_to_images(G, model, images)
    assert float(change.norm()) == pytest.approx(1, abs=1e-5)
    assert torch.allclose(target, F.normalize(model.images(images).mean(0), dim=0), atol=1e-5)
    with pytest.raises(FruganError, match="ws to choose from"):
        next(adapt(G, model, change, target, AdaptConfig(layers=50)))
