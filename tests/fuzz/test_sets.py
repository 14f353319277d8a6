"""Files of many images, made to harm or damaged: read or refused in a sentence, in bounded memory and time; nothing is run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.damage import OF_PYTHON
from tests.fuzz.sets import INPUTS


@pytest.fixture(scope="module")
def found() -> dict[str, tuple[str, str]]:
    """Input → outcome, what was said; from a process of its own, which forks one for each limit."""
    seeds = "3"
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.sets", seeds], capture_output=True, text=True, timeout=280, check=False,
        cwd=root, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {name: (outcome, said) for name, outcome, said in lines}


@pytest.mark.parametrize("name", INPUTS)
def test_made_to_harm(name: str, found: dict[str, tuple[str, str]]) -> None:
    outcome, said = found[name]
    reason = INPUTS[name][1]
    assert outcome in (("refused",) if reason else ("read", "refused")), said
    assert re.search(reason, said), said


def test_damaged_ones_are_read_or_refused(found: dict[str, tuple[str, str]]) -> None:
    damaged = {name: told for name, told in found.items() if "seed" in name}
    assert len(damaged) == 40
    assert [told for name, told in damaged.items() if name.endswith("-1")] == [("read", "")] * 10
    assert {outcome for outcome, _ in damaged.values()} == {"read", "refused"}
    assert "all" not in found
    assert not [said for _, said in found.values() if OF_PYTHON.search(said)]
