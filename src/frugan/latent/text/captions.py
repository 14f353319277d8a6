"""A small joint model, fitted to labelled images in minutes: attributes become captions.

A caption names some attributes of an image ("mouth sad, eyes wink", or "sad, wink" where a value belongs to one attribute only).
An image and a caption belong together where the image has all that the caption names; which do is known for every pair, so the
pairwise sigmoid loss (Zhai et al., "Sigmoid Loss for Language Image Pre-Training", 2023) is summed over true and false pairs alike.
Besides, each image is compared with the phrases of all values of each attribute, of which one is its own (cross-entropy).
Words it was not trained on are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frugan.checks import Count, Limits, Seed, check_fields
from frugan.command_line import command
from frugan.errors import FruganError, shown
from frugan.files import read_json, refilling, write_json
from frugan.metrics.features.base import on_white
from frugan.networks.serialization import load_weights, save_tensors

WEIGHTS, FACTS = "captions.safetensors", "captions.json"
FORMAT = 2
STOP = frozenset(["a", "an", "the", "of", "with", "and", "in", "on", "its", "has", "having", "is"])
"""Words without meaning to the model, in any prompt."""


@dataclass(frozen=True)
class CaptionConfig:
    """The settings of a captioner and its training."""

    steps: Count = 1500
    batch: Annotated[int, Limits(at_least=4, at_most=4096)] = 64
    lr: Annotated[float, Limits(above=0, at_most=1)] = 2e-3
    dim: Annotated[int, Limits(at_least=2, at_most=4096)] = 64
    width: Annotated[int, Limits(at_least=4, at_most=1024)] = 32
    side: Annotated[int, Limits(at_least=16, at_most=512)] = 64
    subject: str = "image"
    """What the images show: a word that a neutral prompt may use, which says nothing of any attribute."""
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_fields(self)


Attributes = dict[str, list[str]]
"""Names of attributes, each with its values in the order of their numbers."""


def words_of(text: str) -> list[str]:
    """ "bodyColor: #7DD3FC" → ["body", "color", "#7dd3fc"]; camel case is taken apart, stop words are left out."""
    found = []
    for word in re.findall(r"#?[\w.+-]+", text):
        apart = [word] if word.startswith("#") else re.findall(r".+?(?:(?<=[a-z0-9])(?=[A-Z])|$)", word)
        found += [part.lower() for part in apart]
    return [word for word in found if word not in STOP]


class ImageTower(nn.Module):
    """RGB images `[N, 3, side, side]` → `[N, dim]`: strided convolutions down to 4x4, and two linear layers.

    Args:
        width: feature maps at half size; each halving adds as many, up to 8 times.
        dim: of the result.
        side: of the images in pixels.
    """

    def __init__(self, width: int, dim: int, side: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        maps, wider = 3, width
        while side > 4:
            layers += [nn.Conv2d(maps, wider, 4, stride=2, padding=1), nn.BatchNorm2d(wider), nn.LeakyReLU(0.2)]
            maps, wider, side = wider, min(wider + width, 8 * width), side // 2
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Linear(maps * side * side, 16 * width), nn.LeakyReLU(0.2), nn.Linear(16 * width, dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x).flatten(1))


class Captioner(nn.Module):
    """The joint model; see `frugan.latent.text.models.JointModel`. Texts are bags of words and of neighbouring words.

    Args:
        vocabulary: the words, and pairs of neighbouring words, that it knows.
        config: sizes of both towers.
        name: in reports and codes.
    """

    templates: Sequence[str] = ("{}",)

    def __init__(self, vocabulary: Sequence[str], config: CaptionConfig, name: str = "captions") -> None:
        super().__init__()
        self.name, self.config, self.vocabulary = name, config, list(vocabulary)
        self.index = {word: i for i, word in enumerate(self.vocabulary)}
        self.image_tower = ImageTower(config.width, config.dim, config.side)
        self.words = nn.EmbeddingBag(len(self.vocabulary), config.dim, mode="sum")
        self.subject = nn.Parameter(torch.zeros(config.dim))
        self.scale = nn.Parameter(torch.tensor(20.0).log())
        self.bias = nn.Parameter(torch.tensor(-5.0))

    def images(self, images: Tensor) -> Tensor:
        """See `JointModel`."""
        x = on_white(images.float())
        if tuple(x.shape[2:]) != (self.config.side,) * 2:
            smaller = max(x.shape[2:]) > self.config.side
            x = F.interpolate(x, size=(self.config.side,) * 2, mode="bilinear", antialias=smaller, align_corners=False)
        return F.normalize(self.image_tower(x), dim=1)

    def texts(self, texts: Sequence[str]) -> Tensor:
        """See `JointModel`."""
        rows = [self._tokens(text) for text in texts]
        flat = torch.tensor([i for row in rows for i in row], dtype=torch.long, device=self.subject.device)
        starts = np.cumsum([0, *(len(row) for row in rows[:-1])])
        bags = self.words(flat, torch.from_numpy(starts).to(flat.device))
        return F.normalize(self.subject + bags, dim=1)

    def _tokens(self, text: str) -> list[int]:
        """Words that it knows, and pairs of neighbours. Raises `FruganError` for a word it has never seen."""
        known = words_of(text)
        if not known:
            raise FruganError(
                f"the text {shown(text)!r} has no words that say anything; name what the image is to show"
            )
        for word in known:
            if word not in self.index:
                names = ", ".join(w for w in self.vocabulary if "_" not in w)
                raise FruganError(f"{self.name} has never seen the word {shown(word)!r}; it knows {shown(names, 600)}")
        pairs = [f"{a}_{b}" for a, b in pairwise(known)]
        return [self.index[token] for token in [*known, *pairs] if token in self.index]


def phrase(attribute: str, value: str) -> str:
    """ "bodyColor", "#7dd3fc" → "body color #7dd3fc"."""
    return " ".join([*words_of(attribute), *words_of(value)])


def vocabulary_of(attributes: Attributes, subject: str) -> list[str]:
    """All words of phrases, all pairs of neighbours within one, and the subject."""
    found = dict.fromkeys(words_of(subject))
    for attribute, values in attributes.items():
        for value in values:
            words = phrase(attribute, value).split()
            found |= dict.fromkeys([*words, *(f"{a}_{b}" for a, b in pairwise(words))])
    return list(found)


def train_captioner(
    images: Callable[[np.ndarray], Tensor],
    values: np.ndarray,
    attributes: Attributes,
    config: CaptionConfig = CaptionConfig(),
    *,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Captioner:
    """Trains a small joint model of images and captions.

    Args:
        images: row numbers → images float32 `[n, C, H, W]` in [-1, 1].
        values: int `[N, A]`, the number of each image's value of each attribute.
        attributes: names and values, from which captions are made.
        config: size and schedule.
        device: to train on.
        progress: called with (step, steps).
    """
    if not attributes or values.shape[1] != len(attributes) or len(values) < 2:
        raise FruganError("captions need two labelled images or more, with an attribute of two values or more")
    rng = np.random.default_rng(config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = Captioner(vocabulary_of(attributes, config.subject), config).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=1e-3)
    total = config.steps
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.lr, total_steps=total, pct_start=min(0.1, 1 - 1 / (total + 1))
    )
    batch = min(config.batch, len(values))
    for step in range(total):
        rows = rng.choice(len(values), batch, replace=False)
        vectors = model.images(_varied(images(rows).to(device), rng))
        loss = _pairwise_loss(model, vectors, values[rows], attributes, rng) + _value_loss(
            model, vectors, values[rows], attributes
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if progress:
            progress(step + 1, total)
    return model.eval().requires_grad_(False)


def _pairwise_loss(
    model: Captioner, vectors: Tensor, values: np.ndarray, attributes: Attributes, rng: np.random.Generator
) -> Tensor:
    """Which captions, one made from each image, are true of which images: a sigmoid for each pair, summed over captions."""
    wanted = [_named(row, rng) for row in values]
    texts = [_caption(row, names, attributes, rng, model.config.subject) for row, names in zip(values, wanted)]
    logits = vectors @ model.texts(texts).T * model.scale.exp() + model.bias
    signs = torch.from_numpy(_belongs(values, wanted)).to(logits) * 2 - 1
    return -F.logsigmoid(signs * logits).sum() / len(values)


def _value_loss(model: Captioner, vectors: Tensor, values: np.ndarray, attributes: Attributes) -> Tensor:
    """Cross-entropy of each attribute's own value among the phrases of all its values, summed over attributes."""
    phrases = [phrase(name, value) for name, choices in attributes.items() for value in choices]
    logits = (vectors @ model.texts(phrases).T * model.scale.exp()).split([len(v) for v in attributes.values()], dim=1)
    truth = torch.from_numpy(values.astype(np.int64)).to(vectors.device)
    return torch.stack([F.cross_entropy(part, truth[:, a]) for a, part in enumerate(logits)]).sum()


