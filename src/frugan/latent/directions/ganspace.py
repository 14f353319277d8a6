"""GANSpace: principal components of w (Härkönen et al., "GANSpace: Discovering Interpretable GAN Controls", 2020).

The covariance of w is known exactly from streamed sums, so that its eigenvectors are too: no incremental estimate.
"""

from __future__ import annotations

from frugan.checks import check_number
from frugan.latent.direction import Direction, Identity, Order
from frugan.latent.statistics import Statistics
from frugan.networks import Generator


def ganspace_directions(
    G: Generator,
    statistics: Statistics,
    count: int = 20,
    *,
    levels: tuple[int, ...] | None = None,
    order: Order = "after",
) -> list[Direction]:
    """Principal components of w as directions, by descending variance; strength 1 is one standard deviation along each.

    Härkönen et al., "GANSpace: Discovering Interpretable GAN Controls", 2020.

    Args:
        G: the generator.
        statistics: of its w.
        count: number of components.
        levels: that edits act on; None: all.
        order: whether edits are added "before" truncation, as in the published edits, or "after" it.
    """
    check_number("count", count, at_least=1, at_most=G.w_dim, whole=True)
    found = statistics.w_principal
    total = float(found.deviations.square().sum())
    identity = Identity.of(G)
    made = []
    for i in range(count):
        share = float(found.deviations[i] ** 2) / total
        source = {"method": "ganspace", "component": i, "samples": statistics.samples, "variance_share": share}
        made.append(
            Direction(
                f"pc{i}",
                "w",
                found.components[i].float(),
                max(float(found.deviations[i]), 1e-12),
                identity,
                centre=float(found.components[i] @ statistics.mean),
                levels=levels,
                order=order,
                source=source,
            )
        )
    return made
