"""Energy meters of a simulated system: counters that grow, wrap round, cannot be read, or are not there."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from frugan.tracking.energy import GPUS, PROCESSORS, EnergyMeter


@pytest.fixture(autouse=True)
def _no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)


def zone(root: Path, name: str, value: int, most: int = 1_000_000_000) -> Path:
    folder = root / name
    folder.mkdir()
    (folder / "energy_uj").write_text(f"{value}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")
    return folder / "energy_uj"


def test_packages_are_added_up_and_their_parts_are_not(tmp_path: Path) -> None:
    first, second = zone(tmp_path, "intel-rapl:0", 5_000_000), zone(tmp_path, "intel-rapl:1", 0)
    part = zone(tmp_path, "intel-rapl:0:0", 0)
    meter = EnergyMeter(tmp_path)
    for file, value in ((first, 8_000_000), (second, 1_500_000), (part, 2_000_000)):
        file.write_text(str(value))
    assert meter.read() == {PROCESSORS: pytest.approx(4.5)}
    assert meter.read() == {PROCESSORS: 0.0}


def test_a_counter_that_wraps_round(tmp_path: Path) -> None:
    file = zone(tmp_path, "intel-rapl:0", 999_000_000, 1_000_000_000)
    meter = EnergyMeter(tmp_path)
    file.write_text("1000000")
    assert meter.read()[PROCESSORS] == pytest.approx(2.0)


def test_no_number_where_nothing_can_be_read(tmp_path: Path) -> None:
    assert EnergyMeter(tmp_path / "absent").read() == {}
    zone(tmp_path, "intel-rapl:0", 5).write_text("?")
    assert EnergyMeter(tmp_path).read() == {}


class NVMLError(Exception):
    pass


@pytest.mark.parametrize("fails", [False, True])
def test_gpus_tell_in_millijoules(fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = [{0: 1000, 1: 0}, {0: 3000, 1: 500}]

    def energy(handle: int) -> int:
        if fails:
            raise NVMLError
        return shown[0][handle]

    fake: Any = SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda i: i,
        nvmlDeviceGetTotalEnergyConsumption=energy,
    )
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    meter = EnergyMeter(tmp_path)
    del shown[0]
    assert meter.read() == ({} if fails else {GPUS: 2.5})
