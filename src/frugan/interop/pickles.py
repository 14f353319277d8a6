"""Foreign pickles, read without executing anything: network pickles, and what `torch.save` writes, old and new.

A pickle is a program that names functions and calls them. Here every name stands for an inert object of our own, or is
refused: nothing is imported, and tensors and arrays are rebuilt from their bytes. Before a pickle is read its opcodes are
followed by sizes alone (`frugan.interop.opcodes`), and all that a file makes is taken from one budget. The stand-ins are
made anew for each file, so that no file can change what the next one is read with.
"""

from __future__ import annotations

import io
import pickle
import re
import reprlib
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from frugan.errors import FruganError, fault, shown
from frugan.interop.opcodes import MAX_DEPTH, Budget, Refused, check

MAX_BYTES = 4 << 30
"""Of a file. Released networks are 110 to 400 MB."""

_MAX_DIMENSIONS = 8
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


class _Inert:
    """The object that a pickle receives for a foreign name, or as a result. A pickle cannot set its attributes."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise Refused(f"a new state of {type(self).__name__.lstrip('_').lower()}s")


class _Name(_Inert):
    """A name that a pickle mentions without using it, such as that of a type of numbers."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class _Function(_Inert):
    """A function of ours under a foreign name."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)


class ForeignObject:
    """An object of a class unknown here: the name of that class, and what it was filled with."""

    __slots__ = ("kind", "state")

    kind: str
    state: Any

    def __new__(cls, kind: str = "", state: Any = None) -> ForeignObject:
        made = super().__new__(cls)
        made.kind, made.state = kind, state
        return made

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Dict(dict[Any, Any]):
    """A dictionary that takes no contents but item by item."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        """Ignores attributes: PyTorch's state dicts hold versions of layers in them, EasyDict nothing."""


class _Dtype:
    """A NumPy type: booleans, integers and floating-point numbers only."""

    __slots__ = ("code", "order")

    def __init__(self, code: str, *_: Any) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]

    def numpy(self) -> np.dtype[Any]:
        fits = isinstance(self.code, str) and re.fullmatch(r"[biuf]\d{1,2}", self.code)
        if not fits or self.order not in ("<", ">", "=", "|"):
            raise Refused(f"an array of type {brief(self.order)}{brief(self.code)}")
        return np.dtype(self.code).newbyteorder("=" if self.order == "|" else self.order)  # pyright: ignore[reportArgumentType]


class _Array:
    """A NumPy array in the making: filled by the state that its pickle holds."""

    __slots__ = ("_budget", "array")

    def __init__(self, budget: Budget) -> None:
        self._budget, self.array = budget, np.zeros(0)

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran, data = state
        self.array = _numbers(self._budget, dtype, shape, data, "F" if fortran else "C")


@dataclass
class _Block:
    """Numbers of one type, `[N]`, which may come later in the file."""

    dtype: torch.dtype
    count: int
    values: Tensor = field(default_factory=lambda: torch.zeros(0))

    def fill(self, raw: bytes | memoryview) -> None:
        if len(raw) != self.count * self.dtype.itemsize:
            raise Refused(f"a block of {self.count} numbers in {len(raw)} bytes")
        self.values = torch.frombuffer(bytearray(raw), dtype=self.dtype) if raw else torch.zeros(0, dtype=self.dtype)


class _Storage(_Inert):
    """A block, as a pickle gets it."""

    __slots__ = ("block",)

    def __init__(self, block: _Block) -> None:
        self.block = block


class _Tensor(_Inert):
    """A tensor as a view of a block, to be copied out when all of the file is there."""

    __slots__ = ("_view",)

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> None:
        if not isinstance(storage, _Storage):
            raise Refused("a tensor without storage")
        numbers = (offset, *size, *stride)
        if (
            not all(type(n) is int and 0 <= n < 1 << 62 for n in numbers)
            or not len(size) == len(stride) <= _MAX_DIMENSIONS
        ):
            raise Refused(f"a tensor of size {brief(size)}, stride {brief(stride)}, offset {brief(offset)}")
        self._view = storage.block, offset, tuple(size), tuple(stride)

    def tensor(self, budget: Budget) -> Tensor:
        """Its elements must lie within the block; what an expanded tensor repeats of it is taken from the budget."""
        block, offset, size, stride = self._view
        count, last = 1, offset
        for n, step in zip(size, stride):
            count, last = count * n, last + (n - 1) * step
        if count and last >= len(block.values):
            raise Refused(f"a tensor of size {size}, stride {stride} in a block of {len(block.values)}")
        budget.take(count * block.dtype.itemsize)
        return block.values.as_strided(size, stride, offset).clone() if count else block.values.new_zeros(size)


