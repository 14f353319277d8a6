"""Histograms against NumPy."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from frugan.tracking import Histogram


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    "low, high, bins, scale, shift", [(-16, 16, 64, 3, 1), (-16, 16, 64, 20, -5), (-1, 3, 10, 1, 0)]
)
def test_equals_numpy(
    device: torch.device, dtype: torch.dtype, low: float, high: float, bins: int, scale: float, shift: float
) -> None:
    values = torch.from_numpy(np.random.default_rng(0).normal(shift, scale, (130, 13))).to(dtype)
    histogram = Histogram(low=low, high=high, bins=bins, device=device)
    assert not histogram.seen
    for row in values:
        histogram.add(row.to(device))
    assert histogram.seen
    found = histogram.to_dict()
    x = values.float().numpy().ravel()
    edges = np.linspace(low, high, bins + 1, dtype=np.float32)
    expected, _ = np.histogram(x, [-np.inf, *edges, np.inf])
    assert [found["below"], *found["counts"], found["above"]] == expected.tolist()
    assert found["count"] == x.size
    assert found["edges"] == [low, high]
    assert (found["min"], found["max"]) == (x.min(), x.max())
    x = x.astype(np.float64)
    assert found["mean"] == pytest.approx(x.mean(), abs=1e-5)
    assert found["std"] == pytest.approx(x.std(), rel=1e-5)


def test_every_edge_belongs_to_the_bin_that_it_begins() -> None:
    histogram = Histogram()
    histogram.add(torch.linspace(-16, 16, 65))
    found = histogram.to_dict()
    assert found["counts"] == [1] * 64
    assert (found["below"], found["above"]) == (0, 1)


def test_what_is_not_finite_is_counted_apart() -> None:
    histogram = Histogram()
    histogram.add(torch.tensor([[1.0, torch.nan], [torch.inf, -torch.inf], [3.0, torch.nan]], requires_grad=True))
    found = histogram.to_dict()
    assert (found["count"], found["not_finite"], found["below"], found["above"]) == (2, 4, 0, 0)
    assert (found["mean"], found["std"], found["min"], found["max"]) == (2.0, 1.0, 1.0, 3.0)


@pytest.mark.parametrize("values", [[], [torch.nan]])
def test_empty(values: list[float]) -> None:
    histogram = Histogram()
    histogram.add(torch.tensor(values))
    assert histogram.seen == bool(values)
    found = histogram.to_dict()
    assert found["count"] == 0
    assert found["mean"] is found["std"] is found["min"] is found["max"] is None
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_adding_reads_nothing_back() -> None:
    """On the meta device there are no values: any read by the host, or any shape that depends on one, fails."""
    Histogram(device="meta").add(torch.zeros(8, device="meta"))
