"""Whether kernels of our own run: a missing one, or one whose result is wrong, is told of and not used."""

from __future__ import annotations

import warnings
from importlib.util import find_spec

import pytest
import torch

from benchmarks import kernels
from frugan.ops.kernels import runs


def missing(_: torch.device) -> bool:
    raise ImportError("No module named 'triton'\nmore")


@pytest.mark.parametrize(
    "probe, why", [(missing, r"slower \(No module named 'triton'\)"), (lambda _: False, "slower .*wrong")]
)
def test_what_does_not_run_is_told_of(probe, why: str) -> None:
    with pytest.warns(UserWarning, match=why):
        assert not runs(probe, torch.device("cpu"), "that is slower")


def test_warnings_of_the_probe_itself_are_left_out() -> None:
    def loud(_: torch.device) -> bool:
        warnings.warn("of an import", DeprecationWarning, stacklevel=1)
        return True

    assert runs(loud, torch.device("cpu"), "that is slower")


@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.parametrize("target", ["cuda:75", "cuda:90", "hip:gfx942"])
def test_every_kernel_compiles_for_gpus_that_are_not_here(target: str) -> None:
    """With next to no register spilled to memory."""
    for case in kernels.cases():
        compiled = kernels.compiled(case, target)
        if target.startswith("cuda"):
            found, _ = kernels.instructions(compiled)
            assert sum(name.startswith(("LDL", "STL")) for name in found) <= 4, case.name
