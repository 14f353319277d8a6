"""The benchmarks' reference paths compute what the package does, and their table says what was measured."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import exact, harness, reference, training
from benchmarks.cases import CASES
from frugan.losses.penalties import input_gradient
from frugan.ops import conv, fir, modulated_conv

FILTER = fir.normalized_filter((1, 3, 3, 1))


@pytest.mark.parametrize("name, options", [("upsample", {}), ("downsample", {}), ("downsample", {"factor": 4})])
def test_resampling_by_definition(monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, int]) -> None:
    x, resample = torch.randn(2, 3, 8, 12, dtype=torch.float64), getattr(fir, name)
    expected = resample(x, FILTER.double(), **options)
    monkeypatch.setattr(fir, "upfirdn", reference.upfirdn)
    torch.testing.assert_close(resample(x, FILTER.double(), **options), expected)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("demodulate", [False, True])
def test_modulated_convolution_by_definition(kernel: int, up: bool, demodulate: bool) -> None:
    x, styles = torch.randn(2, 3, 4, 6, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    weight = torch.randn(5, 3, kernel, kernel, dtype=torch.float64)
    options = {"demodulate": demodulate, "resample_filter": FILTER.double() if up else None, "gain": 1.5}
    expected = modulated_conv.modulated_conv2d(x, weight, styles, **options)
    torch.testing.assert_close(reference.modulated_conv2d(x, weight, styles, **options), expected)


def test_cases_name_their_figures_and_arms() -> None:
    for name, case in CASES.items():
        assert case.arms, name
        assert case.figure or len(case.arms) == 1, f"{name}: arms are compared by a figure"


def test_arms_take_turns_and_ratios_are_within_a_round(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answers = iter(['{"s": 1}', '{"s": 3}', '{"s": 10}', '{"s": 20}', '{"s": 2}', '{"s": 6}'])
    asked = []

    def run(command: list[str], **_: object) -> object:
        asked.append(command[command.index("--job") + 2])
        code = f"print('noise'); print('{next(answers)}')"
        return real([sys.executable, "-c", code], capture_output=True, text=True)

    real = harness.subprocess.run
    monkeypatch.setattr(harness.subprocess, "run", run)
    case = harness.Case("a case", {"ours": lambda: {}, "theirs": lambda: {}}, "s")
    outcomes = harness.run_case("name", case, rounds=3, threads=1, deadline=time.monotonic() + 600, scratch=tmp_path)
    assert asked == ["ours", "theirs"] * 3
    assert outcomes["theirs"].ratio == 3
    assert "| theirs | 6 (3–20) | 3.00 |" in harness.as_table("name", case, outcomes)


def test_what_cannot_run_is_named(tmp_path: Path) -> None:
    case = harness.Case("a case", {"ours": lambda: {}}, "s")
    outcomes = harness.run_case("name", case, rounds=2, threads=1, deadline=0, scratch=tmp_path)
    assert "no time left" in harness.as_table("name", case, outcomes)


def test_training_by_definition() -> None:
    """All of it, in float64: penalties, their gradients of gradients, augmentation, the optimisers and running means."""
    found = exact.differences(channel_max=8, resolution=8, steps=2)
    assert {"loss/generator", "loss/discriminator", "penalty/r1", "penalty/path_length"} <= set(found)
    assert max(found.values()) < 1e-10


def test_waits_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def steps() -> Iterator[None]:
        while True:
            warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
            warnings.warn("something else", stacklevel=1)
            yield

    assert training.waits(steps(), 3) == 3
    assert modes == ["warn", "default"]


@pytest.mark.parametrize("transposed", [False, True])
def test_arithmetic_counts_our_convolutions_as_pytorchs(transposed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a penalty, with all derivatives."""
    x, weight = torch.randn(2, 3, 8, 8), torch.randn(3, 3, 3, 3, requires_grad=True)
    counts = []
    for built_in in (False, True):
        monkeypatch.setattr(conv, "_built_in", lambda built_in=built_in: built_in)

        def convolved(x: torch.Tensor) -> torch.Tensor:
            return conv.conv_transpose2d(x, weight, stride=2) if transposed else conv.conv2d(x, weight, padding=1)

        with FlopCounterMode(display=False, custom_mapping=training.CONVOLUTIONS) as counter:
            input_gradient(lambda x: convolved(x).square().sum(), x).square().sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0
