"""Operators of our own: what compiled code takes as one whole, with the derivative that we give it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, library


def transformed() -> bool:
    """Whether a transform of `torch.func` is at work: under it an operator of one's own has no derivative (PyTorch 2.13)."""
    return torch._C._are_functorch_transforms_active()


def operator(
    name: str,
    compute: Callable[..., Tensor],
    backward: Callable[..., Any],
    keep: Callable[[Any, tuple[Any, ...], Tensor], None],
    shape: Callable[..., Tensor] | None = None,
) -> Callable[..., Tensor]:
    """`compute` as an operator, registered as `frugan::name`; its arguments are annotated, its result shares no memory with them.

    `keep(ctx, inputs, output)` saves what `backward(ctx, gradient)` needs, which is differentiable if it is made of such
    operators. `shape` gives an empty result of the right shape; without it `compute` must not look at values.
    """
    qualified = f"frugan::{name}"
    library.define(qualified, library.infer_schema(compute, mutates_args=()))
    library.impl(qualified, "CompositeExplicitAutograd", compute)
    library.register_fake(qualified, shape or compute)
    library.register_autograd(qualified, backward, setup_context=keep)
    return getattr(
        torch.ops.frugan, name
    ).default  # (`custom_op` does the same, and checks every call, for twice the price)
