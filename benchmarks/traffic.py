"""Bytes that the operations of a training step move on a GPU, and kernels that they launch, by phase, counted on a CPU.

    python -m benchmarks.traffic [--preset auto] [--size 256] [--images 4] [--without styles epilogue fir]

The step runs here in bfloat16, with the operators that a GPU with Triton uses (but for those that `--without` names);
PyTorch's operations stand in for their kernels, and convolutions and FIR filters give zeros, since only shapes count. Each
operation is taken to read its inputs and to write its results once. Divided by a device's rate of copying that is the least
time a step can take, apart from arithmetic. Each operation but views is taken to launch one kernel, small where it moves less
than 1 MB; those of a backward pass count for the source of the forward one.
"""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

from benchmarks import training
from frugan.ops import fir
from frugan.ops.warp import AffineWarp
from frugan.training.step import replace_non_finite

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
    "generator_step": "generator",
    "path_length_step": "path length",
    "discriminator_step": "discriminator",
    "r1_step": "R1",
}
"""The functions of `training.step` within which an operation belongs to a phase."""
SOURCES = {
    "augmentation, draws": r"augment/transforms|augment/pipeline (parameters|draw|__call__|<lambda>|_to_grey)",
    "augmentation, images": r"augment/|ops/(warp|periodic|linear)",
    "optimiser": r"training/(step (update|finite)|graphs in_place)",
    "moving average": r"training/state",
    "statistics, controller": r"training/(stats|loop)|tracking/|^images|training/step \w+_step|update_average",
    "loss, penalties": r"losses/|training/(phases|step)",
    "demodulation": r"ops/modulated_conv (?!_convolved)",
    "minibatch statistics": r"minibatch_std",
    "FIR filters": r"ops/fir",
    "convolutions": r"ops/conv",
    "epilogues, scaling by styles": r"ops/(epilogue|styles|modulated_conv)",
    "gains and casts of weights; linear layers": r"networks/(layers|mapping)",
    "networks, rest": r"networks/",
}
"""Where a kernel is launched from: the first whose pattern fits the module and function, `networks/layers forward`."""
CONVOLUTIONS = ("convolution", "convolution_backward", "image_gradient", "weight_gradient", "upfirdn")
LAUNCHES_SMALL = 1e6
"""Bytes below which a kernel counts as small."""
OPERATORS = {
    "fir": ("ops.fir._in_one_kernel",),
    "epilogue": ("ops.epilogue.fused", "networks.layers.fused"),
    "styles": ("ops.styles.fused",),
    "warp": ("ops.warp._in_kernels",),
}
"""The functions that decide whether operators of each kind are used."""
SHARES = {"path length": 1 / 4, "R1": 1 / 16}
"""Of the steps that have a phase; 1 where nothing is said."""


