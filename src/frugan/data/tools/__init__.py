"""Tools for sets of images before training: reports, prepared sets, shards, demo images."""

from frugan.data.tools.avatars import SHAPES, STYLES, Avatars, can_draw, draw_avatars
from frugan.data.tools.inspect import Inspection, contact_sheet, inspect
from frugan.data.tools.prepare import Prepared, prepare
from frugan.data.tools.shard import Sharded, shard

__all__ = [
    "SHAPES",
    "STYLES",
    "Avatars",
    "Inspection",
    "Prepared",
    "Sharded",
    "can_draw",
    "contact_sheet",
    "draw_avatars",
    "inspect",
    "prepare",
    "shard",
]