def _numbers(budget: Budget, dtype: Any, shape: Any, data: Any, order: Any = "C") -> np.ndarray[Any, Any]:
    if not isinstance(dtype, _Dtype) or not isinstance(data, (bytes, bytearray)):
        raise Refused("an array that is no plain block of numbers")
    budget.take(len(data))
    flat = np.frombuffer(data, dtype.numpy())
    return flat.reshape(shape, order=order).astype(flat.dtype.newbyteorder("="))


class _File:
    """One foreign file while it is read: what it may still make, and the stand-ins that it gets."""

    def __init__(self, size: int) -> None:
        self.budget = Budget(size)
        self.names = self._stand_ins()
        self.blocks: dict[str, _Block] = {}

    def load(self, file: io.BytesIO, persistent: Callable[[Any], Any] | None = None) -> Any:
        """The object of one pickle, after which `file` stands."""
        check(file, self.budget)
        return _Unpickler(file, self.names, persistent).load()

    def zipped(self, archive: zipfile.ZipFile) -> Any:
        """Reads the zipped format of `torch.save`: data.pkl, and a member for each block of numbers."""
        members = {m.filename.partition("/")[2]: m for m in archive.infolist()}

        def read(name: str) -> bytes:
            if (member := members.get(name)) is None:
                raise Refused(f"{shown(name)}, which is not in it")
            stored = member.compress_type == zipfile.ZIP_STORED and member.compress_size == member.file_size
            if not stored or member.flag_bits & 1:
                raise Refused("compressed numbers")
            self.budget.take(member.file_size)
            return archive.read(member)

        if "byteorder" in members and read("byteorder") != b"little":
            raise Refused("numbers of another byte order")

        def storage(identity: Any) -> _Storage:
            known = len(self.blocks)
            key, block = self._block(identity)
            if len(self.blocks) > known:
                block.fill(read(f"data/{key}"))
            return _Storage(block)

        return self.load(io.BytesIO(read("data.pkl")), storage)

    def stream(self, data: bytes) -> Any:
        """Reads the older format of `torch.save`: four pickles, a list of blocks, then the numbers of each."""
        file = io.BytesIO(data)
        magic, protocol, _system = (self.load(file) for _ in range(3))
        if magic != _TORCH_MAGIC or protocol != _TORCH_PROTOCOL:
            raise Refused("numbers in a format that is not known")
        found = self.load(file, lambda identity: _Storage(self._block(identity)[1]))
        for key in self.load(file):
            (count,) = struct.unpack("<q", file.read(8))
            block, start = self.blocks.pop(key), file.tell()
            end = start + count * block.dtype.itemsize
            if count != block.count or end > len(data):
                raise Refused(f"a block of {count} numbers where {block.count} are announced")
            block.fill(memoryview(data)[start:end])
            file.seek(end)
        if self.blocks:
            raise Refused(f"{len(self.blocks)} blocks that are not in it")
        return found

    def _block(self, identity: Any) -> tuple[str, _Block]:
        """The block that a persistent id speaks of: one for each key."""
        kind, storage_type, key, _place, count, *_ = identity
        if kind != "storage" or not isinstance(storage_type, _Name) or storage_type.name not in _STORAGES:
            raise Refused(f"a block of {brief(storage_type)}")
        if not isinstance(key, str) or type(count) is not int or not 0 <= count < 1 << 40:
            raise Refused(f"a block of {brief(count)} numbers")
        dtype = _STORAGES[storage_type.name]
        if key not in self.blocks:
            self.budget.take(count * dtype.itemsize)
            self.blocks[key] = _Block(dtype, count)
        block = self.blocks[key]
        if (block.dtype, block.count) != (dtype, count):
            raise Refused("a block of two sizes")
        return key, block

    def _inner(self, data: Any) -> _Storage:
        """One storage within a network pickle, in the older format of `torch.save`."""
        if not isinstance(data, bytes):
            raise Refused("numbers that are no bytes")
        inner = _File(0)
        inner.budget, inner.names = self.budget, {name: self.names[name] for name in self.names if name[1] in _STORAGES}
        found = inner.stream(data)
        if not isinstance(found, _Storage):
            raise Refused("numbers that are no storage")
        return found

    def plain(self, value: Any) -> Any:
        """Tensors and arrays out of their shells, wherever they lie; what is shared is looked at once, and stays shared."""
        return _Plain(self.budget).of(value, 0)

    def _ordered(self, pairs: Any = ()) -> _Dict:
        made = _Dict()
        self.budget.take(100 * len(pairs))
        for key, value in pairs:
            if not isinstance(key, (str, bytes)):
                raise Refused("an ordered dictionary with keys that are no text")
            made[key] = value
        return made

    def _set(self, items: Any = ()) -> set[Any]:
        self.budget.take(100 * len(items))
        if not all(isinstance(item, (str, bytes, bool, float, int)) for item in items):
            raise Refused("a set of what is neither text nor numbers")
        self.budget.odd_keys -= sum(not isinstance(item, (str, bytes)) for item in items)
        if self.budget.odd_keys < 0:
            raise Refused("a set of too many numbers")
        return set(items)

    def _encoded(self, text: Any, encoding: Any) -> bytes:
        """Bytes as protocols without bytes write them."""
        if encoding != "latin1" or not isinstance(text, str):
            raise Refused(f"_codecs.encode to {brief(encoding)}")
        self.budget.take(len(text))
        return text.encode("latin1")

    def _joined(self, *parts: Any) -> str:
        """A path of another machine, as text."""
        if not all(isinstance(part, str) for part in parts):
            raise Refused("a path that is no text")
        self.budget.take(sum(map(len, parts)))
        return "/".join(parts)

    def _persistent(self, meta: Any) -> ForeignObject:
        """An object that carries the source text of its class: the text is left unread."""
        if not isinstance(meta, dict) or meta.get("type") != "class" or not isinstance(meta["class_name"], str):
            raise Refused("an object of unknown making")
        return ForeignObject(meta["class_name"], meta["state"])

    def _stand_ins(self) -> dict[tuple[str, str], Any]:
        """The names that a pickle may use, and the stand-ins that it gets for them: objects, and classes where opcodes
        need them.
        """
        budget = self.budget
        numbers: Callable[..., Any] = lambda *a: _Value(_numbers(budget, *a))  # noqa: E731
        functions: dict[tuple[str, str], Callable[..., Any]] = {
            ("collections", "OrderedDict"): self._ordered,
            ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
            ("torch.storage", "_load_from_bytes"): self._inner,
            ("torch_utils.persistence", "_reconstruct_persistent_obj"): self._persistent,
            ("_codecs", "encode"): self._encoded,
            ("__builtin__", "set"): self._set,
            ("builtins", "set"): self._set,
            ("torch", "device"): lambda *parts: self._joined(*(part for part in parts if isinstance(part, str))),
            ("__builtin__", "bytes"): lambda: b"",  # how protocols without bytes write none
            **{(home, "_reconstruct"): lambda *_: _Array(budget) for home in _NUMPY},
            **{(home, "scalar"): lambda dtype, data: numbers(dtype, (), data) for home in _NUMPY},
            **{(home, "dtype"): _Dtype for home in _NUMPY},
            **{
                (home, "_frombuffer"): lambda data, dtype, shape, order: numbers(dtype, shape, data, order)
                for home in ("numpy.core.numeric", "numpy._core.numeric")
            },
            **{(home, kind): self._joined for home in ("pathlib", "pathlib._local") for kind in _PATHS},
        }
        classes = {
            ("dnnlib.util", "EasyDict"): _Dict,
            ("dnnlib", "EasyDict"): _Dict,
            ("dnnlib.tflib.network", "Network"): ForeignObject,
            ("argparse", "Namespace"): ForeignObject,
        }
        names = [*_STORAGES, *(str(dtype).removeprefix("torch.") for dtype in _STORAGES.values())]
        return {
            **{name: _Function(function) for name, function in functions.items()},
            **{name: type(made.__name__, (made,), {"__slots__": ()}) for name, made in classes.items()},
            **{("torch", name): _Name(name) for name in names},
            **{(home, "ndarray"): _Name("ndarray") for home in _NUMPY},
        }


