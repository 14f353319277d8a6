"""Whether kernels of our own run: a missing one, or one whose result is wrong, is told of and not used."""

from __future__ import annotations

import warnings

import pytest
import torch

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
