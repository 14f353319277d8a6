"""Activation checkpointing: feature maps are dropped after use and computed again when a gradient needs them.

Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016. PyTorch's own keeps the feature maps of a first
gradient that is differentiated again, which is where the penalties have their peak; here that gradient is recomputed too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.func import functional_call

from frugan.ops.conv import current, image_gradients

Tensors = Sequence[Tensor | None]
Layer = Callable[..., Tensor]


class Recomputable(nn.Module):
    """A layer that can hold on to nothing but its inputs and parameters; twice differentiable.

    It may depend on them alone, and is to be the same each time. Gradients reach tensors given by position, not by name.
    """

    recompute = False

    def __call__(self, *inputs: Tensor | None, **settings: Any) -> Any:
        if not self.recompute or not torch.is_grad_enabled():
            return super().__call__(*inputs, **settings)
        names, parameters = zip(*self.named_parameters(prefix="layer"))
        n = len(inputs)  # to name the inputs themselves below would hold on to them

        def pure(*tensors: Tensor | None) -> Any:
            weights: dict[str, Any] = dict(zip(names, tensors[n:]))
            return functional_call(_Plain(self), weights, tensors[:n], settings)

        return _Forward.apply(pure, n, *inputs, *parameters)


class _Plain(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *inputs: Any, **settings: Any) -> Any:
        return self.layer.forward(*inputs, **settings)


def checkpoint_activations(network: nn.Module, on: bool = True) -> None:
    """Switches it on, or off, in all layers of a network that can."""
    for module in network.modules():
        if isinstance(module, Recomputable):
            module.recompute = on


class _Forward(Function):
    @staticmethod
    def forward(ctx: Any, f: Layer, n: int, *inputs: Tensor | None) -> Tensor:
        ctx.f, ctx.n, ctx.inner = f, n, current()
        ctx.save_for_backward(*inputs)
        return f(*inputs)

    @staticmethod
    def backward(ctx: Any, up: Tensor) -> Tensors:  # pyright: ignore[reportIncompatibleMethodOverride]
        with image_gradients(ctx.inner) if ctx.inner else nullcontext():
            return None, None, *_Backward.apply(ctx.f, ctx.n, tuple(ctx.needs_input_grad[2:]), up, *ctx.saved_tensors)


class _Backward(Function):
    """The gradient of Σ f(inputs)·up by the inputs where wanted, None elsewhere; behind the first n come parameters."""

    @staticmethod
    def forward(ctx: Any, f: Layer, n: int, wanted: Sequence[bool], up: Tensor, *inputs: Tensor | None) -> Tensors:
        ctx.f, ctx.n, ctx.wanted = f, n, wanted
        ctx.save_for_backward(up, *inputs)
        ctx.set_materialize_grads(False)
        with torch.enable_grad():
            leaves = _leaves(inputs, wanted)
            return _pull([f(*leaves)], [up], leaves)

    @staticmethod
    def backward(ctx: Any, *up: Tensor | None) -> Tensors:
        asked = [w and u is not None for w, u in zip(ctx.wanted, up)]
        with torch.enable_grad(), nullcontext() if any(asked[ctx.n :]) else image_gradients():
            needed = [a or b for a, b in zip(ctx.needs_input_grad[3:], (False, *ctx.wanted))]
            first_up, *inputs = _leaves(ctx.saved_tensors, needed)
            first = _pull([ctx.f(*inputs)], [first_up], inputs, asked, create_graph=True)
        return None, None, None, *_pull(first, up, [first_up, *inputs])


def _leaves(tensors: Tensors, wanted: Sequence[bool]) -> Tensors:
    return tuple(t if t is None else t.detach().requires_grad_(w) for t, w in zip(tensors, wanted))


def _pull(
    outputs: Tensors, up: Tensors, inputs: Tensors, wanted: Sequence[bool] | None = None, *, create_graph: bool = False
) -> Tensors:
    """The gradient of Σ output·up by the inputs that are wanted, or that require one; None for the others."""
    pairs = [(o, u) for o, u in zip(outputs, up) if o is not None and u is not None and o.requires_grad]
    wanted = wanted or [t is not None and t.requires_grad for t in inputs]
    chosen = [t for t, w in zip(inputs, wanted) if w and t is not None]
    if not pairs or not chosen:
        return (None,) * len(inputs)
    outputs, up = zip(*pairs)
    found = iter(torch.autograd.grad(outputs, chosen, up, create_graph=create_graph, allow_unused=True))
    return tuple(next(found) if w else None for w in wanted)