_NUMPY = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")
_PATHS = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")


class _Value(_Inert):
    """An array, in a shell that no opcode can reach into."""

    __slots__ = ("array",)

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array


class _Plain:
    """The values that have been converted, by identity; a mark stands for one in work."""

    _PENDING: ClassVar = object()

    def __init__(self, budget: Budget) -> None:
        self._budget, self._known = budget, {}

    def of(self, value: Any, depth: int) -> Any:
        if isinstance(value, (_Array, _Value)):
            return value.array
        if not isinstance(value, (_Tensor, ForeignObject, dict, list, tuple)):
            return value
        if depth > MAX_DEPTH:
            raise Refused(f"more than {MAX_DEPTH} levels of nesting")
        known = self._known.get(id(value))
        if known is self._PENDING:
            raise Refused("an object that holds itself")
        if known is None:
            self._known[id(value)] = self._PENDING
            known = self._known[id(value)] = self._made(value, depth + 1)
        return known

    def _made(self, value: Any, depth: int) -> Any:
        if isinstance(value, _Tensor):
            return value.tensor(self._budget)
        if isinstance(value, ForeignObject):
            value.state = self.of(value.state, depth)
            return value
        if isinstance(value, dict):
            return {k: self.of(v, depth) for k, v in value.items()}
        return [self.of(v, depth) for v in value]


