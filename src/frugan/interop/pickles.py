"""Foreign pickles, read without executing anything.

A pickle is a program that names functions and calls them. Here every name stands for an inert object of our own, or is
refused: nothing is imported, and tensors and arrays are rebuilt from their bytes.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frugan.errors import FruganError

MAX_BYTES = 4 << 30
"""Of a file. Released networks are 110 to 400 MB."""

_TORCH_MAGIC = 0x1950A86A20F9469CFC6C
_TORCH_PROTOCOL = 1001
_STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class Refused(Exception):
    """A pickle asks for what no network needs."""


@dataclass(frozen=True)
class Global:
    """A name that a pickle mentions without using it."""

    module: str
    name: str


class Record:
    """An object of a class unknown here: the name of that class, and what it was filled with."""

    __slots__ = ("kind", "state")

    def __init__(self, kind: str = "", state: Any = None) -> None:
        self.kind, self.state = kind, state

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Call:
    """A function of ours under a foreign name. It has no attributes that a pickle could set."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)


class _Array:
    """A NumPy array in the making: filled by the state that its pickle holds."""

    __slots__ = ("array",)

    def __init__(self, *_: Any) -> None:
        self.array = np.zeros(0)

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran, data = state
        self.array = _array(dtype, shape, data, "F" if fortran else "C")


class _Dtype:
    """A NumPy type: booleans, integers and floating-point numbers only."""

    __slots__ = ("code", "order")

    def __init__(self, code: str, *_: Any) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]

    def numpy(self) -> np.dtype[Any]:
        if not isinstance(self.code, str) or self.code[:1] not in "biuf" or self.order not in ("<", ">", "=", "|"):
            raise Refused(f"an array of type {self.order}{self.code}")
        return np.dtype(self.code).newbyteorder("=" if self.order == "|" else self.order)  # pyright: ignore[reportArgumentType]


class _Dict(dict[Any, Any]):
    """A dictionary whose attributes are its items."""

    def __setstate__(self, state: Any) -> None:
        self.update(state)


def _array(dtype: Any, shape: Any, data: Any, order: Any = "C") -> np.ndarray[Any, Any]:
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
        raise Refused("an array that is no plain block of numbers")
    flat = np.frombuffer(data, dtype.numpy())
    return flat.reshape(shape, order=order).astype(flat.dtype.newbyteorder("="))


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
    return _array(dtype, shape, bytes(data) if isinstance(data, bytearray) else data, order)


def _latin1(text: Any, encoding: Any) -> bytes:
    """How protocols without bytes write them."""
    if encoding != "latin1":
        raise Refused(f"_codecs.encode to {encoding!r}")
    return text.encode("latin1")


@dataclass(frozen=True)
class _Storage:
    """A block of numbers of one type, `[N]`."""

    values: Tensor


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """A tensor as a view of its block, copied out. Its elements must lie within the block, and be no more than it has."""
    if not isinstance(storage, _Storage):
        raise Refused("a tensor without storage")
    numbers = (offset, *size, *stride)
    if not all(isinstance(n, int) and n >= 0 for n in numbers) or len(size) != len(stride):
        raise Refused(f"a tensor of size {size}, stride {stride}, offset {offset}")
    count, last = 1, offset
    for n, step in zip(size, stride):
        count, last = count * n, last + (n - 1) * step
    if count > len(storage.values) or (count and last >= len(storage.values)):
        raise Refused(f"a tensor of size {size}, stride {stride} in a block of {len(storage.values)}")
    return storage.values.as_strided(size, stride, offset).clone() if count else storage.values.new_zeros(size)


def _storage(data: Any) -> _Storage:
    """What `torch.save` wrote of one storage, in its older format: four pickles, then the raw numbers."""
    file = io.BytesIO(data)
    magic, protocol, _system = (_Unpickler(file).load() for _ in range(3))
    if magic != _TORCH_MAGIC or protocol != _TORCH_PROTOCOL:
        raise Refused("a block of numbers in a format that is not known")
    dtypes: list[torch.dtype] = []

    def remember(identity: Any) -> None:
        kind, storage_type, *_ = identity
        if kind != "storage" or not isinstance(storage_type, Global) or storage_type.name not in _STORAGES:
            raise Refused(f"a block of {storage_type}")
        dtypes.append(_STORAGES[storage_type.name])

    _Unpickler(file, remember).load()
    keys = _Unpickler(file).load()
    if len(dtypes) != 1 or len(keys) != 1:
        raise Refused(f"{len(dtypes)} blocks where one is expected")
    (count,) = struct.unpack("<q", file.read(8))
    raw = file.read()
    if count < 0 or len(raw) != count * dtypes[0].itemsize:
        raise Refused(f"a block of {count} numbers in {len(raw)} bytes")
    return _Storage(torch.frombuffer(bytearray(raw), dtype=dtypes[0]) if count else torch.zeros(0, dtype=dtypes[0]))


