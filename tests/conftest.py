"""Shared fixtures. The same suite runs on another device with `--device cuda`."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from tests import shapes
from tests.browser import browser
from tests.fake_device import introduce

__all__ = ["browser"]

sys.dont_write_bytecode = False  # tests start hundreds of processes, each of which would compile the package anew
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

multiprocessing.set_forkserver_preload(["frugan.run.train", "frugan.cli.app", "tests.faults.harness"])  # once for all

introduce()
shapes.install()

settings.register_profile("fast", max_examples=40, deadline=None, derandomize=True, database=None)
settings.register_profile("long", max_examples=500, deadline=None, database=None)
settings.load_profile("fast")

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="torch device to test on")


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.config.getoption("--device"))  # pyright: ignore[reportArgumentType]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On another device than the CPU only those tests run that take it."""
    if config.getoption("--device") == "cpu":
        return
    on_device = [item for item in items if "device" in getattr(item, "fixturenames", ())]
    config.hook.pytest_deselected(items=[item for item in items if item not in on_device])
    items[:] = on_device


@pytest.fixture(scope="session", autouse=True)
def _exact() -> None:
    """Tests compare numbers: without TF32, which has 10 bits where float32 has 23."""
    torch.backends.cudnn.allow_tf32 = False


@pytest.fixture(scope="session", autouse=True)
def _few_threads() -> None:
    torch.set_num_threads(1)


def load_golden(name: str) -> dict:
    """A golden file as a dict of float32 tensors (and its JSON entries parsed)."""
    with np.load(GOLDEN / name) as data:
        return {k: json.loads(str(v)) if v.dtype.kind == "U" else torch.from_numpy(v) for k, v in data.items()}


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """max |actual − expected| / max |expected|."""
    return float((actual.detach().cpu() - expected).abs().max() / expected.abs().max().clamp_min(1e-12))
