"""Penalties: R1 and its kin on the discriminator, path length on the generator.

Each is a pure function of a callable and tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from frugan.ops.conv import image_gradients

if TYPE_CHECKING:
    from jaxtyping import Float

Critic = Callable[[Tensor], Tensor]

AUTOGRAD_TRACED = {"trace_autograd_ops": True} if torch.__version__ >= "2.11" else {}
"""With this in `torch._dynamo.config` the compiler traces `torch.autograd.grad`; empty where it cannot."""


def input_gradient(f: Critic, x: Tensor) -> Tensor:
    """∇ₓ f(x) of a scalar function, to be differentiated again; shaped like x.

    In compiled code this is autograd's gradient (under `AUTOGRAD_TRACED`) where x requires one by itself, otherwise that of
    `torch.func.grad`, which has to do with PyTorch's own derivatives of convolutions: slower and less exact.
    """
    if torch.compiler.is_compiling() and not x.requires_grad:
        return torch.func.grad(f)(x)
    with torch.enable_grad(), image_gradients():
        x = x if x.requires_grad else x.detach().requires_grad_()
        return torch.autograd.grad(f(x), x, create_graph=True)[0]


def gradient_norm(critic: Critic, images: Float[Tensor, "N C H W"]) -> Float[Tensor, " N"]:
    """‖∇ₓ D(x)‖² of each image, summed over its pixels and channels: `[N, C, H, W]` → `[N]`."""
    grad = input_gradient(lambda x: critic(x).sum(), images)
    return grad.square().sum(dim=(1, 2, 3))


def r1_penalty(critic: Critic, images: Float[Tensor, "N C H W"], gamma: float) -> Float[Tensor, ""]:
    """γ/2·mean ‖∇ₓ D(x)‖², a scalar (Mescheder et al., "Which Training Methods for GANs do actually Converge?", 2018, eq. 9)."""
    return gradient_norm(critic, images).mean() * (gamma / 2)


def gradient_penalty(critic: Critic, images: Float[Tensor, "N C H W"], target: float = 1.0) -> Float[Tensor, ""]:
    """Mean (‖∇ₓ D(x)‖ − target)² over images `[N, C, H, W]`, a scalar.

    Its place is between real and generated images (Gulrajani et al., "Improved Training of Wasserstein GANs", 2017, eq. 3).
    """
    norm = (gradient_norm(critic, images) + 1e-12).sqrt()  # the root has no gradient at 0
    return (norm - target).square().mean()


def lecam_penalty(
    real: Float[Tensor, " N"], fake: Float[Tensor, " N"], means: Float[Tensor, " 2"]
) -> Float[Tensor, ""]:
    """Mean (D(x) − α_F)² + mean (D(G(z)) − α_R)²: logits `[N]` and the moving averages (α_R, α_F) `[2]` → a scalar.

    Tseng et al., "Regularizing Generative Adversarial Networks under Limited Data", 2021, eq. 3.
    """
    return (real - means[1]).square().mean() + (fake - means[0]).square().mean()


def path_length_noise(image_shape: torch.Size, generator: torch.Generator) -> Float[Tensor, "N C H W"]:
    """y ~ N(0, I)/√(H·W), on the generator's device: a random direction in image space."""
    y = torch.randn(image_shape, generator=generator, device=generator.device)
    return y / math.sqrt(image_shape[2] * image_shape[3])


def path_lengths(synthesis: Critic, ws: Float[Tensor, "N L D"], y: Float[Tensor, "N C H W"]) -> Float[Tensor, " N"]:
    """‖Jᵀy‖ for each sample, root mean square over the L layers: ws `[N, L, D]`, y `[N, C, H, W]` → `[N]`.

    Karras et al. 2020, eq. 4.
    """
    grad = input_gradient(lambda ws: (synthesis(ws) * y).sum(), ws)
    return grad.square().sum(dim=2).mean(dim=1).sqrt()


def path_length_penalty(
    lengths: Float[Tensor, " N"], mean: Float[Tensor, ""], decay: float = 0.01
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Lengths `[N]` and their running mean a → (mean (length − a′)², a′), both 0-d, where a′ = a + decay·(mean length − a).

    The penalty's gradient passes through a′ too, as in the published runs; the a′ that is returned for the next step is
    detached. Of a minibatch in K micro-batches each has an a′ of its own, by its own lengths: the mean of these is the a′
    of the whole minibatch, and the mean gradient differs from the whole minibatch's by 2·decay·(2 − decay) times the
    covariance over micro-batches of mean length and its gradient (docs/explanation/differences.md).
    """
    moved = mean.lerp(lengths.mean(), decay)
    return (lengths - moved).square().mean(), moved.detach()
