"""Sources of directions: the table `SOURCES`."""

from __future__ import annotations

from typing import NamedTuple

from frugan.latent.directions.boundary import Boundary, boundary_direction, check_estimators, find_boundary
from frugan.latent.directions.difference import difference_direction
from frugan.latent.directions.ganspace import ganspace_directions
from frugan.latent.directions.published import import_ws_range, read_published
from frugan.latent.directions.sefa import sefa_directions
from frugan.latent.directions.stylespace import channels_from_examples, channels_in_region, check_mask


class Source(NamedTuple):
    """A way to find directions."""

    summary: str
    needs: str
    """What the user has to bring."""


SOURCES: dict[str, Source] = {
    "ganspace": Source("principal components of w: what varies most", "nothing"),
    "sefa": Source("eigenvectors of the style affines: what changes styles most", "nothing"),
    "boundary": Source(
        "a linear boundary in w between low and high scores",
        "scores: a CSV, a class, a Python function of images, or a built-in one",
    ),
    "stylespace": Source("single style channels that mark examples, or act in a region", "example seeds, or a mask"),
    "difference": Source("from the mean of one set of seeds (or class) to that of another", "two sets"),
    "import": Source("a published component of GANSpace, or boundary of InterFaceGAN", "its file"),
}

__all__ = [
    "SOURCES",
    "Boundary",
    "Source",
    "boundary_direction",
    "channels_from_examples",
    "channels_in_region",
    "check_estimators",
    "check_mask",
    "difference_direction",
    "find_boundary",
    "ganspace_directions",
    "import_ws_range",
    "read_published",
    "sefa_directions",
]
