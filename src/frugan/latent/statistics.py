"""Statistics of a generator's latent spaces: what w, its nearly Gaussian form x, and the styles are like on average.

W: w = mapping(z, c) `[D]`. P: x = leaky ReLU of slope 5 of w, which undoes the mapping network's last activation and is
nearly Gaussian (Zhu et al., "Improved StyleGAN Embedding", 2020). S: the styles of all layers (Wu et al., "StyleSpace
Analysis", 2021). Mean and covariance of W and P are exact sums in float64 over the samples; they do not depend on batches.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cattrs
import numpy as np
import platformdirs
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from frugan.checks import check_number
from frugan.errors import FruganError
from frugan.files import parse_json
from frugan.networks import Generator, typical_labels
from frugan.networks.serialization import save_tensors, weights_digest
from frugan.structure import converter

Advance = Callable[[int, int], None] | None

SAMPLES = 100_000
STYLE_SAMPLES = 10_000
CENTRES = 64
"""k-means centres, by default."""
_CHUNK = 10_000
"""Latents are drawn so many at a time, each chunk from a random stream of its own."""
_STYLE_CHUNK = 1_000
"""The styles of so many are held at once: some 5,000 numbers each at 256x256."""
_SEED = 0x5A71


@dataclass(frozen=True)
class Principal:
    """An orthonormal basis, most variance first. Each column's entry of largest magnitude is positive."""

    components: Tensor
    """float64 `[D, D]`: one component a row."""
    deviations: Tensor
    """float64 `[D]`: the standard deviation along each."""


@dataclass(frozen=True)
class Statistics:
    """Statistics of a generator's latents, see the module. All float64 but `style_mean`, `style_std`, float32."""

    samples: int
    mean: Tensor
    """E w, `[D]`."""
    covariance: Tensor
    """Cov w, `[D, D]`."""
    p_mean: Tensor
    """E x, `[D]`."""
    p_covariance: Tensor
    """Cov x, `[D, D]`."""
    style_mean: Tensor
    """`[ΣC]`, the layers of `Synthesis.style_layers` one behind the other."""
    style_std: Tensor
    class_means: Tensor
    """E w for each class, `[K, D]`; `[0, D]` without labels."""
    digest: str
    """SHA-256 of the generator's weights."""

    @cached_property
    def w_principal(self) -> Principal:
        """PCA of w, by the eigenvectors of its covariance."""
        return principal(self.covariance)

    @cached_property
    def p_principal(self) -> Principal:
        """PCA of x."""
        return principal(self.p_covariance)

    def deviation_along(self, n: Tensor) -> float:
        """The standard deviation of ⟨w, n⟩ for n `[D]`, at least 1e-12."""
        return float((n.double() @ self.covariance @ n.double()).clamp_min(1e-24).sqrt())


def principal(covariance: Tensor) -> Principal:
    """Symmetric `[D, D]` → its eigenvectors as rows, descending, signs fixed, with the roots of the eigenvalues."""
    values, vectors = torch.linalg.eigh(covariance.double())
    rows = vectors.flip(1).T.contiguous()
    return Principal(fix_signs(rows), values.flip(0).clamp_min(0).sqrt())


def fix_signs(rows: Tensor) -> Tensor:
    """Turns each row `[…, D]` so that its entry of largest magnitude is positive: a name for it holds on every machine."""
    largest = rows.gather(-1, rows.abs().argmax(-1, keepdim=True))
    return rows * torch.where(largest < 0, -1.0, 1.0).to(rows.dtype)


def to_p(w: Tensor) -> Tensor:
    """w → x of P space, elementwise."""
    return F.leaky_relu(w, 5.0)


def from_p(x: Tensor) -> Tensor:
    """x of P space → w, elementwise."""
    return F.leaky_relu(x, 0.2)


