"""Smaller storage of ONNX files: their weights as float16, or as int8 with a scale for each row.

A packed file is the ONNX file with the bytes of its large float32 weights replaced. Whoever reads it (`unpack`; worker.js in the
page) makes them float32 again, so that a runtime loads and computes the same whatever they were stored as. It consists of

    the length of the header, uint32; the header, JSON {"size": bytes of the ONNX file, "tensors": [{at, count, scales, inner}]};
    then, for each tensor in the order of `at` (where its float32 values begin in the ONNX file), the ONNX file's bytes up to it
    and its values: float16 where scales is 0, else that many float32 scales and int8, where value i has scale
    ⌊i / inner⌋ mod scales; then the rest of the ONNX file. All numbers are little-endian.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from typing import Literal

import numpy as np

from frugan.files import parse_json

Weights = Literal["float16", "int8", "float32"]
WEIGHTS: tuple[Weights, ...] = ("float16", "int8", "float32")

_SMALLEST = 1024
"""Tensors of fewer numbers stay as they are."""


def pack(content: bytes, weights: Weights) -> bytes:
    """An ONNX file → the same with smaller weights."""
    tensors, body, end = [], [], 0
    for at, values in [] if weights == "float32" else _large(content):
        stored, scales, inner = (values.astype("<f2").tobytes(), 0, 1) if weights == "float16" else _whole(values)
        tensors.append({"at": at, "count": values.size, "scales": scales, "inner": inner})
        body += [content[end:at], stored]
        end = at + values.nbytes
    header = json.dumps({"size": len(content), "tensors": tensors}).encode()
    return b"".join([struct.pack("<I", len(header)), header, *body, content[end:]])


def unpack(packed: bytes) -> bytes:
    """The ONNX file of a packed one, its weights rounded to what was stored."""
    start = 4 + struct.unpack_from("<I", packed)[0]
    parts, at, end = [], start, 0

    def take(size: int) -> bytes:
        nonlocal at
        at += size
        return packed[at - size : at]

    for tensor in parse_json(packed[4:start])["tensors"]:
        parts.append(take(tensor["at"] - end))
        count, scales = tensor["count"], tensor["scales"]
        if scales:
            scale = np.frombuffer(take(4 * scales), "<f4")[np.arange(count) // tensor["inner"] % scales]
            values = np.frombuffer(take(count), np.int8) * scale
        else:
            values = np.frombuffer(take(2 * count), "<f2")
        parts.append(values.astype("<f4").tobytes())
        end = tensor["at"] + 4 * count
    return b"".join([*parts, packed[at:]])


def _large(content: bytes) -> Iterator[tuple[int, np.ndarray]]:
    """The large float32 weights of an ONNX file, in order: where their bytes begin, and their values."""
    import onnx

    at = 0
    for tensor in onnx.load_from_string(content).graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size >= _SMALLEST and tensor.raw_data:
            at = content.index(tensor.raw_data, at)
            yield at, values
            at += values.nbytes


def _whole(values: np.ndarray) -> tuple[bytes, int, int]:
    """Scales and int8 as they are stored, the number of scales, and how many values in a row have the same one."""
    whole, scale = quantised(values)
    axis = int(np.argmax(scale.shape))
    return scale.astype("<f4").tobytes() + whole.tobytes(), scale.size, math.prod(values.shape[axis + 1 :])


def quantised(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 of any shape → int8 of the same shape and float32 scales that broadcast to it: values ≈ int8 · scales."""
    found = []
    for axis in range(values.ndim):
        others = tuple(i for i in range(values.ndim) if i != axis)
        scale = np.maximum(np.abs(values).max(axis=others, keepdims=True), 1e-30).astype(np.float32) / np.float32(127)
        whole = np.round(values / scale).astype(np.int8)
        found.append((float(np.square(values - whole * scale).sum()), whole, scale))
    _, whole, scale = min(found, key=lambda f: f[0])
    return whole, scale
