"""Importing libraries that report their use to their makers, so that they do not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_OPT_OUT = {"ORT_DISABLE_TELEMETRY": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
"""What onnxruntime and MLflow read when they are imported."""


@contextmanager
def no_telemetry() -> Iterator[None]:
    """Context in which onnxruntime or MLflow is imported. The environment is the same afterwards; what was imported before stays
    as it is."""
    before = {name: os.environ.get(name) for name in _OPT_OUT}
    os.environ.update(_OPT_OUT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def import_onnxruntime() -> Any:
    """The module onnxruntime. Raises `ImportError` where it is not installed."""
    with no_telemetry():
        import onnxruntime
    onnxruntime.disable_telemetry_events()  # of the system, which the environment does not turn off
    return onnxruntime
