"""Subject of a report: the generator, the run that it comes from, its images, and which of them it never saw."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch

from frugan.data import Dataset, open_dataset
from frugan.data.open import regroup
from frugan.device import choose_device
from frugan.errors import FruganError
from frugan.metrics import ImageSet
from frugan.networks import Generator
from frugan.networks.serialization import weights_digest
from frugan.run.directory import RunDirectory
from frugan.run.evaluate import check_shape, image_set_of, own_images, run_of, same_shape
from frugan.run.load import generator_folder, load_with_notes, read_class_names


@dataclass(frozen=True)
class Subject:
    """A generator on its device, and real images beside it; `data` and `reference` are None where none are known."""

    source: Path
    folder: Path
    generator: Generator
    device: torch.device
    run: RunDirectory | None
    data: Dataset | None
    """The images that it was trained on, with those held out from its training."""
    reference: Dataset | None
    """Other images of the same kind, none of which it was trained on."""
    notes: list[str] = field(default_factory=list)
    """What an import has left out or estimated."""
    missing: str = ""
    """Why the run's own images could not be opened."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the generator's weights."""
        return weights_digest(self.generator)

    @cached_property
    def class_names(self) -> list[str] | None:
        """Names of its label's columns, where it comes with any."""
        own = self.data.class_names if self.data else None
        return own or read_class_names(self.source if self.source.is_dir() else self.folder)

    @cached_property
    def train(self) -> ImageSet | None:
        """The images that it was trained on, each once."""
        return image_set_of(self.data, "train") if self.data else None

    @cached_property
    def unseen(self) -> ImageSet | None:
        """Images of the same kind that it was not trained on: the reference, else those held out; None without any."""
        if self.reference:
            return image_set_of(self.reference, "all")
        if self.data and len(self.data.held_out_indices):
            return image_set_of(self.data, "held-out")
        return None

    @cached_property
    def real(self) -> ImageSet | None:
        """The images to compare samples with: unseen ones where there are any, else those of training."""
        return self.unseen or self.train

    @property
    def real_name(self) -> str:
        """The images `real`, in words."""
        if self.reference:
            return "images of the reference set"
        return "images held out from training" if self.unseen else "the images of training themselves"

    @property
    def depth(self) -> int:
        """Bits per channel of the images: 8, 16, or 32 of floating-point numbers; 8 without images."""
        known = self.data or self.reference
        return known.depth if known else 8

    @property
    def _unknown(self) -> str:
        """Why there are no training images."""
        return (
            self.missing or f"{self.source} does not know the images it was trained on: say where they are with --data"
        )

    def require_train(self) -> ImageSet:
        """The training images. Raises `FruganError` where they are not known."""
        if self.train is None:
            raise FruganError(self._unknown)
        return self.train

    def require_stream(self) -> ImageSet:
        """The training images, and their x-flipped copies where it was trained on these as well."""
        self.require_train()
        assert self.data is not None
        return image_set_of(self.data, "stream")

    def require_unseen(self) -> ImageSet:
        """Unseen images. Raises `FruganError` where there are none."""
        if self.unseen is None:
            raise FruganError(
                "no images were held out from training, and none of the same kind were given: hold some out when you "
                "train (--held-out 0.1), or give others with --reference"
            )
        return self.unseen

    def require_real(self) -> ImageSet:
        """Real images of either kind. Raises `FruganError` where there are none."""
        if self.real is None:
            raise FruganError(f"{self._unknown}, or give others of the same kind with --reference")
        return self.real


def open_subject(
    source: str | Path,
    *,
    data: str | None = None,
    reference: str | None = None,
    group: str | None = None,
    device: str = "auto",
) -> Subject:
    """Loads the generator of a report, and opens its run's images and the reference.

    Images that cannot be found are no error, unless `data` names their place: sections then say why they are empty.

    Args:
        source: a run, a checkpoint or a network file.
        data: where the run's images are now; None: where they were.
        reference: other images to compare with, or None.
        group: a rule that says which images belong together, in place of the run's.
        device: to compute on.

    Raises `FruganError` where images do not fit the generator.
    """
    path = Path(source)
    folder = path if path.is_file() else generator_folder(path)
    whole, notes = load_with_notes(folder)
    generator = whole.without_masks()  # metrics see images alone; usefulness loads the masks besides
    run = RunDirectory(path) if (path / "config.yaml").is_file() else run_of(folder)
    missing = ""
    try:
        own = own_images(run, data, generator, group)
    except FruganError as error:
        if data is not None:
            raise
        own, missing = None, str(error)
    other = None
    if reference is not None:
        like = own.config if own else None
        config = same_shape(like, reference, generator, labels=bool(generator.label_size and own is None))
        other = open_dataset(replace(config, use_generated=True))  # compared with, not trained on
        if group:
            regroup(other, group)
    for dataset in filter(None, (own, other)):
        check_shape(dataset, generator)
    place = choose_device(device)
    return Subject(path, folder, generator.to(place), place, run, own, other, notes, missing)
