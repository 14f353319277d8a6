"""Bytes that the operations of a training step read and write on a GPU, by phase and operation, counted on a CPU.

    python -m benchmarks.traffic [--preset auto] [--size 256] [--images 4] [--without styles epilogue fir]

The step runs here in bfloat16, with the operators that a GPU with Triton uses (but for those that `--without` names);
PyTorch's operations stand in for their kernels. Each operation is taken to read its inputs and to write its results once.
Divided by a device's rate of copying that is the least time a step can take, apart from arithmetic.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from benchmarks import training
from frugan.ops import epilogue, fir, styles
from frugan.training.phases import Phases

FREE = {
    *(
        "view",
        "_unsafe_view",
        "reshape",
        "_reshape_alias",
        "expand",
        "permute",
        "transpose",
        "t",
        "slice",
        "select",
        "narrow",
    ),
    *(
        "unsqueeze",
        "squeeze",
        "as_strided",
        "alias",
        "detach",
        "split",
        "split_with_sizes",
        "chunk",
        "unbind",
        "diagonal",
    ),
    *("unfold", "view_as_real", "empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "lift_fresh"),
    *("_local_scalar_dense", "is_same_size"),
}
"""Operations that move nothing."""
PHASES = {
    "draw_latents": "draws and G for D",
    "draw_view": "draws and G for D",
    "_generator_loss": "generator",
    "_discriminator_loss": "discriminator",
    "_path_length_penalty": "path length",
    "_gradient_penalty": "R1",
}
OPERATORS = {
    "fir": ("ops.fir._in_one_kernel",),
    "epilogue": ("ops.epilogue.fused", "networks.layers.fused"),
    "styles": ("ops.styles.fused",),
}
"""The functions that decide whether operators of each kind are used."""
SHARES = {"path length": 1 / 4, "R1": 1 / 16}
"""Of the steps that have a phase; 1 where nothing is said."""


class Traffic(TorchDispatchMode):
    """Counts bytes while it lasts: `moved[phase, operation]`, those of feature maps and images apart from those of weights."""

    def __init__(self, batch: int) -> None:
        super().__init__()
        self.batch, self.phase = batch, "others"
        self.moved: Counter[tuple[str, str, bool]] = Counter()

    def note(self, name: str, read: Sequence[Tensor], written: Sequence[Tensor]) -> None:
        largest = max((*read, *written), key=Tensor.numel)
        by_image = largest.ndim > 0 and largest.shape[0] in (self.batch // 2, self.batch, 2 * self.batch)
        tensors = [*{id(t): t for t in read}.values(), *written]
        self.moved[self.phase, name, by_image] += sum(map(_bytes, tensors))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.name().split("::")[1].split(".")[0]
        if name not in FREE:
            read, written = ([t for t in tree_leaves(x) if isinstance(t, Tensor)] for x in ((args, kwargs), out))
            if read or written:
                self.note(name, read, written)
        return out

    def counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function as one operation."""

        def call(*args: Any) -> Any:
            with _disable_current_modes():
                out = function(*args)
            read, written = ([t for t in tree_leaves(x) if isinstance(t, Tensor)] for x in (args, out))
            self.note(name, read, written)
            return out

        return call


def _bytes(t: Tensor) -> int:
    count = 1
    for side, stride in zip(t.shape, t.stride()):
        count *= side if stride else 1  # an expanded axis lies in memory once
    return count * t.element_size()


def _epilogue(x: Tensor, scale: Tensor | None, noise: Tensor | None, bias: Tensor, clamp: float) -> Tensor:
    x = x if scale is None else x * scale.to(x.dtype)[:, :, None, None]
    x = (x if noise is None else x + noise.to(x.dtype)) + bias.to(x.dtype)[:, None, None]
    return F.leaky_relu(x, 0.2).clamp(-clamp, clamp).contiguous(memory_format=torch.channels_last)


