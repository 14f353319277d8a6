"""Tracking of a run in training: records on disk, TensorBoard, a page to look at, a live display."""

from frugan.tracking.console import ConsoleDisplay
from frugan.tracking.energy import EnergyMeter
from frugan.tracking.histogram import Histogram
from frugan.tracking.jsonl import JsonLines, finite, read_stats
from frugan.tracking.report.page import Page
from frugan.tracking.services import TRACKERS, check_trackers, open_tracker, parse_trackers
from frugan.tracking.system import environment, free_memory, memory, now, parse_time
from frugan.tracking.tensorboard import TensorBoard
from frugan.tracking.text import duration
from frugan.tracking.tracker import Record, Tracker, Trackers

__all__ = [
    "TRACKERS",
    "ConsoleDisplay",
    "EnergyMeter",
    "Histogram",
    "JsonLines",
    "Page",
    "Record",
    "TensorBoard",
    "Tracker",
    "Trackers",
    "check_trackers",
    "duration",
    "environment",
    "finite",
    "free_memory",
    "memory",
    "now",
    "open_tracker",
    "parse_time",
    "parse_trackers",
    "read_stats",
]