class Traffic(TorchDispatchMode):
    """Counts bytes while it lasts: `moved[phase, operation]`, those of feature maps and images apart from those of weights;
    and kernels: `launches[phase, source, is small]`, for a batch `scale` times as large.
    """

    def __init__(self, batch: int, scale: float = 1) -> None:
        super().__init__()
        self.batch, self.scale = batch, scale
        self.moved: Counter[tuple[str, str, bool]] = Counter()
        self.launches: Counter[tuple[str, str, bool]] = Counter()

    def note(self, name: str, read: Sequence[Tensor], written: Sequence[Tensor]) -> None:
        largest = max((*read, *written), key=Tensor.numel)
        by_image = largest.ndim > 0 and largest.shape[0] in (self.batch // 2, self.batch, 2 * self.batch)
        tensors = [*{id(t): t for t in read}.values(), *written]
        size, (phase, source) = sum(map(_bytes, tensors)), place()
        self.moved[phase, name, by_image] += size
        self.launches[phase, source, size * (self.scale if by_image else 1) < LAUNCHES_SMALL] += 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().split("::")[1].split(".")[0]
        out = _zeros(func, args) if name in CONVOLUTIONS else func(*args, **(kwargs or {}))
        if name not in FREE:
            read, written = ([t for t in tree_leaves(x) if isinstance(t, Tensor)] for x in ((args, kwargs), out))
            if read or written:
                self.note(name, read, written)
        return out

    def counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function as one operation."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with _disable_current_modes():
                out = function(*args, **kwargs)
            read, written = ([t for t in tree_leaves(x) if isinstance(t, Tensor)] for x in ((args, kwargs), out))
            self.note(name, read, written)
            return out

        return call


def _zeros(func: Callable[..., Any], args: Any) -> Any:
    """A result of the right shape without its arithmetic, for which a CPU may need minutes in bfloat16."""
    hollow = func(*tree_map(lambda t: t.to("meta") if isinstance(t, Tensor) else t, args))
    return tree_map(lambda t: torch.zeros(t.shape, dtype=t.dtype) if isinstance(t, Tensor) else t, hollow)


def place() -> tuple[str, str]:
    """The phase and the source of the operation that is computed; in a backward pass by autograd's record of the forward one."""
    phase, inner, frame = "others", "", sys._getframe()
    while frame and phase == "others":
        found = re.search(r"/src/frugan/(.*)\.py", frame.f_code.co_filename)
        if found:
            inner = inner or f"{found[1]} {frame.f_code.co_name}"
            phase = PHASES.get(frame.f_code.co_name, "others")
        frame = frame.f_back
    node = torch._C._current_autograd_node()
    while node is not None:
        noted: Any = node.metadata
        lines = re.findall(r'/src/frugan/(.*)\.py", line \d+, in (\S+)', "".join(noted.get("traceback_", ())))
        inner, node = " ".join(lines[-1]) if lines else inner, noted.get("parent_")
    return phase, next((source for source, pattern in SOURCES.items() if re.search(pattern, inner)), inner)


def _bytes(t: Tensor) -> int:
    count = 1
    for side, stride in zip(t.shape, t.stride()):
        count *= side if stride else 1  # an expanded axis lies in memory once
    return count * t.element_size()


def _channels_last(x: Tensor) -> Tensor:
    return torch.zeros_like(x, memory_format=torch.channels_last)


def _epilogue_gradients(
    up: Tensor, x: Tensor | None, scale: Tensor | None, y: Tensor, clamp: float, by_noise: bool, by_bias: bool
) -> tuple[Tensor | None, ...]:
    n, channels, h, w = y.shape
    wanted = {(n, channels): scale is not None, (n, 1, h, w): by_noise, (channels,): by_bias}
    return _channels_last(up), *(torch.zeros(shape) if there else None for shape, there in wanted.items())


def _projected(x: Tensor, weight: Tensor) -> Tensor:
    return _channels_last(torch.zeros(x.shape[0], weight.shape[1], *x.shape[2:]))


def _gradients(up: Tensor, x: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    return _channels_last(x), torch.zeros(other.shape)


def _resampled(x: Tensor, weight: Tensor, up: Any, down: Any, padding: Any) -> Tensor:
    return fir._upfirdn(x, weight, tuple(up), tuple(down), tuple(padding))


def _mapped(x: Tensor, columns: Tensor, weights: Tensor, axis: int) -> Tensor:
    shape = list(x.shape)
    shape[axis] = columns.shape[1]
    return x.new_zeros(shape)


def _positions(inverse: Tensor, size: tuple[int, int], axes: Sequence[tuple[float, float, float]]) -> Tensor:
    return inverse.new_zeros(len(inverse), *size, 2)


def _finite(grads: Sequence[Tensor]) -> Tensor:
    norm = torch.nn.utils.get_total_norm(grads)
    replace_non_finite(grads)
    return norm


@contextmanager
def as_on_a_gpu(traffic: Traffic, without: Sequence[str]) -> Iterator[None]:
    """Context with the operators of a GPU, but for some."""
    kernels: dict[str, Callable[..., Any]] = {
        "fir_triton.upfirdn": _resampled,
        "epilogue_triton.forward": lambda x, *_: _channels_last(x),
        "epilogue_triton.backward": _epilogue_gradients,
        "epilogue_triton.tangent": lambda x, *_: _channels_last(x),
        "styles_triton.scaled": lambda x, _: _channels_last(x),
        "styles_triton.scaled_backward": _gradients,
        "styles_triton.projected": _projected,
        "styles_triton.projected_backward": _gradients,
        "warp_triton.mapped": traffic.counted("warp, along an axis", _mapped),
        "warp_triton.positions": traffic.counted("warp, positions", _positions),
    }
    with ExitStack() as stack:
        for where, function in kernels.items():
            stack.enter_context(patch(f"frugan.ops.{where}", function))
        for operator, places in OPERATORS.items():
            for where in places if operator not in without else ():
                stack.enter_context(patch(f"frugan.{where}", lambda *_: True))
        stack.enter_context(patch("frugan.training.step.finite", _finite))
        stack.enter_context(patch.object(AffineWarp, "__call__", AffineWarp.in_parts))
        stack.enter_context(
            torch.autograd.set_detect_anomaly(True, check_nan=False)
        )  # notes where operations come from
        yield


def measure(
    preset: str, size: int, images: int, without: Sequence[str] = ()
) -> tuple[dict[tuple[str, str], float], Counter[tuple[str, str, bool]], int]:
    """(gigabytes of one step by phase and operation, at the preset's batch; launches of each phase; that batch).

    Args:
        preset, size: of training.
        images: at once, here: bytes of feature maps are counted for these and multiplied.
        without: kinds of operators of a GPU that are not used, keys of `OPERATORS`.
    """
    published, _ = training.begin(size, "cpu", preset=preset)
    batch = published.training.batch
    traffic = Traffic(images, batch / images)
    with as_on_a_gpu(traffic, without):
        options: dict[str, Any] = {"augment": "fixed", "p": 0.6, "precision": "bf16", "batch": images}
        _, loop = training.begin(size, "cpu", preset=preset, **options)
        with traffic, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            next(loop)  # makes the optimisers' state
            traffic.moved.clear()
            traffic.launches.clear()
            loop.gi_frame.f_locals["state"].step = 0  # pyright: ignore[reportAttributeAccessIssue]
            next(loop)  # has all phases, as the first step
    found: dict[tuple[str, str], float] = defaultdict(float)
    for (phase, name, by_image), count in traffic.moved.items():
        found[phase, name] += SHARES.get(phase, 1) * count * (batch / images if by_image else 1) / 1e9
    return found, traffic.launches, batch


def table(launches: Counter[tuple[str, str, bool]]) -> str:
    """Markdown: launches by source (rows) and phase (columns), "small + large"."""
    phases = [*PHASES.values(), "others"]
    rows: dict[str, dict[str, list[int]]] = defaultdict(lambda: {phase: [0, 0] for phase in (*phases, "all")})
    for (phase, source, small), count in launches.items():
        for row in (source, "sum"):
            for column in (phase, "all"):
                rows[row][column][not small] += count
    lines = [f"| launches, small + large | {' | '.join([*phases, 'all'])} |", f"|---|{'--:|' * (len(phases) + 1)}"]
    for source, row in sorted(rows.items(), key=lambda item: -sum(item[1]["all"])):
        lines.append(f"| {source} | {' | '.join(f'{a} + {b}' if a or b else '' for a, b in row.values())} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="auto")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--images", type=int, default=4, help="images at once here, a multiple of 4")
    parser.add_argument("--without", nargs="+", default=(), choices=OPERATORS, help="operators of a GPU to leave out")
    parser.add_argument("--rate", type=float, default=2950, help="of copying on the device, GB/s")
    args = parser.parse_args()
    found, launches, batch = measure(args.preset, args.size, args.images, args.without)
    total = sum(found.values())
    print(
        f"{total:.1f} GB a step of {batch} images: {total / args.rate * 1e3:.1f} ms, {total / args.rate / batch * 1e3:.2f} s/kimg"
    )
    print(f"\n{table(launches)}")
    print("\n| phase | operation | GB a step | share |\n|---|---|--:|--:|")
    for (phase, name), count in sorted(found.items(), key=lambda item: -item[1])[:25]:
        print(f"| {phase} | {name} | {count:.2f} | {count / total:.1%} |")


if __name__ == "__main__":
    main()