def _varied(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Batches moved by up to a 32nd of a side, half of them blurred, all with a little noise: generated images are softer than
    drawn ones, and mean the same."""
    side = x.shape[-1]
    down, right = rng.integers(-(side // 32), side // 32 + 1, 2).tolist()
    x = x.roll((down, right), (2, 3))
    if rng.random() < 0.5:
        smaller = max(8, round(side * rng.uniform(0.5, 1)))
        small = F.interpolate(x, size=(smaller, smaller), mode="area")
        x = F.interpolate(small, size=x.shape[2:], mode="bilinear", align_corners=False)
    return x + torch.from_numpy(rng.normal(0, rng.uniform(0, 0.1), x.shape).astype(np.float32)).to(x.device)


def _named(row: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The attributes that a caption names: none (true of every image, so that a neutral text has a meaning) to three."""
    return rng.choice(len(row), min(len(row), int(rng.choice(4, p=(0.1, 0.4, 0.25, 0.25)))), replace=False)


def _caption(row: np.ndarray, names: np.ndarray, attributes: Attributes, rng: np.random.Generator, subject: str) -> str:
    """A caption such as "image mouth sad eyes wink"."""
    keys = list(attributes)
    parts = [phrase(keys[a], attributes[keys[a]][row[a]]) for a in names]
    return " ".join([*([subject] if rng.random() < 0.5 or not parts else []), *parts])


def _belongs(values: np.ndarray, wanted: Sequence[np.ndarray]) -> np.ndarray:
    """bool `[n images, n captions]`: image i has all that caption j, made from image j, names."""
    return np.stack([(values[:, names] == values[j, names]).all(1) for j, names in enumerate(wanted)], 1)


def save_captioner(model: Captioner, folder: str | Path, attributes: Attributes, **facts: Any) -> Path:
    """Writes captions.safetensors and captions.json into a folder.

    Args:
        model: its weights.
        folder: made if need be.
        attributes: whose captions it learned.
        facts: further entries of captions.json.
    """
    folder = Path(folder)
    about = {
        "format": FORMAT,
        "vocabulary": model.vocabulary,
        "config": vars(model.config),
        "attributes": attributes,
        **facts,
    }
    with refilling(folder, FACTS) as scratch:
        save_tensors(model.state_dict(), scratch / WEIGHTS)
        write_json(scratch / FACTS, about)
    return folder


def load_captioner(folder: str | Path, device: torch.device | str = "cpu") -> Captioner:
    """Reads a captioner that `save_captioner` wrote. Raises `FruganError`."""
    path = Path(folder)
    if not folder or not (path / WEIGHTS).is_file() or not (path / FACTS).is_file():
        raise FruganError(
            f"captions:{folder} holds no model; {command('text', 'train', 'DATA', '--out', folder)} makes one"
        )
    tensors = load_weights(path / WEIGHTS)
    try:
        facts = read_json(path / FACTS)
        format, model = facts["format"], None
        if format == FORMAT:
            vocabulary = [str(word) for word in facts["vocabulary"]]
            model = Captioner(vocabulary, CaptionConfig(**facts["config"]), f"captions:{folder}")
            model.load_state_dict(tensors)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise FruganError(f"captions:{folder} is damaged ({shown(error)}); train it again") from error
    if model is None:
        raise FruganError(
            f"captions:{folder} is of format {shown(format)}, and this frugan reads {FORMAT}: train it again with "
            f"{command('text', 'train', 'DATA', '--out', folder)}"
        )
    return model.eval().requires_grad_(False).to(device)


@torch.no_grad()
def attribute_accuracy(
    model: Captioner, images: Tensor, values: np.ndarray, attributes: Attributes
) -> dict[str, float]:
    """For each attribute, the share of images whose own value has the most similar phrase.

    Args:
        model: the joint model.
        images: `[N, C, H, W]` in [-1, 1].
        values: int `[N, A]`, each image's value of each attribute.
        attributes: names and values.
    """
    vectors = torch.cat([model.images(some) for some in images.split(64)])
    found = {}
    for a, (name, choices) in enumerate(attributes.items()):
        guessed = (vectors @ model.texts([phrase(name, value) for value in choices]).T).argmax(1).cpu().numpy()
        found[name] = float((guessed == values[:, a]).mean())
    return found
