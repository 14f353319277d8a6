"""A pickle is a program; here it is only ever read."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import GOLDEN
from frugan.errors import FruganError
from frugan.interop import read_pickle, read_release
from frugan.interop.pickles import _File

FILES = ("nvidia_pytorch.pkl", "nvidia_tensorflow.pkl")


class Calls:
    """Pickles as a call of anything."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def by_name(module: str, name: str, *arguments: Any) -> bytes:
    """A pickle that calls `module.name(*arguments)`, whether that exists or not."""
    body = b"\x80\x04" + b"c" + f"{module}\n{name}\n".encode()
    return body + b"".join([b"(", *(pickle.dumps(a, 2)[2:-1] for a in arguments), b"tR."])


def nested_load(payload: bytes) -> bytes:
    """A tensor whose bytes are a `torch.save` file of their own making."""
    return by_name("torch.storage", "_load_from_bytes", payload)


ATTACKS = {
    "os.system": pickle.dumps(Calls(os.system, "touch executed")),
    "posix.system": by_name("posix", "system", "touch executed"),
    "eval": pickle.dumps(Calls(eval, "open('executed', 'w')")),
    "builtins.exec": by_name("builtins", "exec", "open('executed', 'w')"),
    "builtins.getattr": by_name("builtins", "getattr", "x", "__class__"),
    "operator.attrgetter": by_name("operator", "attrgetter", "__class__"),
    "torch.load": by_name("torch", "load", "x"),
    "torch.hub.load": by_name("torch.hub", "load", "x", "y"),
    "numpy.load": by_name("numpy", "load", "x"),
    "importlib.import_module": by_name("importlib", "import_module", "os"),
    "types.CodeType": by_name("types", "CodeType"),
    "frugan.run.train.train": by_name("frugan.run.train", "train", "x"),
    "dotted": b"\x80\x04\x8c\x0bcollections\x8c\x19OrderedDict.__class__.mro\x93.",
    "nested os.system": nested_load(pickle.dumps(Calls(os.system, "touch executed"))),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_is_executed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.pkl").write_bytes(ATTACKS[name])
    with pytest.raises(FruganError, match="is refused: it asks for the global") as error:
        read_pickle(Path("x.pkl"))
    assert name == "dotted" or name.split(".")[-1] in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["x.pkl"]


def test_the_attacks_would_work_on_the_standard_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(ATTACKS["os.system"])
    assert Path("executed").exists()


def block(values: torch.Tensor) -> bytes:
    file = io.BytesIO()
    torch.save(values.storage(), file, _use_new_zipfile_serialization=False)
    return file.getvalue()


@pytest.mark.filterwarnings("ignore:.*TypedStorage:UserWarning")
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8]
)
def test_blocks_of_numbers(dtype: torch.dtype) -> None:
    values = torch.arange(7).to(dtype)
    assert torch.equal(_File(999)._inner(block(values)).block.values, values)
    for cut in (0, 10, 100, len(block(values)) - 1):
        with pytest.raises(Exception):  # noqa: B017 — read_pickle makes one sentence of any of them
            _File(999)._inner(block(values)[:cut])


@pytest.mark.filterwarnings("ignore:.*TypedStorage:UserWarning")
@pytest.mark.parametrize(
    "offset, size, stride",
    [
        (0, (8,), (1,)),
        (1, (7,), (1,)),
        (0, (1 << 40,), (0,)),  # beyond what a file may make
        (0, (3, 3), (3, 1)),
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (2, 2), (1,)),
    ],
)
def test_tensors_stay_within_their_block(offset: int, size: Any, stride: Any, tmp_path: Path) -> None:
    inner = nested_load(block(torch.arange(7.0)))[2:-1]
    arguments = b"".join(pickle.dumps(a, 2)[2:-1] for a in (offset, size, stride, False, {}))
    (tmp_path / "x.pkl").write_bytes(b"\x80\x04ctorch._utils\n_rebuild_tensor_v2\n(" + inner + arguments + b"tR.")
    with pytest.raises(FruganError, match=r"a tensor of size|memory beyond"):
        read_pickle(tmp_path / "x.pkl")


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("dtype", ["f4", "f8", ">f4", "i8", "u1", "b1"])
def test_arrays(protocol: int, dtype: str, tmp_path: Path) -> None:
    value = {
        "a": np.asfortranarray(np.arange(6).reshape(2, 3).astype(dtype)),
        "b": [np.dtype(dtype).type(1)],
        "c": np.zeros((0, 2), dtype),
    }
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(value, protocol))
    found = read_pickle(tmp_path / "x.pkl")
    for ours, theirs in ((found["a"], value["a"]), (found["b"][0], value["b"][0]), (found["c"], value["c"])):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("value", [np.array([None, "x"], object), np.array(["text"]), np.array([(1, 2.0)], "i4,f4")])
