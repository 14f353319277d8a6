"""The configuration of a data set: which images, and what becomes of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from frugan.channels import CHANNELS, Declared, has_alpha, parse_channels
from frugan.checks import Limits, Positive, Seed, as_option, check_fields, check_number, no_effect
from frugan.command_line import command
from frugan.data.decode import Background, Filter, Fit, MaskFilter
from frugan.data.groups import check_grouping
from frugan.data.shards.locate import is_shards
from frugan.data.sources.crops import CropConfig
from frugan.data.sources.parts import MOST, FrameChoice, Taken
from frugan.data.target import PixelConfig
from frugan.data.values import parse_range
from frugan.errors import FruganError, shown
from frugan.resolution import base_grid


@dataclass(frozen=True)
class DataConfig:
    """The configuration of a data set: where its images are, and what is made of them.

    `resolution` is (H, W), or one number where both are equal; derived from the images when None. `channels` "auto" keeps
    what all images have.
    `fit` "crop" cuts the largest centred part, "letterbox" keeps all and adds borders. `filter` "lanczos" keeps most
    detail, "box" averages, as in the usual downscaled FFHQ. `background` lies behind transparency that is dropped and
    in the borders of a letterbox. `labels` is "none", "auto", "folders" or a file (see `frugan.data.labels`).
    `held_out` images (a fraction below 1, a count from 1) never train. `mirror` doubles the set by x-flips;
    `balanced` draws all classes equally often; `strict` refuses images that cannot be read, instead of skipping them.
    Of a set of shards, `without` leaves out those URLs, and `cache_limit` (GB) streams where they take more decoded.
    `value_range`: "LOW,HIGH" are the stored values that become black and white, or percentiles, "p1,p99"; "each:p1,p99" counts
    them in each channel, "0,1;5,9" gives a pair for each; "full" is all of 8 or 16 bits; "auto" finds the bits in use of 16-bit
    images and the extremes of other types of numbers (see `frugan.data.values`). `use_generated` takes images that frugan
    generated for data, too.
    `group` says which images belong together (see `frugan.data.groups`): all of a group are held out, or none; with `balanced`
    groups are drawn equally often, within classes where there are labels. `crops`: so many at random places of each image, as
    "100", or "grid", each `crop_size` pixels a side; see `frugan.data.sources.crops` for the rest. Each image is a group then.
    `frames`: of an animation or a file of several pages the "first" image, "all" of them, or the pages of a TIFF as "channels" of
    one. `stride` takes every so many frames of videos, and of other files with `frames` "all".
    `channels` may say which are masks (see `frugan.channels.parse_channels`); `masks` is a folder of masks with the images'
    names, which become the last channel; `mask_filter` "nearest" keeps their values wherever they are resized or moved.
    """

    path: str
    resolution: tuple[int, int] | None = None
    channels: str = "auto"
    fit: Fit = "crop"
    filter: Filter = "lanczos"
    background: Background = "white"
    labels: str = "none"
    mirror: bool = False
    strict: bool = False
    held_out: Annotated[float, Limits(at_least=0, at_most=1e9, hint="a fraction below 1, or a count of images")] = 0
    held_out_seed: Seed = 0
    balanced: bool = False
    cache_limit: Positive | None = None
    without: tuple[str, ...] = ()
    value_range: str = "auto"
    use_generated: bool = False
    group: str | None = None
    crops: str | None = None
    crop_size: Annotated[int, Limits(at_least=8, at_most=65536)] | None = None
    crop_overlap: Annotated[float, Limits(at_least=0, at_most=0.95)] = 0.0
    crop_rotations: bool = False
    crop_seed: Seed = 0
    frames: FrameChoice = "first"
    stride: Annotated[int, Limits(at_least=1, at_most=MOST)] = 1
    masks: str | None = None
    mask_filter: MaskFilter = "nearest"

    def __post_init__(self) -> None:
        check_fields(self, as_option)
        self._refuse_masks(parse_channels(self.channels))
        if isinstance(self.resolution, int):
            object.__setattr__(self, "resolution", (self.resolution, self.resolution))
        if self.resolution is not None:
            if not isinstance(self.resolution, tuple | list) or len(self.resolution) != 2:
                raise FruganError(
                    f"--resolution {self.resolution}: give a side, or a pair (height, width), for instance 64 or (64, 64)"
                )
            base_grid(*self.resolution)
        parse_range(self.value_range)
        if self.held_out > 1:
            check_number("--held-out", self.held_out, at_least=1, whole=True, hint="or a fraction below 1")
        if self.cache_limit is not None and not is_shards(self.path):
            raise FruganError(
                f"--cache-limit {self.cache_limit:g} with {self.path}: only a set of shards is streamed; make some with "
                f"{command('data', 'shard', self.path, 'OUT')}"
            )
        if self.group is not None:
            check_grouping(self.group)
        if self.group and self.cache_limit:
            raise FruganError(
                f"--group {shown(self.group)} with --cache-limit: streaming holds out whole shards, which may divide groups; leave "
                "one of them out"
            )
        self._check_crops()
        if self.balanced and self.labels == "none" and not (self.group or self.crops):
            raise FruganError(
                "balanced sampling needs classes or groups; say where they are with --labels or --group, or leave out --balanced"
            )

    def _check_crops(self) -> None:
        if self.crops is None:
            given = (self.crop_size, self.crop_overlap or None, self.crop_rotations or None, self.crop_seed or None)
            names = ("--crop-size", "--crop-overlap", "--crop-rotations", "--crop-seed")
            if odd := next((name for name, value in zip(names, given) if value is not None), None):
                raise FruganError(f"{odd} is of crops; add --crops, with their number for each image or grid")
            return
        if self.crops != "grid":
            number = str(self.crops)
            if not re.fullmatch(r"[1-9][0-9]{0,6}", number):
                raise FruganError(f"--crops {shown(number)}: give their number for each image, or grid")
            object.__setattr__(self, "crops", number)
            if self.crop_overlap:
                raise FruganError("--crop-overlap is of a grid; add --crops grid, or leave it out")
        if self.crop_size is None:
            raise FruganError(
                f"--crops {self.crops} needs a size in pixels of the images; add for instance --crop-size 256"
            )
        if is_shards(self.path):
            raise FruganError(f"--crops with {self.path}: shards are read as they are; name a folder or zip of images")

    @property
    def crop_config(self) -> CropConfig | None:
        if self.crops is None or self.crop_size is None:
            return None
        count = None if self.crops == "grid" else int(self.crops)
        return CropConfig(count, self.crop_size, self.crop_overlap, self.crop_rotations, self.crop_seed)

    @property
    def vain(self) -> list[str]:
        """A sentence for each setting that has no effect on shards, where the images are in some."""
        given = (("--frames", self.frames, "first"), ("--stride", self.stride, 1))
        found = (*given, ("--use-generated", self.use_generated, False)) if is_shards(self.path) else ()
        return [
            no_effect(name, value, "images outside of shards") for name, value, default in found if value != default
        ]

    @property
    def taken(self) -> Taken:
        return Taken(self.frames, self.stride)

    @property
    def pixels(self) -> PixelConfig:
        declared = parse_channels(self.channels)
        masks = {"masks": declared.masks or int(self.masks is not None), "mask_filter": self.mask_filter}
        settings = (self.resolution, declared.choice, self.fit, self.filter, self.background, self.value_range)
        return PixelConfig(*settings, **masks)

    def _refuse_masks(self, declared: Declared) -> None:
        if self.masks is not None and (declared.masks or has_alpha(CHANNELS.get(declared.choice, 0))):
            raise FruganError(
                f"--masks {self.masks} with --channels {self.channels}: masks from a folder go with images of grey values or RGB; "
                "give --channels L, RGB or auto"
            )
        if self.masks is not None and is_shards(self.path):
            raise FruganError(
                f"--masks {self.masks} with {self.path}: masks in shards are channels of the images; write shards that have them "
                f"with {command('data', 'shard', 'IMAGES', 'OUT', '--masks', self.masks)}, and train on OUT without --masks"
            )
