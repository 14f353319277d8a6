"""Other people's packages, driven by their own losses. None is a dependency of frugan; without them their arms are skipped.

    pip install --no-deps --target peers stylegan2-pytorch stylegan2-torch einops kornia kornia_rs
    PYTHONPATH=peers python -m benchmarks

`--no-deps`, because they ask for much that their networks do not need. What they import and do not use here (torchvision,
aim, fire, …) is stood in for by empty modules; what stylegan2-torch can only compile for CUDA, by plain PyTorch.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from unittest.mock import MagicMock, patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frugan.networks.stylegan2.synthesis import level_channels
from frugan.ops.fir import upfirdn

LATENT, MAPPING_LAYERS = 512, 2
PATH_LENGTH_DECAY = 0.01


@dataclass(frozen=True)
class Peer:
    """A generator (mapping included) and a discriminator, and the package's own losses around them."""

    generators: nn.ModuleList
    D: nn.Module
    generate: Callable[[int], tuple[Tensor, Tensor]]
    """n → images `[n, C, H, W]`, and the styles that the path length is taken by."""
    judge: Callable[[Tensor], Tensor]
    loss_g: Callable[[Tensor], Tensor]
    loss_d: Callable[[Tensor, Tensor], Tensor]
    """logits of real and of generated images → loss"""
    r1: Callable[[Tensor, Tensor], Tensor]
    """real images, their logits → penalty"""
    path_length: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
    """images, styles, running mean → penalty and the new mean"""
    channels: int = 3


def _stand_in(name: str, **members: object) -> None:
    module = ModuleType(name)
    vars(module).update(members, __path__=[])
    sys.modules[name] = module


def lucidrains(size: int, channel_base: int, channel_max: int, device: str) -> Peer:
    """`stylegan2-pytorch`. Its widths double from `capacity`; G's and D's are chosen to be ours at every resolution."""
    for name in ("fire", "aim", "torchvision", "torchvision.transforms", "vector_quantize_pytorch"):
        if name not in sys.modules:
            sys.modules[name] = MagicMock()
    with patch(
        "torch.cuda.is_available", lambda: True
    ):  # it refuses to be imported without a GPU, and computes without
        package = importlib.import_module("stylegan2_pytorch.stylegan2_pytorch")
    width = channel_base // size
    mapping = package.StyleVectorizer(LATENT, MAPPING_LAYERS)
    G = package.Generator(size, LATENT, network_capacity=width // 2, fmap_max=channel_max)
    D = package.Discriminator(size, network_capacity=width // 4, fmap_max=channel_max)
    nets = nn.ModuleList([mapping, G, D]).to(device)

    def generate(n: int) -> tuple[Tensor, Tensor]:
        w = mapping(torch.randn(n, LATENT, device=device))[:, None].expand(-1, G.num_layers, -1)
        return G(w, torch.rand(n, size, size, 1, device=device)), w

    def path_length(images: Tensor, w: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        lengths = package.calc_pl_lengths(w, images)
        return (lengths - mean).square().mean(), mean.lerp(lengths.detach().mean(), PATH_LENGTH_DECAY)

    return Peer(
        generators=nets[:2],
        D=D,
        generate=generate,
        judge=lambda images: D(images)[0],
        loss_g=lambda logits: package.gen_hinge_loss(logits, None),
        loss_d=lambda real, fake: package.hinge_loss(fake, real),
        r1=lambda images, logits: package.gradient_penalty(images, logits),
        path_length=path_length,
    )


def ppeetteerrs(size: int, channel_base: int, channel_max: int, device: str) -> Peer:
    """`stylegan2-torch`. Its networks have one image channel."""
    _stand_in(
        "torch_conv_gradfix",
        conv2d=F.conv2d,
        conv_transpose2d=F.conv_transpose2d,
        no_weight_grad=contextlib.nullcontext,
    )
    _stand_in("stylegan2_torch.op")
    _stand_in("stylegan2_torch.op.upfirdn2d", upfirdn2d=_upfirdn2d)
    _stand_in("stylegan2_torch.op.fused_act", fused_leaky_relu=_fused_leaky_relu, FusedLeakyReLU=_FusedLeakyReLU)
    package = importlib.import_module("stylegan2_torch")
    sizes = [4 << level for level in range(size.bit_length() - 2)]
    widths = {side: level_channels(level, channel_base, channel_max) for level, side in enumerate(sizes)}
    G = package.Generator(size, LATENT, MAPPING_LAYERS, channels=widths).to(device)
    D = package.Discriminator(size, channels=widths).to(device)

    def generate(n: int) -> tuple[Tensor, Tensor]:
        return G([torch.randn(n, LATENT, device=device)], return_latents=True)

    return Peer(
        generators=nn.ModuleList([G]),
        D=D,
        generate=generate,
        judge=D,
        loss_g=package.g_loss,
        loss_d=package.d_loss,
        r1=lambda images, logits: package.d_reg_loss(logits, images),
        path_length=lambda images, w, mean: package.g_reg_loss(images, w, mean, PATH_LENGTH_DECAY)[:2],
        channels=1,
    )


PEERS = {"stylegan2-pytorch": lucidrains, "stylegan2-torch": ppeetteerrs}


def _upfirdn2d(x: Tensor, kernel: Tensor, up: int = 1, down: int = 1, pad: tuple[int, int] = (0, 0)) -> Tensor:
    return upfirdn(x, kernel, up=up, down=down, padding=(*pad, *pad))


def _fused_leaky_relu(x: Tensor, bias: Tensor | None) -> Tensor:
    y = x if bias is None else x + bias.view(1, -1, *[1] * (x.ndim - 2))
    return F.leaky_relu(y, 0.2) * 2**0.5


class _FusedLeakyReLU(nn.Module):
    def __init__(self, channels: int, bias: bool = True) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return _fused_leaky_relu(x, self.bias)


def training_steps(peer: Peer, size: int, batch: int, device: str) -> Iterator[None]:
    """Our four phases at our intervals (path length each 4th step on half a batch, R1 each 16th), without augmentation.

    In the peers' favour: no gradient of the network at rest, fakes for D without a graph, fused Adam.
    """
    parts = {"G": peer.generators, "D": nn.ModuleList([peer.D])}
    optimizers = {
        name: torch.optim.Adam(net.parameters(), lr=0.0025, betas=(0.0, 0.99), fused=True)
        for name, net in parts.items()
    }
    averages = [p.detach().clone() for p in peer.generators.parameters()]
    mean = torch.zeros((), device=device)
    real = torch.rand(batch, peer.channels, size, size, device=device) * 2 - 1

    def update(name: str, loss: Tensor) -> None:
        loss.backward()
        optimizers[name].step()
        optimizers[name].zero_grad(set_to_none=True)

    step = 0
    while True:
        parts["D"].requires_grad_(False)
        update("G", peer.loss_g(peer.judge(peer.generate(batch)[0])))
        if step % 4 == 0:
            penalty, mean = peer.path_length(*peer.generate(batch // 2), mean)
            update("G", penalty * 8)
        parts["D"].requires_grad_(True)
        with torch.no_grad():
            fake = peer.generate(batch)[0]
        update("D", peer.loss_d(peer.judge(real), peer.judge(fake)))
        if step % 16 == 0:
            images = real.clone().requires_grad_(True)
            update("D", peer.r1(images, peer.judge(images)) * 16)
        torch._foreach_lerp_(averages, [p.detach() for p in peer.generators.parameters()], 0.002)
        step += 1
        yield