def test_arrays_of_anything_but_numbers_are_refused(value: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(value))
    with pytest.raises(FruganError):
        read_pickle(tmp_path / "x.pkl")


def test_huge_promises_cost_nothing(tmp_path: Path) -> None:
    for promise in (
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60),  # bytes
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 60),  # bytearray
        b"\x80\x04\x8b" + struct.pack("<i", (1 << 31) - 1),  # integer
        b"\x80\x04" + b"(" * 100_000,
        b"\x80\x04]r" + struct.pack("<I", 1 << 30) + b".",  # a place in the reader's memory
        b"\x80\x04" + b"]" + b"]" * 5000 + b"a" * 5000 + b".",
        by_name("numpy.core.multiarray", "_reconstruct", 0, (1 << 50,), b"b"),
    ):
        (tmp_path / "x.pkl").write_bytes(promise)
        with pytest.raises(FruganError):
            read_release(tmp_path / "x.pkl")


def mutations(data: bytes, count: int, seed: int) -> Any:
    """Bytes flipped, runs cut out, the end lost, pieces of the other file and of attacks spliced in at opcodes."""
    rng = np.random.default_rng(seed)
    starts = [position for _, _, position in pickletools.genops(data)]
    other = (GOLDEN / FILES[1 - FILES.index(FILES[seed % 2])]).read_bytes()
    for _ in range(count):
        mutated = bytearray(data)
        kind, at = rng.integers(5), int(rng.choice(starts))  # pyright: ignore[reportArgumentType, reportCallIssue]
        if kind == 0:
            for position in rng.integers(len(data), size=rng.integers(1, 20)):
                mutated[position] = rng.integers(256)
        elif kind == 1:
            del mutated[at : at + int(rng.integers(1, 400))]
        elif kind == 2:
            del mutated[int(rng.integers(len(data))) :]
        elif kind == 3:
            start = int(rng.integers(len(other)))
            mutated[at:at] = other[start : start + int(rng.integers(1, 400))]
        else:
            attack = ATTACKS[str(rng.choice(list(ATTACKS)))]
            mutated[at:at] = attack[2:-1]
        yield bytes(mutated)


def outcome(file: Path) -> str:
    try:
        read_release(file)
    except FruganError as error:
        return "refused" if "is refused" in str(error) else "unreadable" if "no pickle" in str(error) else "no networks"
    return "read"


@pytest.mark.parametrize("count", [40, pytest.param(1500, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_mutated_files(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Always networks or one sentence; never a crash, and nothing executed."""
    executed: list[Any] = []
    monkeypatch.setattr(os, "system", executed.append)
    monkeypatch.chdir(tmp_path)
    outcomes: dict[str, int] = {}
    for i, name in enumerate(FILES):
        for mutated in mutations((GOLDEN / name).read_bytes(), count, seed=i):
            (tmp_path / "x.pkl").write_bytes(mutated)
            kind = outcome(tmp_path / "x.pkl")
            outcomes[kind] = outcomes.get(kind, 0) + 1
    print(outcomes)
    assert sum(outcomes.values()) == 2 * count
    assert outcomes["refused"]
    assert outcomes["unreadable"]
    assert not executed
    assert [p.name for p in tmp_path.iterdir()] == ["x.pkl"]
