"""Batch size, micro-batch size per device and minibatch-std group: three numbers that must divide one another.

Each of n processes takes an equal share of the batch, works through it in micro-batches, and each of these falls into
minibatch-std groups: batch = n · k · micro-batch, micro-batch = j · group, with whole k and j.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from frugan.checks import as_option
from frugan.errors import FruganError


@dataclass(frozen=True)
class BatchSizes:
    """The three numbers; None where one is not given."""

    batch: int | None = None
    batch_per_device: int | None = None
    mbstd_group: int | None = None

    def __str__(self) -> str:
        """The sizes as options: "--batch 6 --batch-per-device 4"."""
        return " ".join(f"{as_option(name)} {value}" for name, value in self.given().items())

    def given(self) -> dict[str, int]:
        return {name: value for name, value in asdict(self).items() if value is not None}

    def fit(self, processes: int) -> bool:
        """Whether those given divide one another."""
        share, rest = divmod(self.batch or 0, processes)
        micro_batch = self.batch_per_device or share
        return not rest and share % (micro_batch or 1) == 0 and micro_batch % (self.mbstd_group or 1) == 0


def choose_sizes(asked: BatchSizes, batch: float, group: int, processes: int) -> tuple[int, int, int]:
    """(batch, batch per device, minibatch-std group): those asked for stay, the others come as near to the wanted ones
    as possible.

    Args:
        asked: sizes that the user gave.
        batch: the wanted batch.
        group: the wanted minibatch-std group.
        processes: that share a batch.

    Raises `FruganError`, with numbers that work, where those asked for do not divide one another.
    """
    if not asked.fit(processes):
        choices = " or ".join(str(remedy) for remedy in _remedies(asked, processes))
        raise FruganError(
            f"{asked}{f' in {processes} processes' if processes > 1 else ''}: each process takes whole micro-batches of the "
            f"batch, and a micro-batch falls into whole minibatch-std groups; choose {choices}"
        )
    share = batch / processes
    unit = asked.batch_per_device or asked.mbstd_group or (group if share >= group else 1)
    whole = asked.batch or nearest_multiple(share, unit) * processes
    per_device = asked.batch_per_device or whole // processes
    return whole, per_device, asked.mbstd_group or _best_group(per_device, group)


def nearest_multiple(value: float, unit: int) -> int:
    """The multiple of a unit nearest to a value, and at least one unit; the lower of two that are as near."""
    low = max(int(value // unit), 1) * unit
    return low + unit if low + unit - value < value - low else low


def _best_group(n: int, wanted: int) -> int:
    """The largest divisor of n up to what is wanted, but the next larger one instead of 1, which leaves nothing to compare."""
    divisors = _divisors(n)
    return max((d for d in divisors if 1 < d <= wanted), default=min((d for d in divisors if d > wanted), default=n))


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def _remedies(asked: BatchSizes, processes: int) -> Iterator[BatchSizes]:
    """Sizes that would fit: each given number changed alone to the nearest one that fits, else two of them."""
    single = [remedy for name in asked.given() for remedy in _nearest(asked, name, processes)]
    yield from single
    if not single:
        rest = replace(asked, mbstd_group=None)
        for remedy in (found for name in rest.given() for found in _nearest(rest, name, processes)):
            micro_batch = remedy.batch_per_device or asked.batch_per_device or 1
            yield replace(remedy, mbstd_group=_best_group(micro_batch, asked.mbstd_group or 1))


def _nearest(asked: BatchSizes, name: str, processes: int) -> Iterator[BatchSizes]:
    """One number as another one that fits the rest, as near as goes; nothing where there is none."""
    own, share = asked.given()[name], (asked.batch or 0) // processes
    values = {
        "batch": [nearest_multiple(own / processes, asked.batch_per_device or asked.mbstd_group or 1) * processes],
        "batch_per_device": _divisors(share) or [nearest_multiple(own, asked.mbstd_group or 1)],
        "mbstd_group": _divisors(asked.batch_per_device or share),
    }[name]
    for value in sorted(values, key=lambda v: (v == 1, abs(v - own), v)):  # of 1 image there is no deviation
        if replace(asked, **{name: value}).fit(processes):
            yield BatchSizes(**{name: value})
            return
