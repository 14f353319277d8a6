"""Published directions read from their files: components of GANSpace (.npz) and boundaries of InterFaceGAN (.npy).

Both are vectors of w, added before truncation, on a range of ws whose end is exclusive. GANSpace's strengths are in the σ
that its file holds, InterFaceGAN's in units of w. Nothing in a file is executed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from frugan.checks import beside, check_number
from frugan.errors import FruganError, shown
from frugan.latent.direction import Direction, Identity
from frugan.networks import Generator

SUFFIXES = (".npz", ".npy")


def read_published(
    G: Generator, file: str | Path, *, component: int | None = None, ws: tuple[int, int] | None = None, name: str = ""
) -> Direction:
    """Reads a direction from a published file: a component of GANSpace (.npz), or InterFaceGAN's boundary (.npy).

    Args:
        G: the generator it belongs to.
        file: the file.
        component: its number, for GANSpace.
        ws: (first, end) of the ws that it acts on; None: all.
        name: of the direction; by default the file's.

    Raises `FruganError` where the file is neither, or its vectors do not have the size of G's w.
    """
    file = Path(file)
    first, end = ws or (0, G.num_ws)
    arrays = _arrays(file)
    if file.suffix.lower() == ".npy":
        if component not in (None, 0):
            raise FruganError(f"{file} holds one boundary; leave the component out")
        source = {"method": "import", "file": file.name}
        return import_ws_range(
            G, _vector(arrays["boundary"], G, file), first, end, name=name or file.stem, source=source
        )
    rows, deviations = arrays["lat_comp"], arrays["lat_stdev"].reshape(-1)
    if component is None:
        raise FruganError(f"{file} holds {len(rows)} components; say which one, from 0 to {len(rows) - 1}")
    check_number("component", component, at_least=0, below=min(len(rows), len(deviations)), whole=True)
    return import_ws_range(
        G,
        _vector(rows[component], G, file),
        first,
        end,
        name=name or f"pc{component}",
        sigma=float(deviations[component]),
        source={"method": "import", "file": file.name, "component": component},
    )


def import_ws_range(
    G: Generator,
    vector: Tensor,
    first: int,
    end: int,
    *,
    name: str,
    sigma: float = 1.0,
    source: Mapping[str, Any] | None = None,
) -> Direction:
    """A vector of w as a direction that acts on a range of ws, added before truncation.

    Ranges that divide a level's pair of ws are kept as they are.

    Args:
        G: the generator.
        vector: `[w_dim]`; its length does not matter.
        first, end: the range; `end` is exclusive.
        name: of the direction.
        sigma: the length of strength 1.
        source: facts on its origin.
    """
    check_number("first", first, at_least=0, below=G.num_ws, whole=True)
    check_number("end", end, above=first, at_most=G.num_ws, whole=True, hint="the end is exclusive")
    if vector.numel() != G.w_dim:
        raise FruganError(f"a vector of {vector.numel()} numbers is none of this generator's w ({G.w_dim})")
    rows = torch.zeros(G.num_ws, G.w_dim)
    rows[first:end] = F.normalize(vector.detach().float().flatten(), dim=0)
    return Direction(name, "w", rows, sigma, Identity.of(G), order="before", source=dict(source or {}))


def _arrays(file: Path) -> dict[str, np.ndarray]:
    """The arrays that count, float64."""
    if not file.is_file():
        raise FruganError(f"there is no file {file}{beside(file)}")
    if file.suffix.lower() not in SUFFIXES:
        raise FruganError(f"{file}: name a file of GANSpace's components (.npz) or an InterFaceGAN boundary (.npy)")
    try:
        found = np.load(file, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return {"boundary": found.astype(np.float64)}
        with found:
            return {key: found[key].astype(np.float64) for key in ("lat_comp", "lat_stdev")}
    except (OSError, ValueError, KeyError, EOFError, TypeError, MemoryError) as error:
        raise FruganError(f"{file} holds neither components nor a boundary: {shown(error)}") from error


def _vector(values: np.ndarray, G: Generator, file: Path) -> Tensor:
    if values.size != G.w_dim:
        raise FruganError(f"{file} holds vectors of {values.size} numbers, and this generator's w has {G.w_dim}")
    return torch.from_numpy(values.reshape(-1))
