"""A classifier of the attributes that critters are drawn with, to measure generated and edited images by.

The demo's avatars come with every attribute that they were drawn with (body, top, eyes, mouth, colours, …). One small
network, trained on drawn images, has a softmax for each. Questions such as "does it smile?" group the classes of one
attribute; their answer is the logarithm of the odds.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from frugan.data.tools import draw_avatars

STYLE, SIZE = "critters", 64
TRAIN, HELD_OUT = 10_000, 2000
"""Avatars 0 to 9,999 are for training (the generator and the classifier), the next 2,000 to test with."""


class Question(NamedTuple):
    """Yes where the attribute is one of `yes`, no where it is one of `no`; else neither."""

    attribute: str
    yes: tuple[str, ...]
    no: tuple[str, ...] = ()
    """Empty: all others."""


WARM = ("#fda4af", "#fca5a5", "#fdba74", "#fcd34d")
COLD = ("#7dd3fc", "#a5b4fc", "#c4b5fd", "#5eead4", "#6ee7b9")
QUESTIONS = {
    "smile": Question("mouth", ("smile", "tinySmile", "grin", "laugh", "tongue"), ("frown", "sad", "wavy", "line", "slant")),
    "one-eye": Question("eyes", ("mono", "monoSleepy")),
    "closed-eyes": Question("eyes", ("happy", "closedLine", "squint", "close")),
    "antenna": Question("top", ("antenna", "antennae", "bobble", "sprout")),
    "horns": Question("top", ("horns", "hornsIn", "hornsSmall")),
    "wide": Question("body", ("squat", "block", "blob", "round"), ("tower", "chimney", "tilt", "lean", "wedge")),
    "warm-body": Question("bodyColor", WARM, COLD),
    "dark-background": Question("backgroundColor", ("#1e293b",)),
}  # fmt: skip


class Critters(NamedTuple):
    """Drawn images and the numbers of their classes."""

    images: Tensor
    """float32 `[N, 3, 64, 64]` in [-1, 1]."""
    classes: dict[str, Tensor]
    """int64 `[N]` by attribute."""
    names: dict[str, list[str]]


def draw(folder: Path, count: int, offset: int = 0) -> Path:
    """The folder of drawn critters, made where it is not there yet."""
    if not folder.exists():
        draw_avatars(STYLE, count, SIZE, folder, offset=offset)
    return folder


def read(folder: Path) -> Critters:
    """What `draw` wrote."""
    names = json.loads((folder / "labels.json").read_text("utf-8"))
    with open(folder / "labels.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    pixels = np.stack([np.asarray(Image.open(folder / row["name"])) for row in rows])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    return Critters(images, {a: torch.tensor([int(row[a]) for row in rows]) for a in names}, names)


class Classifier(nn.Module):
    """Four strided convolutions and a linear layer to the logits of all attributes."""

    def __init__(self, names: dict[str, list[str]], width: int = 32) -> None:
        super().__init__()
        self.names = names
        widths = [3, width, 2 * width, 3 * width, 4 * width]
        self.layers = nn.Sequential(
            *(layer for a, b in pairwise(widths) for layer in (nn.Conv2d(a, b, 4, 2, 1), nn.BatchNorm2d(b), nn.ReLU())),
            nn.Flatten(),
            nn.Linear(16 * widths[-1], 512),
            nn.ReLU(),
            nn.Linear(512, sum(map(len, names.values()))),
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """`[N, 3, 64, 64]` in [-1, 1] → the logarithm of each class's probability, `[N, classes]` by attribute."""
        parts = self.layers(images).split([len(classes) for classes in self.names.values()], dim=1)
        return {name: part.log_softmax(1) for name, part in zip(self.names, parts)}

    def answer(self, found: dict[str, Tensor], question: Question) -> Tensor:
        """The logarithm of the odds of yes against no, `[N]`, from what `forward` returned."""
        names = self.names[question.attribute]
        no = question.no or tuple(name for name in names if name not in question.yes)
        log_p = found[question.attribute]
        yes, other = (log_p[:, [names.index(name) for name in some]].logsumexp(1) for some in (question.yes, no))
        return yes - other


def train(data: Critters, *, epochs: int = 12, batch: int = 100, lr: float = 2e-3, seed: int = 0) -> Classifier:
    """Cross-entropy over all attributes, images shifted by up to two pixels, Adam with a cosine schedule."""
    torch.manual_seed(seed)
    network = Classifier(data.names)
    steps = epochs * (len(data.images) // batch)
    optimizer = torch.optim.Adam(network.parameters(), lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(data.images)).split(batch)[: len(data.images) // batch]:
            dx, dy = torch.randint(-2, 3, (2,)).tolist()
            found = network(data.images[rows].roll((dy, dx), (2, 3)))
            loss = torch.stack([F.nll_loss(found[a], data.classes[a][rows]) for a in found]).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        print(f"classifier: epoch {epoch + 1} of {epochs}, loss {total * batch / len(data.images):.3f}", flush=True)
    return network.eval().requires_grad_(False)


def classify(network: Classifier, images: Tensor) -> dict[str, Tensor]:
    """As the network's `forward`, in batches."""
    with torch.no_grad():
        parts = [network(some.clamp(-1, 1)) for some in images.split(250)]
    return {name: torch.cat([part[name] for part in parts]) for name in network.names}


def accuracy(network: Classifier, data: Critters) -> dict[str, float]:
    """The share of images whose class is right, by attribute; of `QUESTIONS` the share answered rightly."""
    found = classify(network, data.images)
    right = {a: float((found[a].argmax(1) == data.classes[a]).float().mean()) for a in data.names}
    for name, question in QUESTIONS.items():
        truth, known = drawn_answer(data, question)
        right[name] = float(((network.answer(found, question) > 0) == truth)[known].float().mean())
    return right


def drawn_answer(data: Critters, question: Question) -> tuple[Tensor, Tensor]:
    """Whether the answer is yes, and whether it is yes or no at all: bool `[N]` each."""
    names, classes = data.names[question.attribute], data.classes[question.attribute]
    yes = torch.isin(classes, torch.tensor([names.index(name) for name in question.yes]))
    no = torch.isin(classes, torch.tensor([names.index(name) for name in question.no])) if question.no else ~yes
    return yes, yes | no


def trained(folder: Path, *, epochs: int = 12) -> Classifier:
    """The classifier in `folder`, drawn for and trained where it is not there yet; its accuracy is printed."""
    file, data = folder / "classifier.safetensors", draw(folder / "critters", TRAIN)
    held_out = read(draw(folder / "held-out", HELD_OUT, TRAIN))
    if file.exists():
        network = Classifier(held_out.names)
        safetensors.torch.load_model(network, file)
        network.eval().requires_grad_(False)
    else:
        network = train(read(data), epochs=epochs)
        safetensors.torch.save_model(network, str(file))
    right = accuracy(network, held_out)
    print("classifier, right on held-out drawings:", ", ".join(f"{k} {v:.1%}" for k, v in right.items()), flush=True)
    return network


def answers(network: Classifier, images: Tensor, names: Sequence[str] = tuple(QUESTIONS)) -> Tensor:
    """The log-odds of each question, `[N, len(names)]`."""
    found = classify(network, images)
    return torch.stack([network.answer(found, QUESTIONS[name]) for name in names], dim=1)