def _scaled_backward(up: Tensor, x: Tensor, scale: Tensor, by_x: bool, by_scale: bool) -> tuple[Tensor | None, ...]:
    for_x = up * scale.to(up.dtype)[:, :, None, None] if by_x else None
    return for_x, (up.float() * x.float()).sum((2, 3)) if by_scale else None


def _projected(x: Tensor, weight: Tensor) -> Tensor:
    return torch.einsum("nchw,nkc->nkhw", x.float(), weight).contiguous(memory_format=torch.channels_last)


def _resampled(x: Tensor, weight: Tensor, up: Any, down: Any, padding: Any) -> Tensor:
    return fir._upfirdn(x, weight, tuple(up), tuple(down), tuple(padding))


@contextmanager
def as_on_a_gpu(traffic: Traffic, without: Sequence[str]) -> Iterator[None]:
    """Context with the operators of a GPU, but for some, that notes the phase that is computed."""
    kernels: dict[str, Callable[..., Any]] = {
        "fir_triton.upfirdn": _resampled,
        "epilogue_triton.forward": _epilogue,
        "epilogue_triton.backward": traffic.counted("epilogue, gradients", epilogue._by_operations),
        "styles_triton.scaled": lambda x, scale: x * scale.to(x.dtype)[:, :, None, None],
        "styles_triton.scaled_backward": traffic.counted("scaled, gradients", _scaled_backward),
        "styles_triton.projected": _projected,
        "styles_triton.projected_backward": traffic.counted("projected, gradients", styles._by_operations),
    }
    with ExitStack() as stack:
        for where, function in kernels.items():
            stack.enter_context(patch(f"frugan.ops.{where}", function))
        for operator, places in OPERATORS.items():
            for where in places if operator not in without else ():
                stack.enter_context(patch(f"frugan.{where}", lambda *_: True))
        for name, phase in PHASES.items():
            original = getattr(Phases, name)

            def noted(*args: Any, original: Any = original, phase: str = phase) -> Any:
                traffic.phase = phase
                return original(*args)

            stack.enter_context(patch.object(Phases, name, noted))
        yield


def measure(
    preset: str, size: int, images: int, without: Sequence[str] = ()
) -> tuple[dict[tuple[str, str], float], int]:
    """(gigabytes of one step by phase and operation, at the preset's batch; that batch).

    Args:
        preset, size: of training.
        images: at once, here: bytes of feature maps are counted for these and multiplied.
        without: kinds of operators of a GPU that are not used, keys of `OPERATORS`.
    """
    published, _ = training.begin(size, "cpu", preset=preset)
    batch = published.training.batch
    traffic = Traffic(images)
    with as_on_a_gpu(traffic, without):
        options: dict[str, Any] = {"augment": "fixed", "p": 0.6, "precision": "bf16", "batch": images}
        _, loop = training.begin(size, "cpu", preset=preset, **options)
        with traffic:
            next(loop)  # the first step has all phases
    found: dict[tuple[str, str], float] = defaultdict(float)
    for (phase, name, by_image), count in traffic.moved.items():
        found[phase, name] += SHARES.get(phase, 1) * count * (batch / images if by_image else 1) / 1e9
    return found, batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="auto")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--images", type=int, default=4, help="images at once here, a multiple of 4")
    parser.add_argument("--without", nargs="+", default=(), choices=OPERATORS, help="operators of a GPU to leave out")
    parser.add_argument("--rate", type=float, default=2950, help="of copying on the device, GB/s")
    args = parser.parse_args()
    found, batch = measure(args.preset, args.size, args.images, args.without)
    total = sum(found.values())
    print(
        f"{total:.1f} GB a step of {batch} images: {total / args.rate * 1e3:.1f} ms, {total / args.rate / batch * 1e3:.2f} s/kimg"
    )
    print("\n| phase | operation | GB a step | share |\n|---|---|--:|--:|")
    for (phase, name), count in sorted(found.items(), key=lambda item: -item[1])[:25]:
        print(f"| {phase} | {name} | {count:.2f} | {count / total:.1%} |")


if __name__ == "__main__":
    main()
