"""Joint models: images and texts as unit vectors of one space, in which what belongs together is close.

Rows of `JOINT_MODELS`: CLIP and SigLIP of the transformers library, the classes of an ImageNet classifier as words, a small network
that was fitted to labelled images (`frugan text train`). Or a callable of the user's own.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor

from frugan.checks import beside, meant
from frugan.command_line import command
from frugan.errors import FruganError, shown
from frugan.latent.text import captions
from frugan.metrics.features.base import on_white
from frugan.metrics.features.networks import efficientnet_lite0

PLAIN = ("{}",)
PHOTO_TEMPLATES = (
    "{}", "a photo of {}", "a picture of {}", "an image of {}", "a good photo of {}", "a close-up photo of {}",
    "a bright photo of {}", "a dark photo of {}", "a drawing of {}", "a rendering of {}", "art of {}",
)  # fmt: skip
"""A prompt's vector is the mean over such sentences (Radford et al., "Learning Transferable Visual Models", 2021)."""


class JointModel(Protocol):
    """Both maps give unit vectors float32 `[N, d]`; that of images is differentiable."""

    name: str
    templates: Sequence[str]
    """Sentences with {} in place of the prompt."""

    def images(self, images: Tensor) -> Tensor:
        """Images float32 `[N, C, H, W]` in [-1, 1] → `[N, d]`."""
        ...

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Texts → `[N, d]`. Raises `FruganError` for words that the model does not know."""
        ...


class Transformer:
    """CLIP or SigLIP through transformers: any model with image and text features, from a folder or the hub.

    Args:
        kind: "clip" or "siglip".
        source: a folder, or a name on the hub; empty: the kind's usual one.
        device: where it computes.
    """

    def __init__(self, kind: str, source: str, device: torch.device | str) -> None:
        try:
            import transformers
        except ImportError as error:
            raise FruganError(f"{kind} needs {error.name}: pip install 'frugan[transformers]'") from error
        row = _TRANSFORMERS[kind]
        source = source or row.source
        try:
            loaded: Any = transformers.AutoModel.from_pretrained(source, output_loading_info=True)
            self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(source)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            reason = shown(str(error).strip().splitlines()[0])
            raise FruganError(
                f"{kind} cannot be loaded from {source} ({reason}); name a folder with its weights and tokenizer, {kind}:FOLDER, "
                f"or train a small model on labelled images of your own: {command('text', 'train', 'DATA')}"
            ) from error
        model, facts = loaded
        if missing := sorted(facts["missing_keys"]):
            raise FruganError(
                f"{source} lacks {len(missing)} of the weights that its configuration names, such as {missing[0]}: give "
                "the folder of a whole model"
            )
        if not hasattr(model, "get_image_features") or not hasattr(model, "get_text_features"):
            raise FruganError(f"{source} is a {type(model).__name__}, which has no joint space of images and text")
        self.model = model.eval().requires_grad_(False).to(device)
        self.name, self.row = f"{kind}:{source}", row
        self.templates: Sequence[str] = PHOTO_TEMPLATES
        self.size = int(model.config.vision_config.image_size)
        self.mean, self.std = (torch.tensor(v, device=device)[:, None, None] for v in (row.mean, row.std))

    def images(self, images: Tensor) -> Tensor:
        """See `JointModel`. Resized with antialiasing to what the model sees."""
        x = on_white(images.float()).add(1).div(2)
        x = F.interpolate(x, size=(self.size, self.size), mode="bicubic", antialias=True, align_corners=False)
        return F.normalize(_features(self.model.get_image_features(pixel_values=(x - self.mean) / self.std)), dim=1)

    def texts(self, texts: Sequence[str]) -> Tensor:
        """See `JointModel`."""
        longest = int(self.model.config.text_config.max_position_embeddings)
        padding = "max_length" if self.row.pads else True
        tokens = self.tokenizer(list(texts), padding=padding, truncation=True, max_length=longest, return_tensors="pt")
        wanted = {k: v.to(self.mean.device) for k, v in tokens.items() if k in ("input_ids", "attention_mask")}
        if self.row.pads:
            wanted.pop("attention_mask", None)
        with torch.no_grad():
            return F.normalize(_features(self.model.get_text_features(**wanted)), dim=1)


def _features(out: Any) -> Tensor:
    """Older versions of transformers return the vectors, newer ones an object that holds them."""
    return (out if isinstance(out, Tensor) else out.pooler_output).float()


class _TransformerRow(NamedTuple):
    source: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    pads: bool
    """Whether texts are padded to the longest length, as the model was trained."""


_TRANSFORMERS = {
    "clip": _TransformerRow(
        "openai/clip-vit-base-patch32", (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711), False
    ),
    "siglip": _TransformerRow("google/siglip-base-patch16-224", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), True),
}


class Classes:
    """EfficientNet-Lite0's last layer as a joint model: an image is its features, a word the row of its class, centred.

    Words are class numbers, 0 to 999, or the lines of a file of 1000 names in ImageNet's order.
    """

    templates: Sequence[str] = PLAIN

    def __init__(self, file: str, device: torch.device | str) -> None:
        self.name = f"classes:{file}" if file else "classes"
        self.network = efficientnet_lite0(device)
        classifier: Any = self.network.classify
        rows = torch.from_numpy(classifier.weight).float()
        self.rows = F.normalize(rows - rows.mean(0), dim=1).to(device)
        self.words = {str(i): i for i in range(len(rows))}
        if file:
            self.words |= {name.lower(): i for i, name in enumerate(_lines(Path(file), len(rows)))}

    def images(self, images: Tensor) -> Tensor:
        """See `JointModel`."""
        return F.normalize(self.network._look(images), dim=1)

    def texts(self, texts: Sequence[str]) -> Tensor:
        """See `JointModel`."""
        for text in texts:
            if text.strip().lower() not in self.words:
                near = meant(text, self.words) if len(self.words) > len(self.rows) else ""
                raise FruganError(
                    f"text {shown(text)!r}: {near}classes knows the numbers 0 to 999, and the lines of a file of class names: "
                    "classes:FILE"
                )
        return self.rows[[self.words[text.strip().lower()] for text in texts]]


def _lines(file: Path, count: int) -> list[str]:
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FruganError(f"class names {file} cannot be read{beside(file)}: {shown(error)}") from error
    if len(lines) != count:
        raise FruganError(f"{file} has {len(lines)} lines: give {count} class names, one a line, in ImageNet's order")
    return lines


class Row(NamedTuple):
    """An entry of `JOINT_MODELS`: `open(what follows the colon, device)`."""

    open: Callable[[str, torch.device | str], JointModel]
    summary: str


JOINT_MODELS: dict[str, Row] = {
    "clip": Row(lambda source, device: Transformer("clip", source, device), "CLIP; clip:FOLDER or clip:user/name"),
    "siglip": Row(lambda source, device: Transformer("siglip", source, device), "SigLIP; likewise"),
    "classes": Row(Classes, "the classes of an ImageNet classifier; classes:FILE with their names"),
    "captions": Row(captions.load_captioner, "captions:FOLDER of a model of your own labels (text train)"),
}


def open_model(text: str, device: torch.device | str = "cpu") -> JointModel:
    """ "clip:FOLDER", "captions:FOLDER", "package.module:callable" → the model. Raises `FruganError`.

    A callable is called without arguments, and gives an object with `images`, `texts`, `name` and `templates`. Importing a module
    runs its code: name only what you trust.
    """
    kind, colon, rest = text.partition(":")
    if kind in JOINT_MODELS:
        return JOINT_MODELS[kind].open(rest, device)
    if not colon:
        raise FruganError(
            f"text model {shown(text)!r}: {meant(text, JOINT_MODELS)}choose from {', '.join(JOINT_MODELS)}, or "
            "package.module:callable"
        )
    try:
        made = getattr(importlib.import_module(kind), rest)()
    except (ImportError, AttributeError, TypeError) as error:
        raise FruganError(f"text model {text}: it cannot be imported and called: {shown(error)}") from error
    if lacking := [name for name in ("images", "texts", "name", "templates") if not hasattr(made, name)]:
        raise FruganError(f"text model {text}: it lacks {', '.join(lacking)}; see frugan.latent.text.JointModel")
    return made
