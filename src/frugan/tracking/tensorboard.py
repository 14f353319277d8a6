"""Records as TensorBoard event files."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from frugan.files import plain
from frugan.tracking.tracker import Record

_COUNTERS = {"kimg", "images"}  # they are the horizontal axis


class TensorBoard:
    """Scalars and histograms by image count (`global_step` = images shown to the discriminator).

    `purge_after` is the image count that training resumes from: TensorBoard hides what was written beyond it. A record
    that goes back in time, after a roll-back, hides the later ones likewise. Each record is written at once, here: the
    library's writing thread ends without a word on a full disk or a clock that jumps, and later records would wait for it.
    """

    def __init__(self, path: str | Path, *, purge_after: int | None = None) -> None:
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
        self._images = -1
        self._open(None if purge_after is None else purge_after + 1)

    def _open(self, purge_step: int | None) -> None:
        from tensorboardX.event_file_writer import EventsWriter  # takes most of a second to import
        from tensorboardX.proto.event_pb2 import SessionLog  # pyright: ignore[reportAttributeAccessIssue]

        unique = f".{time.time_ns()}"  # two files begun within a second would have one name
        self._writer = EventsWriter(str(self.path / "events"), filename_suffix=unique)
        if purge_step is not None:
            self._write(purge_step, session_log=SessionLog(status=SessionLog.START))
        self._writer.flush()

    def _write(self, images: int, **content: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

        self._writer.write_event(Event(wall_time=time.time(), step=images, **content))

    def log(self, record: Record) -> None:
        from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
        from tensorboardX.summary import histogram_raw

        images = int(record["images"] if "images" in record else record["kimg"] * 1000)
        if images < self._images:
            self._writer.close()
            self._open(purge_step=images)
        self._images = images
        summary = Summary()
        for name, value in record.items():
            value = plain(value)
            if isinstance(value, Mapping):
                if value.get("count") and None not in (value["mean"], value["std"]):  # sums that overflowed
                    summary.MergeFrom(histogram_raw(name, **_raw(value)))
            elif isinstance(value, (int, float)) and name not in _COUNTERS:
                summary.value.add(tag=name, simple_value=value)
        self._write(images, summary=summary)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def _raw(histogram: Mapping[str, Any]) -> dict[str, Any]:
    """A `Histogram` dict as TensorBoard's: upper bin limits, from the first bin that is not empty to the last."""
    counts = np.array([histogram["below"], *histogram["counts"], histogram["above"]], np.float64)
    low, high = histogram["edges"]
    limits = np.append(np.linspace(low, high, len(counts) - 1), max(high, histogram["max"]))
    filled = np.flatnonzero(counts)
    used = slice(filled[0], filled[-1] + 1)
    n, mean, std = (histogram[k] for k in ("count", "mean", "std"))
    return {
        "min": histogram["min"],
        "max": histogram["max"],
        "num": n,
        "sum": mean * n,
        "sum_squares": (std**2 + mean**2) * n,
        "bucket_limits": limits[used].tolist(),
        "bucket_counts": counts[used].tolist(),
    }
