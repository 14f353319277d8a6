"""A device that is not there: tensors that say they lie on an accelerator, and compute in the host's memory.

As on a real one, operands on two devices do not go together, and float64 is refused (MPS has none). What makes the host
wait for what is queued on the device is noted, with the line of the package that asks for it: reading values, sizes that
depend on values, a copy to the device from memory that is not page-locked.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import backend_registration as registration
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

KIND = "pretend"
NAME = f"{KIND}:0"

aten = torch.ops.aten

READS = {
    aten._local_scalar_dense.default,
    aten.equal.default,
    aten.bincount.default,
    aten.masked_select.default,
    aten.nonzero.default,
    aten._unique2.default,
    aten.unique_dim.default,
}
INDEXING = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default}


class There(Tensor):
    """A tensor of the device; `inner` holds its values."""

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore[reportAssignmentType]

    @staticmethod
    def __new__(cls, inner: Tensor) -> There:
        if inner.dtype in (torch.float64, torch.complex128):
            raise TypeError("the device has no float64")
        return torch.Tensor._make_wrapper_subclass(  # pyright: ignore[reportAttributeAccessIssue]
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device(NAME),
        )

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.inner.untyped_storage()

    def numpy(self) -> Any:
        raise TypeError(f"{NAME} has no arrays; copy the tensor to the host first")

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} on {NAME} while nobody pretends")


class Pretence(TorchDispatchMode):
    """While it lasts the device is there. `waits` counts what makes the host wait, by operation and line."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [*_tensors((args, tuple(kwargs.values())))]
        involved = any(isinstance(x, There) for x in tensors)
        place = kwargs.get("device")
        stays = involved if place is None else torch.device(place).type == KIND
        if not (involved or stays):
            return func(*args, **kwargs)
        if place is not None:
            kwargs["device"] = torch.device("cpu")
        if self._makes_wait(func, args, kwargs, stays):
            self.waits[f"{func} at {_line()}"] += 1
        if func not in (aten._to_copy.default, aten.copy_.default):
            scalars = torch.Tag.pointwise in func.tags  # these take a number in the host's memory
            strangers = [x for x in tensors if not isinstance(x, There) and not (scalars and x.ndim == 0)]
            assert not (involved and strangers), f"{func} at {_line()}: tensors of two devices"
        out = func(*_each(There, _inner, args), **{key: _each(There, _inner, x) for key, x in kwargs.items()})
        if torch.Tag.inplace_view in func.tags:
            with no_dispatch():
                return func(*args, **kwargs)
        if func._schema.is_mutable:  # in place: what was given comes back
            return args[0] if func._schema.returns else None
        return _each(Tensor, There, out) if stays else out

    def _makes_wait(self, func: Any, args: Any, kwargs: Any, stays: bool) -> bool:
        if func is aten._to_copy.default:
            return isinstance(args[0], There) != stays and not (stays and kwargs.get("non_blocking"))
        if func is aten.copy_.default:
            to, source, *blocking = args
            return isinstance(to, There) != isinstance(source, There) and not (
                isinstance(to, There) and blocking == [True]
            )
        if func in INDEXING:
            return any(x is not None and x.dtype in (torch.bool, torch.uint8) for x in args[1])
        return func in READS


def _inner(x: There) -> Tensor:
    return x.inner


def _tensors(values: list[Any] | tuple[Any, ...]) -> Iterator[Tensor]:
    """Those in nested lists and tuples, of which the arguments of operators are made; PyTorch's trees take ten times as long."""
    for x in values:
        if isinstance(x, Tensor):
            yield x
        elif isinstance(x, (list, tuple)):
            yield from _tensors(x)


def _each(kind: type, change: Callable[[Any], Any], x: Any) -> Any:
    """`x` with `change` applied to each tensor of that `kind` in it."""
    if isinstance(x, kind):
        return change(x)
    return type(x)([_each(kind, change, y) for y in x]) if type(x) in (list, tuple) else x


def _line() -> str:
    frame = sys._getframe()
    while frame and "/src/frugan/" not in frame.f_code.co_filename:
        frame = frame.f_back
    return f"{frame.f_code.co_filename.split('/src/')[1]}:{frame.f_lineno}" if frame else "no line of the package"


class _Generator(torch.Generator):
    """Draws on the CPU, for whatever device."""

    def __new__(cls, device: Any = "cpu") -> _Generator:
        return super().__new__(cls)

    def __init__(self, device: Any = "cpu") -> None:
        self._device = torch.device(device)

    @property
    def device(self) -> torch.device:
        return self._device


@cache
def introduce() -> bool:
    """Makes the device known, if this PyTorch can. Before anything is differentiated: autograd looks for devices once.

    Not beside a GPU: PyTorch would take the fake device for the accelerator whose memory is page-locked for.
    """
    if torch.cuda.is_available():
        return False
    try:

        class Module(registration._DummyBackendModule):
            def get_amp_supported_dtype(self) -> list[torch.dtype]:
                return [torch.float16, torch.bfloat16]

        registration._setup_privateuseone_for_python_backend(KIND, backend_module=Module())
    except AttributeError:
        return False
    return True


needed = pytest.mark.skipif(not introduce(), reason="no backends written in Python here, or a real GPU")


@contextmanager
def pretending(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pretence]:
    """The device is there for as long as the context lasts."""
    monkeypatch.setattr(torch, "Generator", _Generator)
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # `torch.tensor(…, device=…)` copies where it can be seen
    try:
        with Pretence() as pretence:
            yield pretence
    finally:
        torch._C._set_only_lift_cpu_tensors(before)
