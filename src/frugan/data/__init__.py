"""Images in, batches out: sources, labels, the decoded cache, the data set, sampling; `frugan.data.tools` for sets on disk."""

from frugan.data.config import DataConfig
from frugan.data.dataset import Dataset, draw_labels
from frugan.data.open import open_dataset
from frugan.data.sampler import Sampler

__all__ = [
    "DataConfig",
    "Dataset",
    "Sampler",
    "draw_labels",
    "open_dataset",
]
