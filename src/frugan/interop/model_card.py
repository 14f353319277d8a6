"""Model card of a generator: the README.md that the Hugging Face hub shows, with samples, data, settings and figures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import yaml

from frugan.data.stats import spans
from frugan.errors import counted, shown
from frugan.files import write_text
from frugan.images import save_images
from frugan.label_parts import label_parts
from frugan.networks import Generator, typical_labels

SAMPLES = "samples.png"
"""The image beside the card: uncurated samples of seeds 0 to 15."""
NUM_SAMPLES = 16
TRUNCATION = 0.7


@dataclass(frozen=True)
class Provenance:
    """The statements of a model card that do not follow from the network.

    Attributes:
        rows: of the card's table, by name: the data, the training, the figures.
        licence: of the weights, as SPDX writes it in lower case, for instance "cc0-1.0"; None: yet to be decided.
    """

    rows: Mapping[str, str] = field(default_factory=dict)
    licence: str | None = None


UNKNOWN = Provenance()
"""Of a network that nothing is known of but itself."""


def write_card(
    folder: Path,
    G: Generator,
    name: str,
    class_names: Sequence[str] | None = None,
    provenance: Provenance = UNKNOWN,
) -> None:
    """Writes a model card (README.md) and an image of samples into a folder.

    Args:
        folder: the generator's.
        G: the generator.
        name: of the model.
        class_names: of one-hot labels, or None.
        provenance: what the card says of data, training, figures and licence.
    """
    labels = typical_labels(G.label_size, G.config.measured)
    c = labels[torch.arange(NUM_SAMPLES) % len(labels)] if len(labels) else None
    save_images(G.sample(seeds=range(NUM_SAMPLES), c=c, truncation=TRUNCATION), folder / SAMPLES, columns=8)
    write_text(folder / "README.md", model_card(G, name, class_names, provenance))


def model_card(
    G: Generator,
    name: str,
    class_names: Sequence[str] | None = None,
    provenance: Provenance = UNKNOWN,
    *,
    samples: bool = True,
    still: str | None = None,
) -> str:
    """The card's text: the header that the hub reads, what the network makes, whence it comes, and how to use it.

    Args:
        G: the generator.
        name: "user/name" on the hub.
        class_names: of its labels, where they have names.
        provenance: data, training, figures and licence.
        samples: whether `SAMPLES` lies beside the card, which then shows it.
        still: what is yet to be written; by default all that the provenance does not say.
    """
    h, w = G.resolution
    lines = [
        f"---\n{yaml.safe_dump(_header(provenance), sort_keys=False, allow_unicode=True)}---\n",
        f"# {name.split('/')[-1]}\n",
        "A StyleGAN2 generator, trained or kept with frugan.\n",
        *(
            [f"![Samples of seeds 0 to {NUM_SAMPLES - 1}, truncation {TRUNCATION:g}, uncurated]({SAMPLES})\n"]
            if samples
            else []
        ),
        "| | |\n|---|---|",
        f"| Images | {h}×{w} pixels, {counted(G.channels, 'channel')} |",
        *(
            [f"| Numbers of the data | {G.pixels.dtype}, {spans(G.pixels.value_range)} |"]
            if G.pixels.value_range
            else []
        ),
        f"| Parameters | {sum(p.numel() for p in G.parameters()):,} |",
        f"| z, w | {G.z_dim}, {G.w_dim} |",
        *([f"| Labels | {_labels(G, class_names)} |"] if G.label_size else []),
        *(f"| {cell(title)} | {cell(text)} |" for title, text in provenance.rows.items()),
        f"| Licence | {provenance.licence or 'to be decided by its owner'} |",
        f"\n{_usage(G, name)}\n",
        f"Still to be written: {still or _missing(provenance)}.\n",
    ]
    return "\n".join(lines)


def _header(provenance: Provenance) -> dict[str, object]:
    licence = {"license": provenance.licence} if provenance.licence else {}
    tags = ["stylegan2", "gan", "image-generation", "pytorch"]
    return {"library_name": "frugan", **licence, "pipeline_tag": "unconditional-image-generation", "tags": tags}


def _labels(G: Generator, class_names: Sequence[str] | None) -> str:
    if G.config.measured:
        return "; ".join(map(str, label_parts(G.label_size, class_names, G.config.measured)))
    return ", ".join(class_names or []) or f"size {G.label_size}"


def _usage(G: Generator, name: str) -> str:
    h, w = G.resolution
    label = typical_labels(G.label_size, G.config.measured)[:1].squeeze(0).tolist()
    value = f"torch.tensor({[round(x, 4) for x in label]})" if G.config.measured else f"torch.eye({G.label_size})[0]"
    c = f", c={value}" if G.label_size else ""
    lines = [
        "```python",
        *(["import torch"] if c else []),
        "import frugan\n",
        f'G = frugan.from_pretrained("{_address(name)}")',
        f"images = G.sample(seeds=range(16), truncation=0.7{c})  # float [16, {G.channels}, {h}, {w}] in [-1, 1]",
        "```",
    ]
    return "\n".join(lines)


def _address(name: str) -> str:
    """ "user/my pots (ü)" → "user/my-pots", as the hub takes it."""
    owner, slash, own = name.rpartition("/")
    words = re.findall(r"[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*", own)
    return f"{owner}{slash}{'-'.join(words)[:60].rstrip('-.') or 'NAME'}"


def _missing(provenance: Provenance) -> str:
    missing = [
        "what it is meant for, and what not",
        *([] if "Data" in provenance.rows else ["which images it learned from"]),
        "whose the images are and on what terms they may be used",
        *([] if provenance.licence else ["its licence (`license:` in the header)"]),
    ]
    return f"{', '.join(missing[:-1])}, and {missing[-1]}"


def cell(text: object) -> str:
    """Text within Markdown: on one line, and nothing in it is markup."""
    return re.sub(r"([\\`*_{}\[\]<>|#!&])", r"\\\1", shown(text, 500))
