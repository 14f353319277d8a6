"""Each monitor: silent on a healthy run, and until its limit; then a sentence with what to try."""

from __future__ import annotations

from typing import Any

import pytest

from frugan.tracking.monitors import MONITORS, Setting, check, digest

SETTING = Setting(p_max=0.85, metric="kid")


def record(kimg: float, **more: Any) -> dict[str, Any]:
    logits = {"mean": 0.5, "std": 1.0, "counts": [0] * 64, "count": 8}
    values = {"kimg": kimg, "p": 0.2, "r_t": 0.6, "non_finite": 0, "logits/real": logits, "diversity": 0.9}
    return {**values, "logits/generated": logits | {"mean": -0.5}, "loss/generator": 1.0, **more}


HEALTHY = [record(4.0 * i, **{"metric/kid": 1 / (i + 1)}) for i in range(30)]
WIDE = {"mean": 150.0, "std": 2.0, "count": 8}

# What is wrong from the 10th record on, and how many records it takes until that is said.
ILL: dict[str, tuple[dict[str, Any], int]] = {
    "overfitting": ({"r_t": 0.99}, 14),  # 13 ticks of 4 kimg are the first to reach 50
    "p at its cap": ({"p": 0.8500000238}, 6),
    "wide outputs": ({"logits/real": WIDE}, 1),
    "lost diversity": ({"diversity": 0.3}, 1),
    "non-finite": ({"non_finite": 2.0}, 1),
}


def said(records: list[dict[str, Any]], setting: Setting = SETTING) -> dict[str, str]:
    return check([digest(r) for r in records], setting)


def test_a_healthy_run_is_silent() -> None:
    assert [said(HEALTHY[:n]) for n in range(31)] == [{}] * 31


@pytest.mark.parametrize("name", ILL)
def test_it_is_said_in_time_and_not_before(name: str) -> None:
    wrong, needed = ILL[name]
    ill = HEALTHY[:9] + [record(4.0 * i, **wrong) for i in range(9, 30)]
    assert said(ill[: 9 + needed - 1]) == {}
    found = said(ill[: 9 + needed])
    assert list(found) == [name]
    assert found[name].endswith(MONITORS[name].advice)


@pytest.mark.parametrize("name", [name for name in ILL if name != "non-finite"])
def test_what_heals_is_said_no_more(name: str) -> None:
    wrong, needed = ILL[name]
    ill = HEALTHY[:9] + [record(4.0 * i, **wrong) for i in range(9, 9 + needed)]
    assert said([*ill, record(200)]) == {}


@pytest.mark.parametrize("higher", [False, True])
def test_a_metric_that_gets_worse(higher: bool) -> None:
    """Five times in a row, records without evaluations between; whichever way is worse."""
    setting = Setting(metric="recall", higher_is_better=higher)
    values = [0.5 + (-0.01 if higher else 0.01) * i for i in range(6)]
    records = [r for i, v in enumerate(values) for r in (record(8 * i, **{"metric/recall": v}), record(8 * i + 4))]
    assert said(records[:-2], setting) == {}
    assert list(said(records, setting)) == ["worse metric"]
    better = record(100, **{"metric/recall": values[0] + (0.1 if higher else -0.1)})
    assert said([*records, better], setting) == {}
    assert said(records, Setting(metric="recall", higher_is_better=not higher)) == {}


def test_every_monitor_is_tested() -> None:
    assert {*ILL, "worse metric"} == set(MONITORS)


@pytest.mark.parametrize("value", [None, float("nan"), "text"])
def test_figures_that_are_missing(value: Any) -> None:
    for name in ("p", "r_t", "diversity", "metric/kid"):
        assert said([record(4.0 * i, **{name: value}) for i in range(30)]) == {}
    assert (
        said([{"kimg": 4.0, "logits/real": {"mean": value, "std": value, "count": 0}, "logits/generated": None}]) == {}
    )


def test_outputs_that_overflow() -> None:
    lost = {"mean": None, "std": None, "count": 8}
    assert list(said([record(4.0, **{"logits/real": lost})])) == ["wide outputs"]


def test_diversity_is_lost_against_its_best() -> None:
    """It rises as training begins: half of the first value would be next to nothing."""
    records = [record(4.0 * i, diversity=value) for i, value in enumerate((0.1, 0.8, 0.9, 0.5, 0.4))]
    assert [list(said(records[:n])) for n in range(1, 6)] == [[], [], [], [], ["lost diversity"]]


def test_no_cap_is_no_cap() -> None:
    assert said([record(4.0 * i, p=0.99) for i in range(30)], Setting(p_max=0)) == {}


def test_diversity_is_lost_against_the_highest_so_far_but_noise_does_not_count() -> None:
    """Samples of the first steps differ more than training images do (above 1): coming down to those is no collapse."""

    def lost(*values: float) -> bool:
        records = [digest({"kimg": float(i), "diversity": v}) for i, v in enumerate(values)]
        return "lost diversity" in check(records, Setting())

    assert not lost(1.81, 0.85)
    assert not lost(1.81, 0.51)
    assert lost(1.81, 0.49)
    assert lost(0.2, 0.8, 0.39)  # the highest, not the first
    assert not lost(0.2, 0.8, 0.41)
