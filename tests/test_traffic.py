"""Bytes of a training step, counted on a CPU."""

from __future__ import annotations

import pytest
import torch

from benchmarks import traffic


def test_bytes_of_an_operation_are_those_of_what_it_reads_and_writes() -> None:
    counted = traffic.Traffic(batch=4)
    x = torch.ones(4, 3, 8, 8, dtype=torch.bfloat16)
    narrow = torch.ones(3).expand(4, 3)[:, :, None, None]  # 12 bytes, since an expanded axis lies there once
    with counted:
        torch.mul(x, narrow)
        x.view(4, -1)
    assert counted.moved["others", "mul", True] == x.nbytes + 12 + 2 * x.nbytes
    assert not any(name == "view" for _, name, _ in counted.moved)


def test_operators_of_a_gpu_move_less() -> None:
    """Each kind of them; in every phase of the first step."""
    found, totals = {}, []
    for without in ((), ("styles",), ("styles", "epilogue")):
        found, *_ = traffic.measure("auto", 16, 4, without)
        totals.append(sum(found.values()))
    assert totals == sorted(totals)
    assert totals[0] < 0.95 * totals[-1]
    assert {phase for phase, _ in found} == {*traffic.PHASES.values(), "others"}


def test_launches_are_told_by_source_and_phase() -> None:
    """Those of a backward pass too; each source launches something, and little is left without one."""
    _, launches, _ = traffic.measure("auto", 16, 4)
    sources = {source for _, source, _ in launches}
    assert sources == set(traffic.SOURCES)
    assert all(launches[phase, "demodulation", True] for phase in ("generator", "path length", "discriminator"))
    assert not launches["R1", "demodulation", True]  # which has no generator
    total = sum(launches.values())
    rows = traffic.table(launches).splitlines()
    assert rows[2].startswith("| sum |")
    assert sum(map(int, rows[2].split("|")[-2].split("+"))) == total


@pytest.mark.parametrize("shape, stride, bytes", [((2, 3), (3, 1), 24), ((2, 3), (0, 1), 12), ((2, 3), (0, 0), 4)])
def test_an_expanded_axis_counts_once(shape: tuple[int, int], stride: tuple[int, int], bytes: int) -> None:
    assert traffic._bytes(torch.zeros(6).as_strided(shape, stride)) == bytes