def _persistent(meta: Any) -> Record:
    """An object that carries the source text of its class: the text is left unread."""
    if not isinstance(meta, dict) or meta.get("type") != "class":
        raise Refused("an object of unknown making")
    return Record(str(meta["class_name"]), meta["state"])


class Settings:
    """An `argparse.Namespace` in a file: kept as the plain values that it holds, never looked up by attribute."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: Any = {}

    def __setstate__(self, state: Any) -> None:
        self.values = state


def _path(*parts: Any) -> str:
    """A path of another machine, as text."""
    return "/".join(str(part) for part in parts)


_NUMPY = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")
NUMBERS: dict[tuple[str, str], Any] = {
    **{(home, "_reconstruct"): _Call(_Array) for home in _NUMPY},
    **{(home, "scalar"): _Call(lambda dtype, data: _array(dtype, (), data)) for home in _NUMPY},
    **{(home, "_frombuffer"): _Call(_from_buffer) for home in ("numpy.core.numeric", "numpy._core.numeric")},
    **{(home, "dtype"): _Call(_Dtype) for home in _NUMPY},
    **{(home, "ndarray"): Global(home, "ndarray") for home in _NUMPY},
}
"""NumPy's arrays and scalars."""
BUILT = (_Array, _Dtype)
"""What these make that a pickle fills afterwards."""
OPTIONS: dict[tuple[str, str], Any] = {
    ("argparse", "Namespace"): Settings,
    **{
        (home, kind): _Call(_path)
        for home in ("pathlib", "pathlib._local")
        for kind in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
    },
}
"""What a program's options are kept in."""
_CALLS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _Call(_tensor),
    ("torch._utils", "_rebuild_parameter"): _Call(lambda tensor, *_: tensor),
    ("torch.storage", "_load_from_bytes"): _Call(_storage),
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _Call(_persistent),
    ("_codecs", "encode"): _Call(_latin1),
    ("__builtin__", "bytes"): _Call(lambda: b""),  # how protocols without bytes write none
    ("dnnlib.util", "EasyDict"): _Dict,
    ("dnnlib", "EasyDict"): _Dict,
    ("dnnlib.tflib.network", "Network"): Record,
    **NUMBERS,
    **{("torch", name): Global("torch", name) for name in _STORAGES},
    **{("torch", str(dtype).removeprefix("torch.")): Global("torch", str(dtype)) for dtype in _STORAGES.values()},
}
"""All that a pickle may name, and what it gets."""


_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, persistent: Callable[[Any], Any] | None = None) -> None:
        _check_promises(file)
        super().__init__(file)
        self._persistent = persistent

    def find_class(self, module: str, name: str) -> Any:
        found = _CALLS.get((module, name))
        if found is None:
            raise Refused(f"the global {module}.{name}")
        return found

    def persistent_load(self, pid: Any) -> Any:
        if self._persistent is None:
            raise Refused("an object kept elsewhere")
        return self._persistent(pid)


def _check_promises(file: io.BytesIO) -> None:
    """Refuses one pickle whose opcodes promise more than they bring: the reader would set aside memory for it."""
    start = file.tell()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if opcode.name in _PUTS and not 0 <= (argument or 0) <= count:
            raise Refused(f"place {argument} among at most {count} remembered objects")
    file.seek(start)


def read_pickle(path: Path) -> Any:
    """The object in a pickle file, of plain values, tensors, arrays and `Record`s. Raises `FruganError` on anything else."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise FruganError(f"{path} has {size:,} bytes; the limit is {MAX_BYTES:,}")
    try:
        return plain(_Unpickler(io.BytesIO(path.read_bytes())).load())
    except Refused as error:
        raise FruganError(f"{path} is refused: it asks for {error}, which no network needs") from error
    except Exception as error:  # a damaged pickle ends in any kind of error
        raise FruganError(f"{path} is no pickle that can be read: {type(error).__name__}: {error}") from error


def plain(value: Any, depth: int = 0) -> Any:
    """Arrays out of their shells, wherever they lie."""
    if depth > 200:
        raise Refused("more than 200 levels of nesting")
    if isinstance(value, _Array):
        return value.array
    if isinstance(value, Record):
        value.state = plain(value.state, depth + 1)
        return value
    if isinstance(value, dict):
        return {k: plain(v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v, depth + 1) for v in value]
    return value
