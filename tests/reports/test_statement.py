"""Statement: each rule turns exactly where its threshold stands, and no sentence claims more than its number."""

from __future__ import annotations

import re
from typing import Any

import pytest

from frugan.reports.sections.statement import RULES, state
from frugan.reports.store import Findings

NEAR = 1e-6


def estimate(value: float, half: float = 0.0) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def network(**values: float) -> dict[str, Any]:
    """Metrics of intervals ± 0.1, and floors of 1 ± 0.5."""
    intervals = {k: [v - 0.1, v + 0.1] for k, v in values.items()}
    return {"values": values, "intervals": intervals, "floor": {k: [1.0, 0.5, 1.5] for k in values}}


def two(**values: float) -> dict[str, Any]:
    return {"networks": {"n1": network(**values), "n2": network()}}


def c_t(value: float) -> dict[str, Any]:
    return {"c_t": {"c_t": value, "error": 0.5}}


def pixels(low: float) -> dict[str, Any]:
    return {"copies_in_pixels": {"samples": estimate(low + 0.1, 0.1), "unseen": estimate(0.1, 0.1)}}


def gap(high: float) -> dict[str, Any]:
    return {"fld": {"copying": estimate(high - 1, 1)}}


def attacked(low: float, p: float, name: str = "distance", half: float = 0.1) -> dict[str, Any]:
    return {"attacks": {name: {"auc": estimate(low + half, half), "p": p}}}


def task(low: float, high: float) -> dict[str, Any]:
    difference = {"value": (low + high) / 2, "low": low, "high": high}
    return {"tasks": {"kind": {"score": "accuracy", "difference": difference}}, "statistics": {}}


def statistic(p: float) -> dict[str, Any]:
    found = {"real_mean": 1.0, "generated_mean": 2.0, "ks": estimate(0.5), "p": p}
    return {"tasks": {}, "statistics": {"brightness": found}}


def leak(*, leaks: bool, answerable: bool = True) -> dict[str, Any]:
    return {"leaks": {"xflip": {"leaks": leaks, "answerable": answerable, "about": "mirror images", "sentence": "s"}}}


def spectrum(distance: float) -> dict[str, Any]:
    return {"spectrum": {"largest_difference_db": distance, "floor_db": 1.0}}


def values(distance: float) -> dict[str, Any]:
    return {"values": {"channels": {"red": {"distance": distance, "floor": 1.0}}}}


def sharp(chance: float, distance: float = 2.0) -> dict[str, Any]:
    return {"sharpness": {"chance_sharper": chance, "distance": distance, "floor": 1.0}}


