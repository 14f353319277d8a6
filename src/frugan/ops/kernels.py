"""Whether kernels of our own run on a GPU: Triton may be missing, or the C compiler that it needs for its launcher."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch


def runs(probe: Callable[[torch.device], bool], device: torch.device, otherwise: str) -> bool:
    """Whether `probe(device)`, a small computation with a known result, is right; if not, a warning says `otherwise` and why."""
    try:
        with warnings.catch_warnings():  # of Triton's own import
            warnings.simplefilter("ignore")
            if probe(device):
                return True
        reason = "its results are wrong here"
    except Exception as error:  # no Triton, no C compiler, a GPU that it does not know
        first = str(error).strip().splitlines()[:1] or [""]
        reason = f"{type(error).__name__}: {first[0]}"
    warnings.warn(f"{otherwise} ({reason})", stacklevel=2)
    return False
