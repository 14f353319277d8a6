"""docs/reference/run-directory.md names every field that this room writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from frugan.tracking import Histogram, environment

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "run-directory.md").read_text("utf-8")
FIELDS = [*Histogram().to_dict(), *environment(), "memory_bytes", "host_memory_bytes"]


@pytest.mark.parametrize("field", FIELDS)
def test_is_documented(field: str) -> None:
    assert f"`{field}`" in PAGE
