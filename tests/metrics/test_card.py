"""Evaluation cards: written, read, compared, refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frugan.errors import FruganError
from frugan.metrics import EvaluationCard, compare

CARD = EvaluationCard(
    values={"kid": 0.12, "kid_std": 0.01},
    protocol={"reference": "ab", "samples": 50, "truncation": 1.0},
    subject={"generator": "cd", "seed": 0},
    conditions={"seconds": 1.5},
    per_class={"cat": {"kid": 0.3}},
    nearest=[{"sample": 3, "positions": [1], "names": ["a.png"], "distances": [0.5]}],
)


def test_a_card_round_trips(tmp_path: Path) -> None:
    assert EvaluationCard.load(CARD.save(tmp_path / "card.json")) == CARD
    assert ("class cat", "kid", "0.3") in set(CARD.rows())


def test_values_are_plain_numbers() -> None:
    parts: dict[str, Any] = {
        "values": {"kid": np.float64(0.12), "fid": np.float32(3), "is": float("inf")},
        "protocol": {"resolution": (np.int64(16), 16)},
        "per_class": {"cat": {"kid": np.float64(0.3)}},
        "intervals": {"kid": (np.float64(0.1), np.float64(0.2))},
        "details": {"c_t": {"cells": np.zeros((1, 2), np.float32), "sure": np.bool_(True)}},
    }
    measured = EvaluationCard(**parts)
    assert repr(measured.values) == "{'kid': 0.12, 'fid': 3.0, 'is': inf}"
    assert repr((measured.per_class, measured.intervals)) == "({'cat': {'kid': 0.3}}, {'kid': [0.1, 0.2]})"
    assert repr((measured.protocol, measured.details)) == (
        "({'resolution': [16, 16]}, {'c_t': {'cells': [[0.0, 0.0]], 'sure': True}})"
    )


def test_cards_measured_alike_are_compared() -> None:
    other = dataclasses.replace(CARD, values={"kid": 0.1, "fid": 3.0}, subject={"seed": 1}, conditions={})
    assert compare(CARD, other) == {"kid": (0.12, 0.1)}


def test_other_protocols_are_refused_by_name() -> None:
    other = dataclasses.replace(CARD, protocol={**CARD.protocol, "samples": 60, "train": "ef"})
    with pytest.raises(FruganError, match="samples is 50 and 60; train is None and ef") as error:
        compare(CARD, other)
    assert "truncation" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 1}', '{"format": 1, "values": {}, "protocol": {}, "x": 1}']
)
def test_what_is_no_card(text: str, tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(FruganError, match="not an evaluation card"):
        EvaluationCard.load(tmp_path / "card.json")
    (tmp_path / "card.json").write_text(json.dumps({"format": 2}))
    with pytest.raises(FruganError, match="another format"):
        EvaluationCard.load(tmp_path / "card.json")
    with pytest.raises(FruganError, match="there is no such evaluation card"):
        EvaluationCard.load(tmp_path / "none.json")
