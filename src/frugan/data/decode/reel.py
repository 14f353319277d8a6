"""Random access to frames that can be decoded in order only, for threads that ask for them in nearly that order."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator

import numpy as np

_KEPT = 64  # frames: more than threads that read images get ahead of each other
_KEPT_BYTES = 1 << 29


class Reel:
    """Frames by number. The last ones stay in memory, 64 or 512 MiB at most; for an earlier one decoding begins anew."""

    def __init__(self, begin: Callable[[], Iterator[np.ndarray]]) -> None:
        """`begin()` decodes from the first frame on."""
        self._begin, self._frames = begin, begin()
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._next = 0
        self._end: Exception | None = None
        self._lock = threading.Lock()

    def __getitem__(self, number: int) -> np.ndarray:
        """Raises what decoding raised where the file is damaged before or at this frame, `ValueError` behind the last one."""
        with self._lock:
            if number not in self._kept and number < self._next:
                self._frames, self._next, self._end = self._begin(), 0, None
                self._kept.clear()
            while self._next <= number:
                self._advance()
            return self._kept[number]

    def _advance(self) -> None:
        if self._end is not None:
            raise ValueError(f"ends at frame {self._next}: {self._end}") from self._end
        try:
            frame = next(self._frames, None)
            if frame is None:
                raise ValueError("there are no more")
        except Exception as error:
            self._end = error
            raise ValueError(f"ends at frame {self._next}: {error}") from error
        self._kept[self._next] = frame
        self._next += 1
        while len(self._kept) > _KEPT or len(self._kept) * frame.nbytes > max(_KEPT_BYTES, frame.nbytes):
            self._kept.popitem(last=False)
