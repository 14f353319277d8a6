"""Stored values of shards, counted in their decoded images, where a range of values is asked for by percentiles."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from frugan.data.shards.index import Shard
from frugan.data.shards.store import ShardLost, Store
from frugan.data.stats import Histograms
from frugan.errors import FruganError

MOST_COUNTED = 64
"""Shards whose images are counted; of more, so many that are evenly spread."""


class ShardValues:
    """A `Distribution` of the values of shards. Images are counted when it is first asked for, as training sees them: cropped and
    resized, with the channels that it wants."""

    def __init__(self, store: Store, shards: Sequence[Shard]) -> None:
        self._store, self._shards = store, shards
        self.channels = store.plan.channels - store.plan.alpha

    def quantile(self, share: float, channel: int | None = None) -> float:
        return self._counts.quantile(share, channel)

    def name(self, channel: int) -> str:
        return self._counts.name(channel)

    @cached_property
    def _counts(self) -> Histograms:
        """Raises `FruganError` where no shard can be had."""
        counts, reason = Histograms(alpha=self._store.plan.alpha, each=True), ""
        chosen = np.unique(np.linspace(0, len(self._shards) - 1, MOST_COUNTED).round().astype(int))
        for shard in (self._shards[k] for k in chosen):
            folder = self._store.folder(shard)
            passing = (
                self._store.limit is not None and not folder.is_dir()
            )  # only what is here already stays within the limit
            try:
                for image in self._store.load(shard).pixels:
                    counts.add(image[..., : self._store.plan.channels])
            except ShardLost as error:
                reason = f"{shard.url}: {error}"
            if passing:
                shutil.rmtree(folder, ignore_errors=True)
        if not counts.channels:
            raise FruganError(f"--value-range with percentiles: no shard can be had to count values in ({reason})")
        return counts
