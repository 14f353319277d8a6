"""The whole configuration of a run, and its file config.yaml."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import cattrs
import yaml

from frugan.augment import AugmentConfig, ControllerConfig
from frugan.checks import Count, NotNegative, check_fields
from frugan.config.migrations import migrated
from frugan.config.options import Length
from frugan.data import DataConfig
from frugan.errors import FruganError, shown
from frugan.files import read_yaml, write_text
from frugan.losses import ObjectiveConfig
from frugan.metrics import EvaluateConfig
from frugan.networks import DiscriminatorConfig, GeneratorConfig
from frugan.networks.registry import DEFAULT, Architecture, find_architecture
from frugan.structure import converter, real, reasons
from frugan.training import TrainingConfig, TransferConfig


@dataclass(frozen=True)
class ReportConfig:
    """The files that a run writes, and when, in kimg. `keep_last` checkpoints are kept besides the best by metric."""

    tick_kimg: Length = 4.0
    samples_kimg: Length = 50.0
    checkpoint_kimg: Length = 50.0
    evaluate_kimg: NotNegative = 0.0
    keep_last: Count = 2
    trackers: tuple[str, ...] = ("tensorboard",)
    """Where records go besides stats.jsonl and the page: names of `frugan.tracking.TRACKERS`."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class RunConfig:
    """The complete configuration of a run. It is written to config.yaml in the run's directory, and read back to resume."""

    kimg: Length
    data: DataConfig
    conditional: bool
    generator: GeneratorConfig
    discriminator: DiscriminatorConfig
    augment: AugmentConfig
    controller: ControllerConfig
    objective: ObjectiveConfig
    training: TrainingConfig
    report: ReportConfig
    evaluate: EvaluateConfig
    transfer: TransferConfig = TransferConfig()
    diffaugment: str | None = None
    measurement: str | None = None
    architecture: str = DEFAULT
    """Of the networks: a name of `frugan.networks.registry.ARCHITECTURES`."""
    threads: int | None = None
    """CPU threads that the run computes with, on a CPU: another number rounds otherwise. None: as PyTorch is set."""
    relative_paths: dict[str, str] = field(default_factory=dict)
    """Ways from the run directory to what is named above by absolute paths, by field; see `frugan.run.paths`."""

    def __post_init__(self) -> None:
        check_fields(self)


@cache
def _reader(architecture: Architecture | None = None) -> cattrs.Converter:
    """Makes configurations of plain values, those of networks as the architecture has them."""
    made = converter()
    made.register_structure_hook(  # whole numbers stay such: a configuration is written as it was read
        float, lambda value, _: value if type(value) is int and abs(value) < 1 << 1000 else real(value)
    )
    if architecture is not None:
        plain, kinds = _reader(), (architecture.generator_config, architecture.discriminator_config)
        for field_type, kind in zip((GeneratorConfig, DiscriminatorConfig), kinds):
            made.register_structure_hook(field_type, lambda value, _, kind=kind: plain.structure(value, kind))
    return made


def to_dict(config: Any) -> dict[str, Any]:
    """A config dataclass as plain values, tuples as lists."""
    return _plain(dataclasses.asdict(config))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (tuple, list)) else value


def save_config(config: RunConfig, file: Path) -> None:
    write_text(file, yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True))


def _check_keys(part: dict[Any, Any], seen: set[int]) -> None:
    """YAML takes `on` and `1` for keys that are no text; `seen` are the ids of parts that were checked already."""
    for key, value in part.items():
        if not isinstance(key, str):
            raise ValueError(f"the key {key!r} is no text")
        if isinstance(value, dict) and id(value) not in seen:
            seen.add(id(value))
            _check_keys(value, seen)


def load_config(file: Path) -> RunConfig:
    """Raises `FruganError` naming what cannot be understood."""
    try:
        found = read_yaml(file)
        if not isinstance(found, dict):
            raise ValueError("no settings in it")
        _check_keys(found, set())
        architecture = find_architecture(found.get("architecture", DEFAULT))
        return _reader(architecture).structure(migrated(found), RunConfig)
    except (OSError, ValueError) as error:
        reason = shown(" ".join(str(error).split()), 400)
        raise FruganError(f"{file} cannot be read: {reason}; fix it, or restore it from a copy") from error
    except cattrs.BaseValidationError as error:
        raise FruganError(
            f"{file} does not describe a run: {reasons(error, 'config')}; fix it, or restore it from a copy"
        ) from error
