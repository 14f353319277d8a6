"""frugan: train high-quality GANs from little data.

for record in frugan.train("photos", "runs/photos"):
    print(record["kimg"], record["r_t"], record["p"])

G = frugan.load("runs/photos")
images = G.sample(seeds=range(16), truncation=0.7)
frugan.save_images(images, "sixteen.png")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from frugan.errors import FruganError

if TYPE_CHECKING:
    from frugan.data import DataConfig, open_dataset
    from frugan.images import save_images
    from frugan.interop import from_pretrained, save_pretrained
    from frugan.networks import Discriminator, Generator
    from frugan.reports.report import report
    from frugan.run.evaluate import evaluate
    from frugan.run.load import load
    from frugan.run.train import Run, train

__version__ = "0.1.0"
__all__ = [
    "DataConfig",
    "Discriminator",
    "FruganError",
    "Generator",
    "Run",
    "evaluate",
    "from_pretrained",
    "load",
    "open_dataset",
    "report",
    "save_images",
    "save_pretrained",
    "train",
]

# Torch takes seconds to import, and `frugan --help` needs none of it: each name is fetched when it is first asked for.
_HOMES = {
    "DataConfig": "data",
    "open_dataset": "data",
    "evaluate": "run.evaluate",
    "from_pretrained": "interop",
    "save_pretrained": "interop",
    "Discriminator": "networks",
    "Generator": "networks",
    "report": "reports.report",
    "save_images": "images",
    "Run": "run.train",
    "load": "run.load",
    "train": "run.train",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'frugan' has no attribute {name!r}")
    return getattr(importlib.import_module(f"frugan.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
