"""Penalties: R1 and gradient penalties on the discriminator, LeCam's, and path length on the generator.

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
    """∇ₓ f(x) of a scalar function, shaped like x, itself differentiable.

    In compiled code this is autograd's gradient (under `AUTOGRAD_TRACED`) where x itself requires one, otherwise that
    of `torch.func.grad`, which uses PyTorch's own derivatives of convolutions: slower and less exact.
    """
    if torch.compiler.is_compiling() and not x.requires_grad:
        return torch.func.grad(f)(x)
    with torch.enable_grad(), image_gradients():
        x = x if x.requires_grad else x.detach().requires_grad_()
        return torch.autograd.grad(f(x), x, create_graph=True)[0]


def gradient_norm(critic: Critic, images: Float[Tensor, "N C H W"]) -> Float[Tensor, " N"]:
    """The squared norm ‖∇ₓ D(x)‖² for each image, summed over its pixels and channels: `[N, C, H, W]` → `[N]`."""
    grad = input_gradient(lambda x: critic(x).sum(), images)
    return grad.square().sum(dim=(1, 2, 3))


def r1_penalty(critic: Critic, images: Float[Tensor, "N C H W"], gamma: float) -> Float[Tensor, ""]:
    """R1: γ/2 · mean ‖∇ₓ D(x)‖² (Mescheder et al., "Which Training Methods for GANs do actually Converge?", 2018, eq. 9).

    Args:
        critic: images → logits `[N]`.
        images: real images `[N, C, H, W]` (generated ones for R2).
        gamma: γ, 0 or more.
    """
    return gradient_norm(critic, images).mean() * (gamma / 2)


def gradient_penalty(critic: Critic, images: Float[Tensor, "N C H W"], target: float = 1.0) -> Float[Tensor, ""]:
    """WGAN-GP's penalty: mean (‖∇ₓ D(x)‖ − target)² (Gulrajani et al., "Improved Training of Wasserstein GANs", 2017, eq. 3).

    Args:
        critic: images → logits `[N]`.
        images: `[N, C, H, W]`, random points between real and generated images.
        target: the norm that is not penalised.
    """
    norm = (gradient_norm(critic, images) + 1e-12).sqrt()  # the root has no gradient at 0
    return (norm - target).square().mean()


def lecam_penalty(
    real: Float[Tensor, " N"], fake: Float[Tensor, " N"], means: Float[Tensor, " 2"]
) -> Float[Tensor, ""]:
    """LeCam's penalty: mean (D(x) − α_F)² + mean (D(G(z)) − α_R)².

    Tseng et al., "Regularizing Generative Adversarial Networks under Limited Data", 2021, eq. 3.

    Args:
        real: logits D(x) of real images, `[N]`.
        fake: logits D(G(z)) of generated images, `[N]`.
        means: (α_R, α_F), `[2]`: moving averages of both kinds of logits.
    """
    return (real - means[1]).square().mean() + (fake - means[0]).square().mean()


def path_length_noise(image_shape: torch.Size, generator: torch.Generator) -> Float[Tensor, "N C H W"]:
    """y ~ N(0, I)/√(H·W) of that shape `[N, C, H, W]`, on the generator's device: a random direction in image space."""
    y = torch.randn(image_shape, generator=generator, device=generator.device)
    return y / math.sqrt(image_shape[2] * image_shape[3])


def path_lengths(synthesis: Critic, ws: Float[Tensor, "N L D"], y: Float[Tensor, "N C H W"]) -> Float[Tensor, " N"]:
    """Path lengths ‖Jᵀy‖, J being the Jacobian of the image by w: root mean square over the L layers (Karras et al.
    2020, eq. 4).

    Args:
        synthesis: ws `[N, L, D]` → images `[N, C, H, W]`.
        ws: `[N, L, D]`.
        y: a random direction in image space, `[N, C, H, W]` (`path_length_noise`).

    Returns:
        `[N]`
    """
    grad = input_gradient(lambda ws: (synthesis(ws) * y).sum(), ws)
    return grad.square().sum(dim=2).mean(dim=1).sqrt()


def path_length_penalty(
    lengths: Float[Tensor, " N"], mean: Float[Tensor, ""], decay: float = 0.01
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """The path-length penalty, mean (length − a′)² with the moved running mean a′ = a + decay·(mean length − a), and a′.

    The penalty's gradient passes through a′ too, as in the published runs; the a′ that is returned for the next step is
    detached. In a minibatch of K micro-batches each has an a′ of its own, from its own lengths. The mean of these is
    the a′ of the whole minibatch, and the mean gradient differs from the whole minibatch's by 2·decay·(2 − decay) times
    the covariance over micro-batches of mean length and its gradient (docs/explanation/differences.md).

    Args:
        lengths: `[N]`.
        mean: a, the running mean, 0-d.
        decay: in [0, 1].

    Returns:
        The penalty and a′, both 0-d.
    """
    moved = mean.lerp(lengths.mean(), decay)
    return (lengths - moved).square().mean(), moved.detach()
