"""The mapping network: latents z and labels c in, intermediate latents w out (Karras et al. 2019, section 2)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from frugan.checks import check_fields
from frugan.errors import FruganError
from frugan.label_parts import Measured
from frugan.networks.labels import MeasuredEmbedding
from frugan.networks.layers import EqualizedLinear, normalize_2nd_moment
from frugan.networks.limits import Layers, Multiplier, Width

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True)
class MappingConfig:
    """The shape of a mapping network.

    Attributes:
        num_layers: 0 or more.
        layer_features: width of the hidden layers; None: w_dim.
        lr_multiplier: factor on the effect of an optimiser step, against other layers.
    """

    num_layers: Layers = 8
    layer_features: Width | None = None
    lr_multiplier: Multiplier = 0.01

    def __post_init__(self) -> None:
        check_fields(self, lambda name: f"mapping network: {name}")

    def num_weights(self, inputs: int, label_size: int, outputs: int) -> int:
        """The number of weights, without biases, of a mapping network from `inputs` features and `label_size` labels to
        `outputs` features.
        """
        hidden, embedding = self.layer_features or outputs, outputs if label_size else 0
        layers = [inputs + embedding, *[hidden] * (self.num_layers - 1), outputs][: self.num_layers + 1]
        return label_size * embedding + sum(before * after for before, after in pairwise(layers))


class Mapping(nn.Module):
    """Mapping network: z `[N, z_dim]` and labels c `[N, K]` → ws `[N, num_ws, w_dim]` (StyleGAN2; labels as in StyleGAN2-ADA).

    Args:
        z_dim: 0 for a network of labels alone, as a conditional discriminator needs: use `features(None, c)`.
        label_size: K; 0 for a network without labels.
        w_dim: width of w.
        num_ws: number of copies of w, one for each layer of the synthesis network that reads one.
        config: number and width of the layers.
        measured: columns of the labels that are numbers in their own units, embedded by `MeasuredEmbedding`.
        track_average: whether it keeps a running average of w, for truncation.
    """

    w_avg: Tensor

    def __init__(
        self,
        z_dim: int,
        label_size: int,
        w_dim: int,
        num_ws: int,
        config: MappingConfig,
        *,
        measured: tuple[Measured, ...] = (),
        track_average: bool = True,
    ) -> None:
        super().__init__()
        self.z_dim, self.label_size, self.w_dim, self.num_ws = z_dim, label_size, w_dim, num_ws
        self.num_layers = config.num_layers
        embedding = w_dim if label_size else 0
        hidden = config.layer_features or w_dim
        widths = [z_dim + embedding, *[hidden] * (config.num_layers - 1), w_dim][: config.num_layers + 1]
        if config.num_layers == 0 and z_dim + embedding != w_dim:
            raise FruganError(
                f"a mapping network of 0 layers needs inputs as wide as w ({w_dim}), not {z_dim + embedding}"
            )
        if label_size:
            plain = not measured
            self.embed = EqualizedLinear(label_size, w_dim) if plain else MeasuredEmbedding(label_size, measured, w_dim)
        for i, (before, after) in enumerate(pairwise(widths)):
            layer = EqualizedLinear(before, after, lr_multiplier=config.lr_multiplier, activation="lrelu")
            self.add_module(f"fc{i}", layer)
        if track_average:
            self.register_buffer("w_avg", torch.zeros(w_dim))

    def features(self, z: Float[Tensor, "N Z"] | None, c: Float[Tensor, "N K"] | None) -> Float[Tensor, "N D"]:
        """w `[N, w_dim]` from z `[N, z_dim]` and c `[N, K]`. Raises `FruganError` for labels of another size."""
        parts = [] if z is None else [normalize_2nd_moment(z.float())]
        if self.label_size:
            if c is None or c.shape[-1] != self.label_size:
                given = "none" if c is None else f"of size {c.shape[-1]}"
                raise FruganError(f"this network needs labels of size {self.label_size}, got {given}")
            parts.append(normalize_2nd_moment(self.embed(c.float())))
        x = torch.cat(parts, dim=1)
        for i in range(self.num_layers):
            x = self.get_submodule(f"fc{i}")(x)
        return x

    def forward(
        self,
        z: Float[Tensor, "N Z"],
        c: Float[Tensor, "N K"] | None = None,
        *,
        truncation: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> Float[Tensor, "N L D"]:
        """ws `[N, num_ws, w_dim]`, truncated: w_avg + ψ·(w − w_avg).

        Args:
            z: `[N, z_dim]`, standard normal.
            c: labels `[N, K]`, or None for a network without.
            truncation: ψ; 1 is none.
            truncation_cutoff: the number of the first layers that are truncated; None: all.
        """
        ws = self.features(z, c)[:, None].repeat(1, self.num_ws, 1)
        if truncation == 1:
            return ws
        head = ws[:, :truncation_cutoff]
        return torch.cat([self.w_avg.lerp(head, truncation), ws[:, head.shape[1] :]], dim=1)

    @torch.no_grad()
    def update_average(self, w: Tensor, decay: float = 0.995) -> None:
        """Moves the running average of w (used by truncation) towards the mean of w `[N, w_dim]`."""
        self.w_avg.lerp_(w.detach().float().mean(dim=0), 1 - decay)
