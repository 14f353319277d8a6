"""The number of threads is the one that is fastest now; it is kept, and given back."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from frugan.errors import FruganError
from frugan.networks import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig, SynthesisConfig
from frugan.training import threads


def test_cores_where_the_system_does_not_tell_those_of_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(threads.os, "sched_getaffinity", raising=False)
    for told, cores in ((6, 6), (None, 1)):
        monkeypatch.setattr(threads.os, "cpu_count", lambda told=told: told)
        assert threads.usable_cores() == cores


@given(st.integers(1, 500))
def test_counts_to_try(most: int) -> None:
    counts = threads.counts_to_try(most)
    assert counts[0] == 1
    assert counts[-1] == most
    assert all(a < b <= 2 * a for a, b in pairwise(counts))
    assert len(counts) <= 10


@given(st.dictionaries(st.integers(1, 64), st.floats(1e-3, 10), min_size=1))
def test_the_fastest_count_but_no_more_threads_than_pay(taken: dict[int, float]) -> None:
    best = threads.fastest(taken)
    assert taken[best] * 0.95 <= min(taken.values()) * (1 + 1e-9) or best == min(taken)
    assert all(taken[n] * 0.95 > taken[best] * 0.95**2 for n in taken if n < best)
    assert all(taken[n] >= 0.95 * taken[best] for n in taken if n > best)


@pytest.mark.parametrize(("slow", "best"), [(2, 1), (4, 2), (99, 4)], ids=["busy", "half busy", "idle"])
def test_a_busy_machine_gets_fewer(slow: int, best: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that takes its share with each thread, and ten times as long from so many threads on; by a clock of its own."""
    now = 0.0
    monkeypatch.setattr(threads.time, "perf_counter", lambda: now)

    def work() -> None:
        nonlocal now
        n = torch.get_num_threads()
        now += 0.02 * (10 if n >= slow else 1) / n

    before = torch.get_num_threads()
    found, taken = threads.choose_threads(work, 4, seconds=0.6)
    assert found == best
    assert set(taken) == {1, 2, 4}
    assert torch.get_num_threads() == before
    assert now < 2


@pytest.mark.parametrize("resolution, base", [((16, 16), 64), ((32, 32), 16384)])
def test_work_leaves_the_networks_as_they_were(resolution: tuple[int, int], base: int) -> None:
    from frugan.augment import AugmentConfig, AugmentPipeline
    from frugan.losses import ObjectiveConfig
    from frugan.training import Phases

    G = Generator(GeneratorConfig(resolution, z_dim=8, w_dim=8, synthesis=SynthesisConfig(base, 8)))
    D = Discriminator(DiscriminatorConfig(resolution, channel_base=base, channel_max=8))
    phases = Phases(G, D, AugmentPipeline(AugmentConfig(()), channels=3, resolution=resolution), ObjectiveConfig())
    before = [t.clone() for t in (*G.state_dict().values(), *D.state_dict().values())]
    threads.work_of(phases)()
    assert all(map(torch.equal, before, (*G.state_dict().values(), *D.state_dict().values())))
    assert all(p.grad is None for p in G.parameters())


@pytest.mark.parametrize("count", [0, -1, 10**6, 1.5, float("nan")])
def test_senseless_counts_are_refused(count: float) -> None:
    with pytest.raises(FruganError, match="threads"), threads.using(count):  # type: ignore[arg-type]
        pass
