"""A tracker takes one flat record per tick and writes it somewhere."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Protocol

Record = Mapping[str, Any]
"""Names to numbers, None, or a histogram's dict; docs/reference/run-directory.md lists the names and units."""


class Tracker(Protocol):
    def log(self, record: Record) -> None: ...

    def close(self) -> None: ...


class Trackers:
    """Hands each record to several trackers, in order; closes all of them even if one fails to."""

    def __init__(self, *trackers: Tracker) -> None:
        self.trackers = trackers

    def log(self, record: Record) -> None:
        for tracker in self.trackers:
            tracker.log(record)

    def close(self) -> None:
        with ExitStack() as stack:
            for tracker in reversed(self.trackers):
                stack.callback(tracker.close)
