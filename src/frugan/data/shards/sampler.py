"""An endless shuffled stream of image numbers that visits shards in turn, a window of them at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from frugan.data.sampler import Sampler
from frugan.errors import FruganError


class ShardSampler(Sampler):
    """Draws every index once per epoch: shards in an order that follows from (seed, epoch), `window` of them at a time,
    their indices shuffled together. `entering(now, soon)` hears the shards of a window, and of the one after it, before the
    first index of the window is drawn.
    """

    def __init__(
        self,
        indices: np.ndarray,
        shards: np.ndarray,
        *,
        window: int,
        seed: int = 0,
        entering: Callable[[Sequence[int], Sequence[int]], None] = lambda now, soon: None,
    ) -> None:
        """`shards` int `[N]`: the shard of every index."""
        super().__init__(indices, seed=seed)
        self._members = {int(k): indices[shards == k] for k in np.unique(shards)}
        self._window, self._entering = window, entering
        self._entered: tuple[int, int] | None = None
        self._ends = np.zeros(0, np.int64)  # positions in the order where windows end

    def next(self, n: int) -> np.ndarray:
        """As of `Sampler`; announces a window one call late, so that what the last call gave is not dropped meanwhile."""
        assert len(self._order), "which also finds the ends of windows"
        at = (self._epoch, int(np.searchsorted(self._ends, self._position, "right")))
        if at[1] == len(self._ends):
            at = (self._epoch + 1, 0)
        if at != self._entered:
            windows = [*self._windows(at[0])[at[1] :], *self._windows(at[0] + 1)]
            self._entering(windows[0], windows[1])
            self._entered = at
        return super().next(n)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"window": self._window, "shards": len(self._members)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if (state.get("window"), state.get("shards")) != (self._window, len(self._members)):
            raise FruganError(
                f"the saved run shuffles within {state.get('window', 'all')} shards of {state.get('shards', 'any number')}, "
                f"here it is {self._window} of {len(self._members)}; resume with the same --cache-limit"
            )
        super().load_state_dict(state)
        self._entered = None

    def _windows(self, epoch: int) -> list[list[int]]:
        order = np.random.default_rng([self._seed, epoch]).permutation(list(self._members)).tolist()
        return [order[i : i + self._window] for i in range(0, len(order), self._window)]

    def _shuffle(self) -> np.ndarray:
        generator = np.random.default_rng([self._seed, self._epoch, 1])
        windows = self._windows(self._epoch)
        parts = [generator.permutation(np.concatenate([self._members[k] for k in window])) for window in windows]
        self._ends = np.cumsum([len(part) for part in parts])
        return np.concatenate(parts)
