"""Tools for sets of images before training: reports, prepared sets, shards, demo images."""

from frugan.data.tools.avatars import STYLES, Avatars, draw_avatars
from frugan.data.tools.inspect import Inspection, contact_sheet, inspect
from frugan.data.tools.prepare import Prepared, prepare
from frugan.data.tools.shard import Sharded, shard

__all__ = [
    "STYLES",
    "Avatars",
    "Inspection",
    "Prepared",
    "Sharded",
    "contact_sheet",
    "draw_avatars",
    "inspect",
    "prepare",
    "shard",
]
