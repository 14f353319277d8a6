"""Checkpoints: directories of safetensors and JSON, written whole or not at all, and verified when read.

checkpoint-000200.064/     kimg
    model.safetensors      the moving average of the generator, for use …
    config.json            … and what it takes to build it and the discriminator
    training.safetensors   the whole training state
    training.json          its counters
    manifest.json          size and SHA-256 of each file
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from frugan.errors import FruganError
from frugan.networks import save_generator
from frugan.training.state import TrainState

PREFIX = "checkpoint-"


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint directory on disk."""

    path: Path

    @property
    def images(self) -> int:
        return int(_read_json(self.path / "training.json")["images"])

    def verify(self) -> None:
        """Raises `FruganError` naming the first file that is missing, cut short or changed."""
        manifest = _read_json(self.path / "manifest.json")
        for name, entry in manifest["files"].items():
            file = self.path / name
            if not file.is_file():
                raise FruganError(f"checkpoint {self.path} is incomplete: {name} is missing")
            if file.stat().st_size != entry["bytes"] or _sha256(file) != entry["sha256"]:
                raise FruganError(f"checkpoint {self.path} is damaged: {name} is not what was written")

    def restore(self, state: TrainState) -> None:
        """Loads the training state, bit for bit."""
        self.verify()
        tensors = safetensors.torch.load_file(self.path / "training.safetensors")
        state.load_state_dict(tensors, _read_json(self.path / "training.json"))


def save(directory: Path, state: TrainState, metrics: Mapping[str, float] | None = None) -> Checkpoint:
    """Writes a checkpoint of `state` into `directory`; one of the same step that verifies already is left as it is."""
    final = directory / f"{PREFIX}{state.images / 1000:010.3f}"
    if final.exists():
        try:
            Checkpoint(final).verify()
            return Checkpoint(final)
        except FruganError:
            shutil.rmtree(final)
    temporary = directory / f".{final.name}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    tensors, facts = state.state_dict()
    # safetensors refuses tensors that share memory or are strided: each is written as its own plain block
    plain = {k: v.detach().contiguous().cpu().clone() for k, v in tensors.items()}
    safetensors.torch.save_file(plain, temporary / "training.safetensors")
    _write_json(temporary / "training.json", {**facts, "metrics": dict(metrics or {})})
    save_generator(temporary, state.ema, discriminator=state.D.config)
    files = {f.name: {"bytes": f.stat().st_size, "sha256": _sha256(f)} for f in sorted(temporary.iterdir())}
    _write_json(temporary / "manifest.json", {"format": 1, "files": files})
    for file in temporary.iterdir():
        _sync(file)
    temporary.rename(final)
    _sync(directory)
    return Checkpoint(final)


def all_checkpoints(directory: Path) -> list[Checkpoint]:
    """From the oldest to the newest; unfinished ones have another name and are not seen."""
    return [Checkpoint(p) for p in sorted(directory.glob(f"{PREFIX}*")) if (p / "manifest.json").is_file()]


def latest(directory: Path) -> Checkpoint | None:
    """The newest checkpoint that verifies; damaged ones are passed over."""
    for checkpoint in reversed(all_checkpoints(directory)):
        try:
            checkpoint.verify()
        except FruganError:
            continue
        return checkpoint
    return None


def prune(directory: Path, *, keep_last: int, keep: set[Path]) -> None:
    """Removes all but the newest `keep_last` checkpoints and those in `keep`, and what a killed writer left behind."""
    for checkpoint in all_checkpoints(directory)[: -keep_last or None]:
        if checkpoint.path not in keep:
            shutil.rmtree(checkpoint.path)
    for rest in directory.glob(f".{PREFIX}*"):
        shutil.rmtree(rest, ignore_errors=True)


def is_finite(state: TrainState) -> bool:
    """Whether every weight is a finite number."""
    tensors = [p for net in state.networks().values() for p in net.parameters()]
    return bool(torch.isfinite(torch.nn.utils.get_total_norm(tensors)))


def _sha256(file: Path) -> str:
    with file.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Asks the disk to keep what was written before the name appears."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise FruganError(f"{file} cannot be read: {error}") from error


def _write_json(file: Path, value: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(value, indent=1, sort_keys=True), "utf-8")