CASES: list[tuple[str, dict[str, Any], str | None]] = [
    ("distance", two(kid_full=1.6 + NEAR), "against"),
    ("distance", two(kid_full=1.6 - NEAR), "open"),
    ("distance", two(kid_full=1.5 + NEAR), "open"),
    ("distance", two(kid_full=1.5), "supported"),
    ("distance", two(fid=9.0), None),  # biased by the counts
    ("variety", two(recall=0.4 - NEAR), "against"),
    ("variety", two(recall=0.4 + NEAR), None),
    ("variety", two(precision=0.4 - NEAR), "against"),
    ("variety", two(density=0.4 - NEAR), "against"),
    ("variety", two(coverage=0.4 - NEAR), "against"),
    ("one network", {"networks": {"n1": network()}}, "open"),
    ("one network", two(), None),
    ("training images as reference", two() | {"against": "train"}, "open"),
    ("training images as reference", two() | {"against": "unseen"}, None),
    ("truncation", two() | {"truncation": 0.7}, "open"),
    ("truncation", two() | {"truncation": 1.0}, None),
    ("data-copying test", c_t(-1.5 - NEAR), "against"),
    ("data-copying test", c_t(-1.5 + NEAR), "supported"),
    ("data-copying test", c_t(1.5 - NEAR), "supported"),
    ("data-copying test", c_t(1.5 + NEAR), "open"),
    ("data-copying test", {}, None),
    ("near copies", {"distances": {"copied": estimate(0.015 + NEAR, 0.005)}}, "against"),
    ("near copies", {"distances": {"copied": estimate(0.015 - NEAR, 0.005)}}, "supported"),
    ("near copies", {"distances": {"copied": estimate(0.01, 0.01 + NEAR)}}, "open"),
    ("near copies", {"distances": {"copied": estimate(0.0)}} | c_t(1.5 + NEAR), "open"),
    ("near copies", {"distances": {"copied": estimate(0.0)}} | c_t(1.5 - NEAR), "supported"),
    ("near copies", {"distances": {"copied": estimate(0.0)}, "samples": 149}, "open"),
    ("near copies", {"distances": {"copied": estimate(0.0)}, "samples": 151}, "supported"),
    ("near copies", {}, None),
    ("authenticity", {"authenticity": {"generated": estimate(0.5 - NEAR), "unseen": estimate(0.6, 0.1)}}, "against"),
    ("authenticity", {"authenticity": {"generated": estimate(0.5 + NEAR), "unseen": estimate(0.6, 0.1)}}, "supported"),
    ("authenticity", {"authenticity": {"generated": estimate(0.7 + NEAR), "unseen": estimate(0.6, 0.1)}}, "open"),
    ("authenticity", {"authenticity": {"generated": estimate(0.7 - NEAR), "unseen": estimate(0.6, 0.1)}}, "supported"),
    ("generalisation gap", gap(-NEAR), "against"),
    ("generalisation gap", gap(NEAR), "supported"),
    ("generalisation gap", gap(1.0) | c_t(1.5 + NEAR), "open"),
    ("few unseen images", {"unseen_count": 99}, "open"),
    ("few unseen images", {"unseen_count": 100}, None),
    ("groups", {"unseen_left_out": 1}, "open"),
    ("groups", {"unseen_left_out": 0}, None),
    ("near-duplicates", {"near_duplicates": {"training": 9, "held_out": 1}}, "open"),
    ("near-duplicates", {"near_duplicates": {"training": 9, "held_out": 0}}, None),
    ("copies in pixels", pixels(0.2 + NEAR), "against"),
    ("copies in pixels", pixels(0.2 - NEAR), "supported"),
    ("copies in pixels", pixels(0.2 + NEAR) | c_t(1.5 + NEAR), "against"),
    ("copies in pixels", pixels(0.2 - NEAR) | c_t(1.5 + NEAR), "open"),
    ("copies in pixels", {}, None),
    ("membership", attacked(0.5 + NEAR, 0.01 - NEAR), "against"),
    ("membership", attacked(0.5 - NEAR, 0.01 - NEAR, half=0.04), "supported"),
    ("membership", attacked(0.5 + NEAR, 0.01 + NEAR, half=0.04), "supported"),
    ("membership", attacked(0.4 + NEAR, 0.5), "open"),
    ("membership", attacked(0.4 - NEAR, 0.5), "supported"),
    ("membership", attacked(0.3 + NEAR, 1.0), "supported"),
    ("membership", attacked(0.3 - NEAR, 1.0), "open"),  # below chance
    ("usefulness", task(-0.2, -NEAR), "against"),
    ("usefulness", task(-0.2, NEAR), "open"),
    ("usefulness", task(NEAR, 0.2), "supported"),
    ("own statistics", statistic(0.01 - NEAR), "against"),
    ("own statistics", statistic(0.01), "supported"),
    ("leaks", leak(leaks=True), "against"),
    ("leaks", leak(leaks=False), "supported"),
    ("leaks", leak(leaks=False, answerable=False), "open"),
    ("leaks", {"leaks": {"missing": "too few"}}, "open"),
    ("spectrum", spectrum(1 + NEAR), "against"),
    ("spectrum", spectrum(1.0), "supported"),
    ("values", values(1 + NEAR), "against"),
    ("values", values(1.0), "supported"),
    ("sharpness", sharp(0.6 + NEAR), "against"),
    ("sharpness", sharp(0.6 - NEAR), "supported"),
    ("sharpness", sharp(0.4 - NEAR), "against"),
    ("sharpness", sharp(0.9, distance=1.0), "open"),
    ("sharpness", sharp(0.6 - NEAR, distance=1.0), "supported"),
]


