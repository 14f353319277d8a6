"""Fixtures of runs that take seconds."""

from tests.training.conftest import TINY, _cache, image_folder

__all__ = ["TINY", "_cache", "image_folder"]
