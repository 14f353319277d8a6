"""Dragging: a blob whose place is its latent goes where it is pulled, is tracked exactly, and stays behind its mask."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from frugan.errors import FruganError
from frugan.latent.drag import DragConfig, disc, drag, sample
from frugan.networks import Generator
from frugan.networks.stylegan2.synthesis import LevelState

HEIGHT, WIDTH = 32, 48


class Blobs:
    """Two blobs: the first stands at ws[0, :2], the second at ws[1, :2], in features of their own and in the image."""

    sizes, use_noise = [(8, 12), (16, 24), (HEIGHT, WIDTH)], False

    def styles(self, ws: Tensor) -> list[Tensor]:
        return [ws]

    def levels(self, styles: list[Tensor], *, noise: str) -> Iterator[LevelState]:
        for h, w in self.sizes:
            y, x = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
            maps = []
            for centre in styles[0][0, :2, :2]:
                cx, cy = (centre + 0.5) * w / WIDTH
                maps.append(torch.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * (h / 8) ** 2)))
            yield LevelState(torch.stack(maps)[None], None)


TOY: Any = SimpleNamespace(synthesis=Blobs(), resolution=(HEIGHT, WIDTH), num_ws=6, w_dim=4)


def start() -> Tensor:
    ws = torch.zeros(1, 6, 4)
    ws[0, 0, :2] = torch.tensor([30.0, 12.0])
    ws[0, 1, :2] = torch.tensor([12.0, 20.0])
    return ws


def test_a_blob_goes_where_it_is_pulled() -> None:
    reports = list(drag(TOY, start(), [(30, 12)], [(38, 9)], DragConfig(steps=200, lr=0.2, level=2)))
    last = reports[-1]
    assert last.arrived
    assert last.step < 200
    assert torch.allclose(last.ws[0, 0, :2], torch.tensor([38.0, 9.0]), atol=1.6)
    assert float(last.distances) <= 1.0
    assert torch.allclose(last.handles[0], last.ws[0, 0, :2], atol=1.1)
    assert torch.equal(last.ws[0, 2:], start()[0, 2:])


def test_the_mask_holds_what_lies_outside() -> None:
    mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    mask[:, :20] = True  # the blob is not within what may change
    moved = []
    for given in (None, mask):
        *_, last = drag(
            TOY, start(), [(30, 12)], [(38, 9)], DragConfig(steps=40, lr=0.2, level=2, keep=200), mask=given
        )
        moved.append(float((last.ws[0, 0, :2] - start()[0, 0, :2]).norm()))
    assert moved[1] < 0.5 * moved[0]


def test_a_real_generator_comes_closer(G: Generator) -> None:
    ws = G.mapping(G.latents([1]))
    config = DragConfig(steps=30, lr=0.05)
    reports = list(drag(G, ws, [(5, 5)], [(9, 6)], config))
    assert min(float(r.distances) for r in reports) < float((torch.tensor([4.0, 1.0])).norm())
    assert torch.equal(reports[-1].ws[:, 2:], ws[:, 2:])  # features of the first level: its ws alone


def test_sampling_by_hand() -> None:
    maps = torch.arange(12.0).reshape(1, 1, 3, 4)
    places = torch.tensor([[0.0, 0.0], [1.5, 1.0], [3.0, 2.0], [9.0, 9.0]])
    assert sample(maps, places)[:, 0].tolist() == pytest.approx([0, 5.5, 11, 11], abs=1e-5)
    assert disc(1).tolist() == [[-1, 0], [0, -1], [0, 0], [0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("handles", "targets", "mask", "message"),
    [
        ([(3, 40)], [(3, 3)], None, r"\(3, 40\) lies outside the image, which is 48 pixels wide and 32 high"),
        ([(4, 3)], [], None, "as many of either"),
        ([], [], None, "give one or more"),
        ([(4, 3)], [(5, 5)], torch.ones(4, 4), "draw one of 32x48"),
    ],
)
def test_refusals(handles: list, targets: list, mask: Tensor | None, message: str) -> None:
    with pytest.raises(FruganError, match=message):
        next(drag(TOY, start(), handles, targets, mask=mask))
    with pytest.raises(FruganError, match="levels 0 to 2"):
        next(drag(TOY, start(), [(1, 1)], [(2, 2)], DragConfig(level=7)))