@pytest.mark.parametrize(
    ("rule", "numbers"),
    [
        ("distance", two(kid_full=3.0)),
        ("variety", two(recall=0.1)),
        ("near copies", {"distances": {"copied": estimate(0.3, 0.1)}}),
        ("authenticity", {"authenticity": {"generated": estimate(0.2, 0.1), "unseen": estimate(0.6, 0.1)}}),
        ("generalisation gap", gap(1.0)),
        ("copies in pixels", pixels(0.3)),
        ("membership", attacked(0.6, 0.001)),
        ("usefulness", task(-0.2, -0.1)),
        ("own statistics", statistic(0.5)),
        ("sharpness", {"sharpness": {**sharp(0.9)["sharpness"], "chance_sharper_interval": [0.8, 0.95]}}),
    ],
)
def test_sentences_give_the_interval_of_their_number(rule: str, numbers: dict[str, Any]) -> None:
    (found,) = [r for r in RULES if r.name == rule]
    ((_, sentence),) = found.judge(numbers)
    assert re.search(r"[-+\d.]+%? to [-+\d.]+", sentence)


@pytest.mark.parametrize(("rule", "numbers", "verdict"), CASES)
def test_a_rule_turns_at_its_threshold(rule: str, numbers: dict[str, Any], verdict: str | None) -> None:
    (found,) = [r for r in RULES if r.name == rule]
    assert [v for v, _ in found.judge(numbers)] == ([verdict] if verdict else [])


def test_every_rule_is_tested_from_either_side_and_stands_in_the_report() -> None:
    assert [rule.name for rule in RULES] == list(dict.fromkeys(name for name, _, _ in CASES))
    for rule in RULES:
        assert len({verdict for name, _, verdict in CASES if name == rule.name}) > 1, rule.name
    shown = [block for block in state({}).blocks if block.get("title") == "Rules"]
    assert [row[0] for row in shown[0]["rows"]] == [rule.name for rule in RULES]


def test_an_empty_section_leaves_its_question_open() -> None:
    found = state({"copying": Findings(empty="no images were held out.")})
    said = [(one["verdict"], one["sentence"]) for one in found.numbers["sentences"]]
    assert ("open", "Whether it copies was not measured: no images were held out.") in said
    assert {verdict for verdict, _ in said} == {"open"}
    assert len(said) == 5


def test_what_was_not_computed_is_left_open() -> None:
    found = state({"copying": Findings(numbers={"missing": {"c_t": "too few images"}})})
    assert any(one["sentence"] == "c_t: too few images." for one in found.numbers["sentences"])


def test_the_discriminator_is_not_to_be_published_where_it_tells() -> None:
    (rule,) = [r for r in RULES if r.name == "membership"]
    for name, told in (("discriminator", True), ("distance", False)):
        ((_, sentence),) = rule.judge(attacked(0.6, 0.001, name))
        assert ("Do not publish the discriminator" in sentence) == told


def test_no_sentence_overclaims() -> None:
    """Nothing is called safe, private, anonymous or proven, whatever the numbers."""
    never = re.compile(
        r"\b(safe|private|anonymous|proves? that|certain|guaranteed|compliant|indistinguishable)\b", re.IGNORECASE
    )
    for name, numbers, _ in CASES:
        (rule,) = [r for r in RULES if r.name == name]
        for _, sentence in rule.judge(numbers):
            assert not never.search(sentence), sentence
            assert sentence.endswith(".")
            assert not sentence[0].islower()
