"""Smaller ONNX files: weights as float16, or as int8 with a scale for each row; computing stays in float32.

A weight W becomes Cast(W₁₆), or Cast(W₈) · s with s = max|W| / 127 over each slice of the axis where that costs least. Runtimes
do this once, when they load the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import onnx

Weights = Literal["float16", "int8", "float32"]
WEIGHTS: tuple[Weights, ...] = ("float16", "int8", "float32")

_SMALLEST = 1024
"""Tensors of fewer numbers stay as they are."""


def shrink(content: bytes, weights: Weights) -> bytes:
    """An ONNX file → the same with smaller weights."""
    if weights == "float32":
        return content
    import onnx

    model = onnx.load_from_string(content)
    initializers = list(model.graph.initializer)
    del model.graph.initializer[:]
    nodes = []
    for tensor in initializers:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < _SMALLEST:
            model.graph.initializer.append(tensor)
        elif weights == "float16":
            model.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float16), f"{tensor.name}_16"))
            nodes.append(_cast(f"{tensor.name}_16", tensor.name))
        else:
            whole, scale = quantised(values)
            for part, suffix in ((whole, "8"), (scale, "scale")):
                model.graph.initializer.append(onnx.numpy_helper.from_array(part, f"{tensor.name}_{suffix}"))
            nodes.append(_cast(f"{tensor.name}_8", f"{tensor.name}_float"))
            nodes.append(onnx.helper.make_node("Mul", [f"{tensor.name}_float", f"{tensor.name}_scale"], [tensor.name]))
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
    return model.SerializeToString()


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


def _cast(source: str, target: str) -> onnx.NodeProto:
    import onnx

    return onnx.helper.make_node("Cast", [source], [target], to=onnx.TensorProto.FLOAT)