@torch.no_grad()
def compute_statistics(
    G: Generator,
    *,
    samples: int = SAMPLES,
    style_samples: int = STYLE_SAMPLES,
    labels: Tensor | None = None,
    progress: Advance = None,
) -> Statistics:
    """Statistics of a generator's w and styles, over latents that are always the same ones.

    Args:
        G: the generator.
        samples: number of latents.
        style_samples: of these, whose styles are looked at.
        labels: `[M, K]`, from whose rows labels are drawn; None: every class is as frequent.
        progress: called with (done, total) latents.
    """
    check_number("samples", samples, at_least=2, at_most=10**9, whole=True)
    D, device = G.w_dim, G.mapping.w_avg.device
    count, sums = 0, [torch.zeros(D, dtype=torch.float64) for _ in range(2)]
    squares = [torch.zeros(D, D, dtype=torch.float64) for _ in range(2)]
    classes = G.label_size
    class_sums, class_counts = torch.zeros(classes, D, dtype=torch.float64), torch.zeros(classes, dtype=torch.float64)
    styles_seen, style_sum, style_square = 0, torch.zeros(()), torch.zeros(())
    for chunk in range(-(-samples // _CHUNK)):
        z, c = draw_latents(G, min(_CHUNK, samples - count), chunk, labels)
        w32 = G.mapping.features(z.to(device), None if c is None else c.to(device))
        w = w32.cpu().double()
        for space, x in enumerate((w, to_p(w))):
            sums[space] += x.sum(0)
            squares[space] += x.T @ x
        if c is not None:
            kinds = c.argmax(1)
            class_sums.index_add_(0, kinds, w)
            class_counts += torch.bincount(kinds, minlength=classes)
        for some in w32[: max(style_samples - styles_seen, 0)].split(_STYLE_CHUNK):
            flat = flat_styles(G, some).cpu().double()
            styles_seen += len(flat)
            style_sum, style_square = style_sum + flat.sum(0), style_square + flat.square().sum(0)
        count += len(z)
        if progress:
            progress(count, samples)
    means = [s / count for s in sums]
    covariances = [(q - count * torch.outer(m, m)) / (count - 1) for q, m in zip(squares, means)]
    style_mean = style_sum / styles_seen
    style_var = (style_square / styles_seen - style_mean.square()).clamp_min(0)
    return Statistics(
        samples=count,
        mean=means[0],
        covariance=covariances[0],
        p_mean=means[1],
        p_covariance=covariances[1],
        style_mean=style_mean.float(),
        style_std=style_var.sqrt().float(),
        class_means=class_sums / class_counts.clamp_min(1)[:, None],
        digest=weights_digest(G),
    )


def draw_latents(G: Generator, n: int, stream: int, labels: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """Latents z `[n, z_dim]` and labels `[n, K]` (None for a generator without) of a numbered random stream, on the CPU.

    Args:
        G: the generator.
        n: number of latents.
        stream: the same number gives the same latents.
        labels: `[M, K]`, from whose rows labels are drawn; None: typical ones.
    """
    rng = torch.Generator().manual_seed((_SEED << 32) + stream)
    z = torch.randn(n, G.z_dim, generator=rng)
    if not G.label_size:
        return z, None
    pool = typical_labels(G.label_size, G.config.measured) if labels is None else labels.float().cpu()
    if pool.ndim != 2 or pool.shape[1] != G.label_size or not len(pool):
        raise FruganError(f"labels of shape {tuple(pool.shape)}: this generator needs rows of {G.label_size}")
    return z, pool[torch.randint(len(pool), (n,), generator=rng)]


def flat_styles(G: Generator, w: Tensor) -> Tensor:
    """w `[N, D]`, or ws `[N, num_ws, D]`, → the styles of all layers side by side, `[N, ΣC]`."""
    ws = w if w.ndim == 3 else w[:, None].expand(-1, G.num_ws, -1)
    return torch.cat(G.synthesis.styles(ws), dim=1)


def split_styles(G: Generator, flat: Tensor) -> list[Tensor]:
    """`[N, ΣC]` → a style for each layer: what `Synthesis.render` takes."""
    return list(flat.split([layer.width for layer in G.synthesis.style_layers], dim=1))


def statistics_of(
    G: Generator,
    *,
    samples: int = SAMPLES,
    labels: Tensor | None = None,
    cache: str | Path | None = None,
    progress: Advance = None,
) -> Statistics:
    """The statistics of a generator's latents, kept on disk by the hash of its weights (and of the labels).

    Args:
        G: the generator.
        samples: number of latents.
        labels: `[M, K]`, from whose rows labels are drawn; None: typical ones.
        cache: the folder; None: the user's cache folder of frugan, where nothing is kept if it cannot be written.
        progress: called with (done, in all).
    """
    name = f"{weights_digest(G)[:32]}-{samples}{'' if labels is None else '-' + _digest_of(labels)}.safetensors"
    folder = Path(cache) if cache else Path(platformdirs.user_cache_dir("frugan")) / "statistics"
    file = folder / name
    if (found := _read(file)) is not None:
        return found
    made = compute_statistics(G, samples=samples, labels=labels, progress=progress)
    tensors = {k: v.contiguous() for k, v in vars(made).items() if isinstance(v, Tensor)}
    facts = {"samples": made.samples, "digest": made.digest}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_tensors(tensors, file, metadata={"statistics": json.dumps(facts)})
    except OSError:  # no room, or no permission: they are computed again the next time
        if cache:
            raise
    return made


def _read(file: Path) -> Statistics | None:
    """None where there is no such file, or it is damaged."""
    try:
        with safetensors.safe_open(file, "pt") as opened:
            facts: dict[str, Any] = parse_json((opened.metadata() or {})["statistics"])
            tensors = {k: opened.get_tensor(k) for k in opened.keys()}  # noqa: SIM118
        return tensor_converter().structure({**tensors, **facts}, Statistics)
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError, cattrs.BaseValidationError):
        return None


def tensor_converter() -> cattrs.Converter:
    """Makes dataclasses whose fields are tensors of floating-point numbers and plain values."""

    def tensor(value: Any, _: type) -> Tensor:
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise ValueError("expected a tensor of floating-point numbers")
        return value

    made = converter()
    made.register_structure_hook(Tensor, tensor)
    return made


def _digest_of(labels: Tensor) -> str:
    return hashlib.sha256(np.ascontiguousarray(labels.float().cpu().numpy()).tobytes()).hexdigest()[:16]


def cluster_centres(
    G: Generator, count: int = CENTRES, *, samples: int = 60_000, labels: Tensor | None = None
) -> Tensor:
    """k-means centres of w, standardised in each dimension: float32 `[count, D]`, the most frequent first.

    Each is typical of a part of the images, and a centre for truncation (Mokady et al., "Self-Distilled StyleGAN",
    2022). Needs scikit-learn.

    Args:
        G: the generator.
        count: number of centres.
        samples: number of latents.
        labels: `[M, K]`, from whose rows labels are drawn; None: typical ones.
    """
    try:
        from sklearn.cluster import MiniBatchKMeans
    except ImportError:
        raise FruganError("k-means centres need scikit-learn: pip install 'frugan[directions]'") from None
    check_number("centres", count, at_least=1, at_most=samples, whole=True)
    chunks = [min(_CHUNK, samples - i) for i in range(0, samples, _CHUNK)]
    with torch.no_grad():
        drawn = [draw_latents(G, n, stream, labels) for stream, n in enumerate(chunks)]
        device = G.mapping.w_avg.device
        w = torch.cat([G.mapping.features(z.to(device), None if c is None else c.to(device)).cpu() for z, c in drawn])
    mean, std = w.mean(0), w.std(0).clamp_min(1e-8)
    found = MiniBatchKMeans(count, random_state=0, n_init=3).fit(((w - mean) / std).numpy())  # pyright: ignore[reportArgumentType]
    order = np.argsort(-np.bincount(found.labels_, minlength=count), kind="stable")
    return torch.from_numpy(found.cluster_centers_[order]).float() * std + mean
