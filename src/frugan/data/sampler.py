"""An endless shuffled stream of image numbers that can be stopped and continued anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from frugan.errors import FruganError


class Sampler:
    """Draws every image once in an epoch, in an order that follows from (seed, epoch) alone.

    Args:
        indices: the images.
        seed: of the order.
        classes: int `[N]`, of each index: every draw first picks a class, all equally likely, then the next image of
            that class's own shuffled round.
        groups: int `[N]`, likewise: a group is picked before the image, of the class where there are classes.
    """

    def __init__(
        self,
        indices: np.ndarray,
        *,
        seed: int = 0,
        classes: np.ndarray | None = None,
        groups: np.ndarray | None = None,
    ) -> None:
        if len(indices) == 0:
            raise FruganError("there are no images to draw from; give more, or a smaller --held-out")
        self._indices = np.asarray(indices, np.int64)
        self._levels = [level for level in (classes, groups) if level is not None]
        self._seed, self._epoch, self._position = seed, 0, 0
        self._shuffled: np.ndarray | None = None

    def next(self, n: int) -> np.ndarray:
        """The next n indices, int64 `[n]`; an epoch's end may fall anywhere within."""
        parts = []
        while n > 0:
            if self._position == len(self._order):
                self._epoch, self._position = self._epoch + 1, 0
                self._shuffled = None
            part = self._order[self._position : self._position + n]
            parts.append(part)
            self._position += len(part)
            n -= len(part)
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def state_dict(self) -> dict[str, Any]:
        """The position in the stream, as numbers that JSON keeps."""
        return {"seed": self._seed, "epoch": self._epoch, "position": self._position, "size": len(self._indices)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues exactly where the state was taken. Raises `FruganError` for another set's state."""
        if state["size"] != len(self._indices):
            raise FruganError(
                f"the saved run draws from {state['size']} images but there are {len(self._indices)} now; "
                "resume with the same images, --mirror and --held-out"
            )
        self._seed, self._epoch, self._position = state["seed"], state["epoch"], state["position"]
        self._shuffled = None

    @property
    def _order(self) -> np.ndarray:
        """The indices of this epoch, int64, shuffled when they are first asked for."""
        if self._shuffled is None:
            self._shuffled = self._shuffle()
        return self._shuffled

    def _shuffle(self) -> np.ndarray:
        generator = np.random.default_rng([self._seed, self._epoch])
        if not self._levels:
            return generator.permutation(self._indices)
        return self._indices[_draw(len(self._indices), np.arange(len(self._indices)), self._levels, generator)]


def _draw(count: int, places: np.ndarray, levels: Sequence[np.ndarray], generator: np.random.Generator) -> np.ndarray:
    """`count` of the places, int64: by the kinds of the first level equally often, within each by the next; then in rounds."""
    if not levels:
        rounds = [generator.permutation(places) for _ in range(-(-count // len(places)))]
        return np.concatenate(rounds)[:count] if rounds else places[:0]
    kinds, kind_of = np.unique(levels[0][places], return_inverse=True)
    draws = generator.integers(len(kinds), size=count)
    by_kind = np.split(np.argsort(kind_of, kind="stable"), np.cumsum(np.bincount(kind_of))[:-1])
    order = np.empty(count, np.int64)
    for kind, own in enumerate(by_kind):
        order[draws == kind] = _draw(int((draws == kind).sum()), places[own], levels[1:], generator)
    return order