class _Unpickler(pickle.Unpickler):
    def __init__(
        self, file: io.BytesIO, names: dict[tuple[str, str], Any], persistent: Callable[[Any], Any] | None
    ) -> None:
        super().__init__(file)
        self._names, self._persistent = names, persistent

    def find_class(self, module: str, name: str) -> Any:
        found = self._names.get((module, name))
        if found is None:
            raise Refused(f"the global {shown(f'{module}.{name}')}")
        return found

    def persistent_load(self, pid: Any) -> Any:
        if self._persistent is None:
            raise Refused("an object kept elsewhere")
        return self._persistent(pid)


def brief(value: Any) -> str:
    """A value of a pickle in a few words; what holds itself a thousand times is not written out."""
    short = reprlib.Repr()
    short.maxlevel = 2
    return shown(short.repr(value), 80)


def read_pickle(path: Path) -> Any:
    """The object in a pickle file, of plain values, tensors, arrays and `ForeignObject`s. Raises `FruganError` on anything else."""
    with _refusals(path, "no pickle"):
        data = path.read_bytes()
        file = _File(len(data))
        return file.plain(file.load(io.BytesIO(data)))


def read_torch(path: Path) -> Any:
    """Reads the object that `torch.save` wrote, in its zipped or its older format."""
    with _refusals(path, "no file of torch.save"), path.open("rb") as opened:
        file = _File(path.stat().st_size)
        if opened.read(4) == b"PK\x03\x04":
            with zipfile.ZipFile(opened) as archive:
                return file.plain(file.zipped(archive))
        opened.seek(0)
        return file.plain(file.stream(opened.read()))


@contextmanager
def _refusals(path: Path, what: str) -> Iterator[None]:
    """Every error in the block becomes a `FruganError` that names the file."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise FruganError(f"{path} has {size:,} bytes; the limit is {MAX_BYTES:,}")
    try:
        yield
    except Refused as error:
        raise FruganError(f"{path} is refused: it asks for {error}, which no network needs") from error
    except MemoryError as error:
        raise FruganError(f"{path} ({size:,} bytes) takes more memory to read than there is; free some") from error
    except Exception as error:  # a damaged file ends in any kind of error
        raise FruganError(f"{path} is {what} that can be read: {fault(error)}") from error
