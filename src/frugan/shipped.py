"""The sample generator that comes with frugan, for use wherever a network is asked for: `frugan generate sample`.

Its weights (float16, loaded as float32), directions in its latent space and its card are package data in `frugan/sample`.
"""

from __future__ import annotations

import os
from pathlib import Path

SAMPLE = "sample"


def resolve_shipped(path: str | Path) -> Path:
    """The folder of the sample generator for the name "sample"; any other path as it is.

    A file or directory of that name in the working directory goes first.
    """
    path = Path(path)
    if str(path) == SAMPLE and not os.path.lexists(path):
        return Path(__file__).parent / SAMPLE
    return path
