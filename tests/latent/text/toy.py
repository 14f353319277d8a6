"""Linear toys, for which gradients, relevances and optima have closed forms."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from frugan.networks.stylegan2.synthesis import StyleLayer

D, C, L, PIXELS = 5, 7, 2, 3 * 4 * 4


class LinearSynthesis(nn.Module):
    """styles = mean over ws · B; image = ε·styles · W, small enough never to be clipped."""

    num_ws, sizes, use_noise = L, [(4, 4)], False
    style_layers = (StyleLayer(0, "conv1", 2, 0), StyleLayer(0, "conv0", C - 4, 0), StyleLayer(0, "torgb", 2, 1))

    def __init__(self) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(0)
        self.B = nn.Parameter(torch.randn(D, C, generator=rng))
        self.W = nn.Parameter(1e-3 * torch.randn(C, PIXELS, generator=rng))

    def styles(self, ws: Tensor) -> list[Tensor]:
        return list((ws.mean(1) @ self.B).split([2, C - 4, 2], dim=1))

    def render(self, styles: Sequence[Tensor], *, noise: object = None) -> Tensor:
        return (torch.cat(list(styles), 1) @ self.W).reshape(-1, 3, 4, 4)

    def forward(self, ws: Tensor, *, noise: object = None) -> Tensor:
        return self.render(self.styles(ws))


class LinearGenerator(nn.Module):
    num_ws, w_dim, z_dim, label_size, channels, resolution = L, D, D, 0, 3, (4, 4)
    config = SimpleNamespace(measured=())

    def __init__(self) -> None:
        super().__init__()
        self.synthesis = LinearSynthesis()
        self.mapping = LinearMapping()
        self.requires_grad_(False)


class LinearMapping(nn.Module):
    w_avg: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("w_avg", torch.zeros(D))

    def features(self, z: Tensor, c: Tensor | None) -> Tensor:
        return z

    def forward(self, z: Tensor, c: Tensor | None = None, *, truncation: float = 1.0) -> Tensor:
        return truncation * z[:, None].repeat(1, L, 1)


class LinearModel:
    """E(image) = 10³·image · A, not normalised, so that everything stays linear."""

    name, templates, dim = "linear", ("{}",), 6

    def __init__(self) -> None:
        self.A = torch.randn(PIXELS, self.dim, generator=torch.Generator().manual_seed(1))

    def images(self, images: Tensor) -> Tensor:
        return 1e3 * nn.functional.adaptive_avg_pool2d(images[:, :3], 4).flatten(1) @ self.A

    def texts(self, texts: Sequence[str]) -> Tensor:
        seeds = [sum(map(ord, text)) for text in texts]
        rows = [torch.randn(self.dim, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return nn.functional.normalize(torch.stack(rows), dim=1)


def make_model() -> LinearModel:
    """What `tests.latent.text.toy:make_model` names."""
    return LinearModel()


class Incomplete:
    name = "incomplete"
