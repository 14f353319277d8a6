"""Some faults once; with `-m slow` as often as docs/project/notebook/reliability.md says.

`python -m tests.faults` makes its table.
"""

from __future__ import annotations

import sys

import pytest

pytest.importorskip("resource", reason="the simulated limits are POSIX's")

from .harness import Bench
from .table import FAULTS, trials

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="faults are simulated as on Linux")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("faults"))


QUICK = (
    "kill_while_writing", "terminate", "hang_up", "full_disk_anywhere", "damaged_checkpoint", "two_at_once", "no_memory",
    "bad_weights",
)  # fmt: skip


@pytest.mark.parametrize("name", QUICK)
def test_survived_once(bench: Bench, name: str) -> None:
    FAULTS[name].happen(bench, next(trials(name, 1)))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", FAULTS)
def test_survived(bench: Bench, name: str) -> None:
    for chance in trials(name, FAULTS[name].times):
        FAULTS[name].happen(bench, chance)
