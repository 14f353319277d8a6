"""Statistics of W, P and S: closed forms, independence of batches, the cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from frugan.errors import FruganError
from frugan.latent import statistics as module
from frugan.latent.statistics import (
    cluster_centres,
    compute_statistics,
    draw_latents,
    flat_styles,
    from_p,
    principal,
    split_styles,
    statistics_of,
    to_p,
)
from frugan.networks import Generator

Make = Callable[..., Generator]


def test_pca_of_a_known_distribution_has_its_closed_form(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """w = A x + m with x Gaussian: mean m, covariance A Aᵀ, and its eigenvectors."""
    G = make()
    torch.manual_seed(1)
    A, m = torch.randn(12, 12).double() * torch.linspace(3, 0.5, 12).double(), torch.randn(12).double()
    monkeypatch.setattr(G.mapping, "features", lambda z, c: (z.double() @ A.T + m).float())
    found = compute_statistics(G, samples=200_000, style_samples=10)
    assert torch.allclose(found.mean, m, atol=0.05)
    assert torch.allclose(found.covariance, A @ A.T, atol=0.02 * float((A @ A.T).abs().max()))
    exact = principal(A @ A.T)
    assert torch.allclose(found.w_principal.deviations, exact.deviations, rtol=0.02, atol=0.02)
    aligned = (found.w_principal.components * exact.components).sum(1)
    assert (aligned[:4] > 0.99).all()  # positive too: signs are fixed


def test_sums_are_those_of_numpy_and_do_not_depend_on_batches(G: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 100)
    found = compute_statistics(G, samples=450, style_samples=250)
    z = torch.cat([draw_latents(G, n, i)[0] for i, n in enumerate((100, 100, 100, 100, 50))])
    w = G.mapping.features(z, None)
    assert np.allclose(found.mean, w.double().mean(0), atol=1e-6)
    assert np.allclose(found.covariance, np.cov(w.double().numpy().T), atol=1e-6)
    assert np.allclose(found.p_covariance, np.cov(to_p(w.double()).numpy().T), atol=1e-5)
    styles = flat_styles(G, w[:250])
    assert np.allclose(found.style_mean, styles.mean(0), atol=1e-5)
    assert np.allclose(found.style_std, styles.double().std(0, correction=0), atol=1e-4)


def test_p_space_undoes_the_last_activation_and_comes_back() -> None:
    w = torch.randn(1000)
    before = torch.where(w < 0, w / 0.2, w)  # what a leaky ReLU of slope 0.2 takes to w
    assert torch.allclose(to_p(w), before)
    assert torch.allclose(from_p(to_p(w)), w)


def test_styles_are_split_as_they_were_joined(G: Generator) -> None:
    ws = torch.randn(3, G.num_ws, G.w_dim)
    for a, b in zip(split_styles(G, flat_styles(G, ws)), G.synthesis.styles(ws)):
        assert torch.equal(a, b)


def test_class_means_and_label_pools(make: Make) -> None:
    G = make(label_size=3)
    found = compute_statistics(G, samples=3000, style_samples=100)
    assert found.class_means.shape == (3, G.w_dim)
    only = compute_statistics(G, samples=3000, style_samples=100, labels=torch.eye(3)[1:2])
    assert torch.allclose(only.mean, found.class_means[1], atol=0.1)
    assert not torch.allclose(found.class_means[0], found.class_means[1], atol=0.1)
    with pytest.raises(FruganError, match="needs rows of 3"):
        compute_statistics(G, samples=10, labels=torch.eye(2))


def test_the_cache_follows_weights_samples_and_labels(make: Make, tmp_path: Path) -> None:
    G = make(label_size=2)
    first = statistics_of(G, samples=200, cache=tmp_path)
    again = statistics_of(G, samples=200, cache=tmp_path)
    for name, value in vars(first).items():
        same = vars(again)[name]
        assert torch.equal(value, same) if isinstance(value, torch.Tensor) else value == same, name
    assert len(list(tmp_path.iterdir())) == 1
    statistics_of(G, samples=200, cache=tmp_path, labels=torch.eye(2)[:1])
    statistics_of(G, samples=300, cache=tmp_path)
    statistics_of(make(label_size=2, seed=1), samples=200, cache=tmp_path)
    files = list(tmp_path.iterdir())
    assert len(files) == 4
    for file in files:
        file.write_bytes(file.read_bytes()[:50])
    damaged = statistics_of(G, samples=200, cache=tmp_path)
    assert torch.equal(damaged.mean, first.mean)


def test_a_cache_folder_that_cannot_be_written(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Statistics are computed all the same, unless a folder was asked for."""
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: tmp_path / "file" / name)
    assert statistics_of(make(), samples=200).samples == 200
    with pytest.raises(OSError, match="file"):
        statistics_of(make(), samples=200, cache=tmp_path / "file")


def test_cluster_centres_find_clusters(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    G = make()
    truth = torch.tensor([[4.0] * 12, [-4.0] * 12, [4.0, -4.0] * 6])
    monkeypatch.setattr(
        G.mapping, "features", lambda z, c: truth[(z[:, 0] > 0).long() + (z[:, 1] > 1).long()] + 0.1 * z
    )
    found = cluster_centres(G, 3, samples=3000)
    assert torch.cdist(found, truth).min(1).values.max() < 0.5
    assert sorted(torch.cdist(found, truth).argmin(1).tolist()) == [0, 1, 2]
