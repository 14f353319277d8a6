"""Our own directories of networks: for use, and to go on training from.

model.safetensors           the EMA generator
generator.safetensors       the raw one, where there is one
discriminator.safetensors   likewise
config.json                 what it takes to build them; p of the augmentation, names of the classes, notes of an import
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from frugan.files import refilling
from frugan.interop.nvidia import Imported, read_probability
from frugan.networks.serialization import (
    build,
    kind_of,
    load_config,
    load_generator,
    load_weights,
    save_generator,
    save_weights,
)

WEIGHTS = ("model.safetensors", "generator.safetensors", "discriminator.safetensors")


def write_directory(path: str | Path, found: Imported, *, class_names: Sequence[str] | None = None) -> Path:
    """Writes networks into a directory. A new one appears whole or not at all; in an old one networks are replaced.

    A crash leaves the networks that were there before or, between two renames, a directory that is refused.

    Args:
        path: the directory.
        found: the networks.
        class_names: of one-hot labels, or None.
    """
    path = Path(path)
    D = found.discriminator
    facts = {"p": found.p, "class_names": class_names and list(class_names), "notes": found.notes or None}
    known = {k: v for k, v in facts.items() if v is not None}
    with refilling(path, "config.json", WEIGHTS) as scratch:
        save_generator(scratch, found.generator, discriminator=D and D.config, **known)
        for name, network in (("generator", found.raw_generator), ("discriminator", D)):
            if network is not None:
                save_weights(network, scratch / f"{name}.safetensors")
    return path


def read_directory(path: str | Path) -> Imported:
    """The networks in such a directory, or in a checkpoint of a run. Raises `FruganError` on anything amiss."""
    path = Path(path)
    config, training = load_config(path), path / "training.safetensors"
    kind = kind_of(config)
    if training.is_file():
        raw, critic = load_weights(training, "G/"), load_weights(training, "D/")
        p = load_weights(training, "controller/").get("p")
    else:
        raw, critic = (
            load_weights(file) if (file := path / f"{name}.safetensors").is_file() else {}
            for name in ("generator", "discriminator")
        )
        p = config.get("p")
    known = "discriminator" in config  # an older checkpoint does not tell
    absent = ["the discriminator was left out: config.json does not tell its shape"] if critic and not known else []
    return Imported(
        load_generator(path),
        build(kind.generator, config["generator"], raw, path) if raw else None,
        build(kind.discriminator, config["discriminator"], critic, path) if critic and known else None,
        read_probability(p),
        read_notes(path) + absent,
    )


def read_notes(path: str | Path) -> list[str]:
    """Notes on what an import left out or estimated, from the directory that it wrote. Raises `FruganError`."""
    notes = load_config(Path(path)).get("notes", [])
    return [str(note) for note in notes] if isinstance(notes, list) else []
