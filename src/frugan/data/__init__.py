"""Images in, batches out: sources, labels, the decoded cache, the data set, sampling, inspection, demo images."""

from frugan.data.avatars import STYLES, Avatars, draw_avatars
from frugan.data.dataset import DataConfig, Dataset, draw_labels
from frugan.data.inspection import Inspection, contact_sheet, inspect
from frugan.data.opening import open_dataset
from frugan.data.prepare import Prepared, prepare
from frugan.data.sampler import Sampler
from frugan.data.sharding import Sharded, shard

__all__ = [
    "STYLES",
    "Avatars",
    "DataConfig",
    "Dataset",
    "Inspection",
    "Prepared",
    "Sampler",
    "Sharded",
    "contact_sheet",
    "draw_avatars",
    "draw_labels",
    "inspect",
    "open_dataset",
    "prepare",
    "shard",
]
