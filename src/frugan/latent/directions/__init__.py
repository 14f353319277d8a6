"""Where directions come from: each source is a row of `SOURCES`."""

from __future__ import annotations

from typing import NamedTuple

from frugan.latent.directions.boundary import Boundary, boundary_direction, find_boundary
from frugan.latent.directions.difference import difference_direction
from frugan.latent.directions.ganspace import ganspace_directions
from frugan.latent.directions.sefa import sefa_directions
from frugan.latent.directions.stylespace import channels_from_examples, channels_in_region


class Source(NamedTuple):
    """A way to find directions."""

    summary: str
    needs: str
    """What the user has to bring."""


SOURCES: dict[str, Source] = {
    "ganspace": Source("principal components of w: what varies most", "nothing"),
    "sefa": Source("eigenvectors of the style affines: what changes styles most", "nothing"),
    "boundary": Source(
        "a linear boundary in w between low and high scores", "scores: a CSV, a class, or a built-in one"
    ),
    "stylespace": Source("single style channels that mark examples, or act in a region", "example seeds, or a mask"),
    "difference": Source("from the mean of one set of seeds (or class) to that of another", "two sets"),
}

__all__ = [
    "SOURCES",
    "Boundary",
    "Source",
    "boundary_direction",
    "channels_from_examples",
    "channels_in_region",
    "difference_direction",
    "find_boundary",
    "ganspace_directions",
    "sefa_directions",
]
