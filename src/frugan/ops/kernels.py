"""Whether custom GPU kernels run here: Triton may be missing, or the C compiler that its launcher needs."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from frugan.errors import fault
from frugan.ops.operator import transformed

MOST_CHANNELS = 1024
"""Largest number of channels that fused kernels serve, since a tile of some of them holds all channels of its pixels."""

LAUNCH = {"enable_fp_fusion": True}
"""Options with which kernels are launched: products and sums may be fused (Triton's default; 3.9 warns unless it is asked for)."""


def fused(x: Tensor, usable: Callable[[torch.device], bool], channels: int | None = None) -> bool:
    """Whether operations on feature maps of x's dtype and device run as one kernel each.

    Args:
        x: feature maps `[N, C, H, W]`.
        usable: whether the kernels run on a device.
        channels: of the feature maps; None: those of x.
    """
    return (
        x.is_cuda
        and x.dtype in (torch.float32, torch.bfloat16, torch.float16)
        and (x.shape[1] if channels is None else channels) <= MOST_CHANNELS
        and not torch.compiler.is_exporting()
        and not transformed()
        and not torch.is_autocast_enabled("cuda")
        and usable(x.device)
    )


def runs(probe: Callable[[torch.device], bool], device: torch.device, otherwise: str) -> bool:
    """Whether a kernel gives the right result on a device; if it does not, a warning says so.

    Args:
        probe: a small computation with a known result on the device that it is given → whether the result is right.
        device: the GPU.
        otherwise: the beginning of the warning: the consequence of doing without the kernel.
    """
    try:
        with warnings.catch_warnings():  # of Triton's own import
            warnings.simplefilter("ignore")
            if probe(device):
                return True
        reason = "its results are wrong here"
    except Exception as error:  # no Triton, no C compiler, a GPU that it does not know
        reason = fault(error, "it fails here")
    warnings.warn(f"{otherwise} ({reason})", stacklevel=2)
    return False


def usable_where(probe: Callable[[torch.device], bool], otherwise: str) -> Callable[[torch.device], bool]:
    """A function that tells whether kernels run on a GPU, and asks `runs` once for each.

    The arguments are those of `runs`.
    """
    found = cache(lambda device: runs(probe, device, otherwise))
    return lambda device: found(device)  # a function of its own, which torch.compile can be told to take as constant
