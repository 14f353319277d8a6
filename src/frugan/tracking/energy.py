"""Energy used by processors (RAPL) and NVIDIA GPUs (NVML), where the system lets a program read its meters.

Both count what the device used, whoever made it work. Nothing is estimated: where no meter can be read, there is no number.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")
PROCESSORS, GPUS = "energy/processors", "energy/gpus"
"""Names of a record's figures, in joules since the record before."""


class EnergyMeter:
    """Joules since the last reading, by name; the first reading counts from when the meter was made.

    `root`: where Linux shows its RAPL zones: energy_uj in microjoules, which wraps round at max_energy_range_uj.
    """

    def __init__(self, root: Path = POWERCAP) -> None:
        self._zones = dict(_zones(root))
        self._gpus = _open_gpus()
        self._last_gpus = self._gpu_joules()

    def read(self) -> dict[str, float]:
        """The energy used since the last reading, by meter; {} where there are no readable meters."""
        found: dict[str, float] = {}
        for zone, before in self._zones.items():
            now = _number(zone / "energy_uj")
            if now is None:
                continue
            gone = now - before if now >= before else now - before + (_number(zone / "max_energy_range_uj") or 0)
            found[PROCESSORS] = found.get(PROCESSORS, 0.0) + max(gone, 0) / 1e6
            self._zones[zone] = now
        before, self._last_gpus = self._last_gpus, self._gpu_joules()
        if before is not None and self._last_gpus is not None:
            found[GPUS] = max(self._last_gpus - before, 0.0)
        return found

    def _gpu_joules(self) -> float | None:
        """The joules of all GPUs since their driver was loaded; None where they do not tell."""
        if self._gpus is None:
            return None
        nvml, handles = self._gpus
        try:
            return sum(nvml.nvmlDeviceGetTotalEnergyConsumption(handle) for handle in handles) / 1000
        except nvml.NVMLError:
            return None


def _zones(root: Path) -> Iterator[tuple[Path, int]]:
    """RAPL's packages that can be read (parts of a package are in its own count), with what they show now."""
    for zone in sorted(root.glob("intel-rapl:*")):
        if zone.name.count(":") == 1 and (value := _number(zone / "energy_uj")) is not None:
            yield zone, value


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text("ascii"))
    except (OSError, ValueError):
        return None


def _open_gpus() -> tuple[Any, list[Any]] | None:
    """The package nvidia-ml-py, where it is installed, and its handles of all GPUs."""
    try:
        import pynvml  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return None
    return (pynvml, handles) if handles else None
