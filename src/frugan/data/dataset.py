"""The data set as training sees it: pixels in memory, labels, a held-out split. Nothing is decoded here any more."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import cached_property
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from frugan.channels import AS_FILES, parse_channels
from frugan.data.cache import CachedPixels
from frugan.data.config import DataConfig
from frugan.data.groups import Groups
from frugan.data.labels.encode import Labels, spread
from frugan.data.sampler import Sampler
from frugan.data.sources.crops import origin
from frugan.data.sources.own import OwnFiles
from frugan.data.stats import stats_notes
from frugan.data.store import LocalPixels, PixelStore
from frugan.data.target import size_name
from frugan.errors import FruganError, shown
from frugan.image_files import choose_sheet
from frugan.images import to_float
from frugan.label_parts import Measured, describe_labels, measure
from frugan.pixel_format import PixelFormat, Range

_PINNED = ("cuda",)  # devices whose copies from page-locked memory the host need not wait for
_NAMED = 5
_RESIDENT_SHARE = 0.25  # of a device's free memory: the rest is for training


@final
class Dataset:
    """N images of one shape. Image numbers from N to 2N − 1 are the x-flipped copies.

    `pixels`: uint8, uint16 or float32 in [0, 1] `[N, H, W, C]`, memory-mapped; where stored values use a part of the range only,
    stretched from `value_range` (see `frugan.data.values`). `labels`: float32 `[N, K]`, K = 0 without labels.
    `train_indices`, `held_out_indices`: int64, disjoint, together 0 … N − 1. `skipped`: (name, reason) of every
    image left out. `config` has what "auto" came to mean. `own`: images left out because frugan wrote them. `groups`: which
    images belong together, on one side of the split; None where nothing says so. `masks`: what the last channels are, where
    these are masks.
    """

    def __init__(
        self,
        config: DataConfig,
        cached: CachedPixels,
        labels: Labels,
        own: OwnFiles | None = None,
        store: PixelStore | None = None,
        groups: Groups | None = None,
        *,
        stratify: bool = True,
    ) -> None:
        """`store`: where the pixels lie and how they are visited; by default those of `cached`, all at hand. `stratify`: whether
        each class gives its share of the held-out images."""
        stays = config.channels == AS_FILES or parse_channels(config.channels).masks
        settled = config.channels if stays else cached.settings.channels
        self.config = replace(config, channels=settled, value_range=cached.settings.value_range)
        self.stats = cached.stats
        self.own = own or OwnFiles()
        self.store: PixelStore = store or LocalPixels(cached.pixels)
        self.pixels = self.store.pixels
        self.names = cached.names
        self.skipped = cached.skipped
        self.alpha = cached.alpha
        self.masks = tuple(cached.stats.masks)
        self.labels = labels.values
        self.class_names = labels.class_names
        self.label_origin = labels.origin
        self.measured_columns = labels.measured
        self.column_names = labels.names
        self.cache_folder = cached.folder
        self.groups = groups
        classes = labels.classes if stratify and config.held_out and self.store.at_hand else None
        self.train_indices, self.held_out_indices = self.store.split(
            self.names, config.held_out, config.held_out_seed, groups, classes
        )
        self.fingerprint = _fingerprint(config, cached, labels, groups, stratified=classes is not None)
        self._cached, self._read_labels = cached, labels
        self._resident: Tensor | None = None
        self._strata  # noqa: B018 — to find labels that are no classes now, not at the first draw
        self.store.begin(self.train_indices, self.held_out_indices)

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def resolution(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.pixels.shape[1], self.pixels.shape[2]

    @property
    def channels(self) -> int:
        return self.pixels.shape[3]

    @property
    def image_channels(self) -> int:
        """Channels but for masks."""
        return self.channels - len(self.masks)

    @property
    def depth(self) -> int:
        """Bits per channel: 8, 16, or 32 of floating-point numbers."""
        return 8 * self.pixels.dtype.itemsize

    @property
    def value_range(self) -> Range | None:
        """The stored values that became black and white, of all channels or of each; None where those are 0 and the highest
        of `depth` bits."""
        return self.stats.value_range

    @property
    def pixel_format(self) -> PixelFormat:
        """The format of images in the data set's files, in which generated ones are written too."""
        dtype, names = self._cached.dtype, self._cached.channel_names
        if self.masks and len(names) != self.image_channels:
            names = ()  # those of files whose last channels are masks
        return PixelFormat(dtype, self.value_range, self.alpha, self.stats.crisp, names)

    @property
    def notes(self) -> list[str]:
        """Sentences for the user about values, alpha, what the crop cuts away, frames, and files of frugan's own."""
        shape: dict[str, Any] = {"channels": self.image_channels, "resolution": self.resolution}
        found = stats_notes(self.stats, depth=self.depth, fit=self.config.fit, **shape)
        if reduction := choose_sheet(self.pixel_format, self.image_channels, "png").reduction:
            found.append(reduction)
        if self.config.crops:
            size, images = self.config.crop_size, len({origin(name) for name in self.names})
            found.append(
                f"{len(self)} crops of {size}x{size} pixels from {images} {'image' if images == 1 else 'images'}"
            )
        return [*found, self.own.sentence()] if self.own.count else found

    @property
    def label_size(self) -> int:
        return self.labels.shape[1]

    @cached_property
    def measured(self) -> tuple[Measured, ...]:
        """The label columns that are numbers, with their distribution among the training images."""
        return measure(self.labels[self.train_indices], self.measured_columns, self.column_names)

    def describe_labels(self) -> list[tuple[str, str]]:
        """(name, text) for each part of the training images' labels: classes with counts, ranges of numbers."""
        labels = self.labels[self.train_indices]
        return describe_labels(labels, self.class_names, self.measured) if self.label_size else []

    @property
    def stream_indices(self) -> np.ndarray:
        """The images of one epoch, int64: the training images, with their x-flipped copies if mirrored."""
        own = self.train_indices
        return np.concatenate([own, own + len(self)]) if self.config.mirror else own

    def images(self, indices: np.ndarray, *, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Images as float32 `[n, C, H, W]` in [-1, 1] and their labels, float32 `[n, K]`, on the device."""
        device = torch.device(device)
        indices = np.asarray(indices, np.int64)
        if len(indices) and not 0 <= indices.min() <= indices.max() < 2 * len(self):
            raise IndexError(f"image numbers run from 0 to {2 * len(self) - 1}, mirrored copies included")
        rows, flipped = self.store.present(indices % len(self)), indices >= len(self)
        images = self._gather(rows, device)
        if flipped.any():
            mask = _on(device, torch.from_numpy(flipped))
            images = torch.where(mask[:, None, None, None], images.flip(3), images)
        return images, _on(device, torch.from_numpy(self.labels[rows]))

    def resident(self, device: torch.device | str, *, limit_bytes: int | None = None) -> bool:
        """Keeps all pixels on the device, if they fit; `images` then gathers there. Says whether it does.

        They fit within `limit_bytes`, by default a quarter of a CUDA (or ROCm) device's free memory, 1 GiB on others
        and nothing on the CPU, where the memory map already is what it would be.
        """
        device = torch.device(device)
        if not self.resident_bytes(device, limit_bytes=limit_bytes):
            return False
        bits = np.array(self.pixels)  # 16-bit pixels travel as int16: torch.uint16 cannot be gathered everywhere
        self._resident = torch.from_numpy(bits.view(np.int16) if bits.dtype == np.uint16 else bits).to(device)
        return True

    def resident_bytes(self, device: torch.device | str, *, limit_bytes: int | None = None) -> int:
        """The memory that `resident` would take on the device; 0 where the images stay where they are."""
        device = torch.device(device)
        limit = _resident_limit(device) if limit_bytes is None else limit_bytes
        known = self.store.at_hand and (self.pixels.dtype != np.uint16 or device.type in ("cpu", "cuda"))
        return self.pixels.nbytes if known and self.pixels.nbytes <= limit else 0

    def sampler(self, seed: int = 0) -> Sampler:
        """An endless stream of image numbers for training."""
        indices = self.stream_indices
        strata = {kind: numbers[indices % len(self)] for kind, numbers in self._strata.items()}
        return self.store.sampler(indices, seed=seed, **{"classes": None, **strata})

    def preview(self, count: int) -> np.ndarray:
        """Numbers of up to `count` training images to look at, sorted: always the same ones."""
        return self.store.preview(self.train_indices, count)

    @cached_property
    def label_pool(self) -> Tensor:
        """float32 `[M, K]`: rows that fakes' labels are drawn from, equally likely, as in the training stream."""
        labels = self.labels[self.train_indices]
        return torch.from_numpy(np.unique(labels, axis=0) if self.config.balanced else labels)

    def require(self, count: int, purpose: str) -> None:
        """Raises `FruganError` where fewer than `count` images are there to train on."""
        available = len(self.stream_indices)
        if available < count:
            raise FruganError(
                f"{purpose} needs {count} images but {self.config.path} gives {available} to train on "
                f"({len(self.held_out_indices)} held out, {len(self.skipped)} unreadable); "
                "add images, use --mirror, or choose a smaller number"
            )

    def as_begun_with(self, fingerprint: str | None) -> Dataset:
        """This set where it has that fingerprint, or none is known; else as earlier versions read it, if that has: held-out images
        not stratified, numbered classes perhaps encoded as at first (see `spread`)."""
        if fingerprint in (None, self.fingerprint):
            return self
        for labels in filter(None, (self._read_labels, spread(self._read_labels))):
            found = Dataset(self.config, self._cached, labels, self.own, self.store, self.groups, stratify=False)
            if found.fingerprint == fingerprint:
                return found
        return self

    def describe(self) -> dict[str, Any]:
        """The record of a run's data, for JSON: sizes, the split by name, what was skipped, the fingerprint."""
        return {
            "path": self.config.path,
            "images": len(self),
            "resolution": list(self.resolution),
            "resolution_name": size_name(self.resolution),
            "channels": self.channels,
            "masks": [{"values": list(mask.values), "bits": mask.bits} for mask in self.masks],
            "bits": self.depth,
            "depth": self.depth,
            "value_range": _plain_range(self.value_range),
            "dtype": self.pixel_format.dtype,
            "alpha": self.alpha,
            "channel_names": [*self.pixel_format.channel_names(self.image_channels), *["mask"] * len(self.masks)],
            "label_size": self.label_size,
            "label_origin": self.label_origin,
            "class_names": self.class_names,
            "held_out": [self.names[i] for i in self.held_out_indices],
            "held_out_seed": self.config.held_out_seed,
            "mirror": self.config.mirror,
            "skipped": [list(item) for item in self.skipped],
            "own_files": self.own.names,
            "fingerprint": self.fingerprint,
            **self._describe_groups(),
        }

    def _describe_groups(self) -> dict[str, Any]:
        if self.groups is None:
            return {}
        held_out = np.unique(self.groups.numbers[self.held_out_indices])
        return {
            "group": self.groups.by,
            "groups": len(self.groups.names),
            "held_out_groups": [self.groups.names[i] for i in held_out],
        }

    @cached_property
    def _strata(self) -> dict[str, np.ndarray]:
        """The classes and groups that balanced sampling draws equally often, groups within classes; int64 `[N]` each."""
        if not self.config.balanced:
            return {}
        classes = {"classes": self._classes} if self.label_size or self.groups is None else {}
        return classes | ({"groups": self.groups.numbers} if self.groups else {})

    @cached_property
    def _classes(self) -> np.ndarray:
        """int64 `[N]`. Raises `FruganError` unless every image has exactly one class."""
        classes = None if self.measured_columns else self._read_labels.classes
        if classes is None:
            raise FruganError(
                "balanced sampling needs one class per image, but the labels are numbers or several at once"
            )
        return classes

    def _gather(self, rows: np.ndarray, device: torch.device) -> Tensor:
        kept = self._resident
        if kept is not None and kept.device.type == device.type and device.index in (None, kept.device.index):
            pixels = kept[_on(device, torch.from_numpy(rows))]
            return to_float(pixels.view(torch.uint16) if pixels.dtype == torch.int16 else pixels)
        pixels = torch.from_numpy(self.pixels[rows])
        if pixels.dtype == torch.uint16:  # converted on the host, for devices that do not know the type
            return _on(device, to_float(pixels))
        return to_float(_on(device, pixels))


def _on(device: torch.device, tensor: Tensor) -> Tensor:
    """The tensor there, if possible without waiting for what is queued on the device."""
    if device.type not in _PINNED:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def draw_labels(dataset: Dataset, n: int, *, generator: torch.Generator) -> Tensor:
    """Labels for n generated images, float32 `[n, K]`, drawn from those of the training stream.

    Args:
        dataset: the images.
        n: number of labels.
        generator: of random numbers; the labels are on its device.
    """
    pool = dataset.label_pool.to(generator.device)
    return pool[torch.randint(len(pool), (n,), generator=generator, device=generator.device)]


def untrained_warning(dataset: Dataset) -> str | None:
    """A sentence that names the classes and flags that only held-out images have; None where there are none."""
    held_out, train = ((dataset.labels[rows] != 0).any(0) for rows in (dataset.held_out_indices, dataset.train_indices))
    lost = [int(k) for k in np.flatnonzero(held_out & ~train) if k not in dataset.measured_columns]
    if not lost:
        return None
    names = ", ".join(shown(dataset.class_names[k]) if dataset.class_names else str(k) for k in lost[:_NAMED])
    more = f", … ({len(lost)} in all)" if len(lost) > _NAMED else ""
    column = (dataset.config.group or "").rpartition(":")[2]  # whose groups train or are held out as a whole
    grouped = any(name.startswith(f"{column}=") for name in dataset.class_names or () if column)
    remedy = (
        f"--labels FILE:COLUMN,… without {column}" if grouped else "hold out fewer images, or add more of that class"
    )
    return (
        f"--held-out {dataset.config.held_out:g} leaves no training image of class {names}{more}, of which nothing will be "
        f"learned: {remedy}"
    )


def _resident_limit(device: torch.device) -> int:
    if device.type == "cuda":
        return int(_RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0])
    return 0 if device.type == "cpu" else 1 << 30


def _plain_range(value_range: Range | None) -> list[Any] | None:
    """A range for JSON: a single pair by itself, as it was before channels could have ranges of their own."""
    if value_range is None:
        return None
    pairs = [[int(end) if float(end).is_integer() else float(end) for end in pair] for pair in value_range]
    return pairs[0] if len(pairs) == 1 else pairs


def _fingerprint(
    config: DataConfig, cached: CachedPixels, labels: Labels, groups: Groups | None, *, stratified: bool
) -> str:
    settings = [
        cached.names,
        config.mirror,
        float(config.held_out),
        config.held_out_seed,
        config.balanced,
        labels.class_names,
    ]
    if cached.stats.value_range:
        settings.append(_plain_range(cached.stats.value_range))
    if groups:
        settings.append([groups.names, groups.numbers.tolist()])
    if stratified:  # as no earlier version did
        settings.append("stratified")
    digest = hashlib.sha256(f"{cached.digest}{json.dumps(settings)}{labels.values.shape}".encode())
    digest.update(labels.values.tobytes())
    return digest.hexdigest()
