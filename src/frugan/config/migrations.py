"""Migrations of config.yaml: settings of runs from before a change, as they are written today.

Each migration is a function of all settings, which it leaves alone where they are of today. Reading a run's file changes
nothing on disk; once a run is resumed with another place of its data or number of threads, its file has the names of today.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from frugan.channels import CHANNEL_NAMES
from frugan.data.shards.locate import is_shards

Settings = dict[str, Any]


def stored_values(found: Settings) -> Settings:
    """Runs from before ranges of values: all stored values, and alpha as it was then."""
    data, networks = found.get("data"), found.get("generator")
    if not isinstance(data, dict) or not isinstance(networks, dict) or "value_range" in data:
        return found
    changes = {"value_range": "full"}
    path, channels = str(data.get("path")), networks.get("channels")
    opacity = CHANNEL_NAMES.get(channels, "") if isinstance(channels, int) else ""
    if (
        opacity.endswith("A")
        and data.get("channels") == "auto"
        and not (path.lower().endswith((".npy", ".npz")) or is_shards(path))
    ):
        changes["channels"] = opacity
    return {**found, "data": {**data, **changes}}


def latent_consistency(found: Settings) -> Settings:
    """Runs in which zCR's settings of the objective are named `near_…`."""
    objective = found.get("objective")
    if not isinstance(objective, dict):
        return found
    names = {f"near_{part}": f"latent_consistency_{part}" for part in ("sigma", "generator", "discriminator")}
    return {**found, "objective": {names.get(name, name): value for name, value in objective.items()}}


MIGRATIONS: tuple[Callable[[Settings], Settings], ...] = (stored_values, latent_consistency)


def migrated(found: Settings) -> Settings:
    """The settings after all migrations."""
    for migration in MIGRATIONS:
        found = migration(found)
    return found
