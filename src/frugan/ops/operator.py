"""Custom PyTorch operators: functions that `torch.compile` treats as opaque, with a derivative given by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import library

Result = TypeVar("Result")
"""A tensor, or a tuple of tensors."""


def transformed() -> bool:
    """Whether a transform of `torch.func` is active, under which a custom operator has no derivative (PyTorch 2.13)."""
    return torch._C._are_functorch_transforms_active()


def operator(
    name: str,
    compute: Callable[..., Result],
    backward: Callable[..., Any],
    keep: Callable[[Any, tuple[Any, ...], Any], None],
    shape: Callable[..., Result] | None = None,
) -> Callable[..., Result]:
    """Registers a function as the PyTorch operator `frugan::name` and returns that.

    Args:
        name: unique within the package.
        compute: the operation. Its arguments carry type annotations, from which the schema is inferred; its result
            (or results: a tuple of tensors) shares no memory with them.
        backward: `backward(ctx, gradient)`, with a gradient of each result, → a gradient, or None, for each argument of
            `compute`. It can be differentiated again if it consists of differentiable operations itself.
        keep: `keep(ctx, inputs, output)` saves on `ctx` whatever `backward` needs.
        shape: returns empty tensors of the results' shape, dtype and layout, for tracing without values. By default
            `compute` itself is traced, which must then not depend on values.
    """
    qualified = f"frugan::{name}"
    # PyTorch's `custom_op` does the same, but checks every call, which doubles the cost of small operators.
    library.define(qualified, library.infer_schema(compute, mutates_args=()))
    library.impl(qualified, "CompositeExplicitAutograd", compute)
    library.register_fake(qualified, shape or compute)
    library.register_autograd(qualified, backward, setup_context=keep)
    return getattr(torch.ops.frugan, name).default
