"""A check whether custom GPU kernels run here: Triton may be missing, or the C compiler that its launcher needs."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch

from frugan.errors import fault


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
