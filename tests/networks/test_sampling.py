"""A seed is one image: whatever the batch, the order, the noise and what else is made beside it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frugan.errors import FruganError
from frugan.networks import Generator, GeneratorConfig, MappingConfig, SynthesisConfig
from frugan.networks.sampling import LARGEST_SEED, estimate_average, noise_seeds, seed_latents, stream_noise

NOISES = ("const", "random", "none")


def generator(resolution: tuple[int, int] = (16, 16), channels: int = 3, labels: int = 0, **synthesis) -> Generator:
    """A small one whose noise is visible and whose images pass well beyond [-1, 1]."""
    torch.manual_seed(0)
    config = SynthesisConfig(128, 16, **synthesis)
    G = Generator(GeneratorConfig(resolution, channels, labels, 12, 12, MappingConfig(2), config))
    for name, parameter in G.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.5)
    torch.nn.init.normal_(G.mapping.w_avg)
    return G


@settings(deadline=None, max_examples=25)
@given(
    seeds=st.lists(st.integers(0, LARGEST_SEED), min_size=1, max_size=18),
    batch=st.sampled_from([1, 3, 16]),
    noise=st.sampled_from(NOISES),
    shape=st.sampled_from([((16, 16), 1, "skip"), ((12, 20), 3, "resnet"), ((24, 16), 5, "orig")]),
    labels=st.sampled_from([0, 2]),
)
def test_a_seed_is_the_same_image_whatever_is_made_beside_it(
    seeds: list[int], batch: int, noise: str, shape: tuple, labels: int
) -> None:
    resolution, channels, architecture = shape
    G = generator(resolution, channels, labels, architecture=architecture)
    c = torch.eye(2)[[s % 2 for s in seeds]] if labels else None
    images = G.sample(seeds, c=c, noise=noise, batch=batch, truncation=0.7)  # pyright: ignore[reportArgumentType]
    assert images.shape == (len(seeds), channels, *resolution)
    assert images.dtype == torch.float32
    for i in {0, len(seeds) - 1}:
        alone = G.sample([seeds[i]], c=None if c is None else c[i], noise=noise, truncation=0.7)  # pyright: ignore[reportArgumentType]
        torch.testing.assert_close(images[i : i + 1], alone, rtol=0, atol=1e-5)


def test_latents_and_noise_are_the_same_to_the_bit() -> None:
    G = generator()
    seeds = [7, 0, LARGEST_SEED, 7]
    whole, alone = (
        stream_noise(G.synthesis.draw_noise, noise_seeds(chunk), torch.device("cpu")) for chunk in (seeds, seeds[2:3])
    )
    assert all(torch.equal(a[2:3], b) for a, b in zip(whole, alone))
    assert all(torch.equal(a[0], a[3]) for a in whole)
    assert not any(torch.equal(a[0], a[1]) for a in whole)
    assert torch.equal(G.latents(seeds)[2:3], G.latents(seeds[2:3]))


def test_noise_is_independent_of_the_latent() -> None:
    """NumPy and PyTorch seed the same Mersenne Twister, so that one seed for both would give related numbers."""
    seeds = range(400)
    z = seed_latents(seeds, 64)
    (noise,) = stream_noise(lambda n, rng: [torch.randn(n, 1, 8, 8, generator=rng)], noise_seeds(seeds), z.device)
    x = torch.cat([z, noise.flatten(1)], dim=1)
    correlations = torch.corrcoef(x.T)[:64, 64:]
    assert correlations.abs().max() < 5.5 / len(seeds) ** 0.5
    assert len(set(noise_seeds(range(2000)))) == 2000


def test_with_random_noise_images_differ_by_seed_and_from_the_constants() -> None:
    G = generator()
    kinds = {kind: G.sample([3, 4], noise=kind) for kind in NOISES}
    assert not torch.allclose(kinds["random"], kinds["const"], atol=0.01)
    assert not torch.allclose(kinds["random"], kinds["none"], atol=0.01)
    same_w = Generator(G.config)
    same_w.load_state_dict(G.state_dict())
    images = same_w.sample([3, 4], noise="random", truncation=0)  # one w for all: what is left is noise
    assert not torch.allclose(images[0], images[1], atol=0.01)


@pytest.mark.parametrize("noise", NOISES)
def test_images_stay_in_their_range(noise: str) -> None:
    G = generator()
    with torch.no_grad():
        assert G(G.latents(range(32)), noise="none").abs().max() > 1.2  # else this would show nothing
    images = G.sample(range(32), noise=noise)  # pyright: ignore[reportArgumentType]
    assert images.min() == -1
    assert images.max() == 1


@pytest.mark.parametrize(
    "arguments, says",
    [
        ({"seeds": []}, "at least one"),
        ({"seeds": range(0)}, "at least one"),
        ({"seeds": 3}, r"seeds=\[3\]"),
        ({"seeds": [-1]}, "seed -1: give a whole number from 0 to 4,294,967,295"),
        ({"seeds": [2**32]}, "seed 4294967296"),
        ({"seeds": [10**30]}, "seed 1000"),
        ({"seeds": [1.5]}, "seed 1.5"),
        ({"seeds": ["1"]}, "seed 1: give"),
        ({"seeds": [True]}, "seed True"),
        ({"truncation": float("nan")}, "truncation nan"),
        ({"truncation": float("inf")}, "truncation inf"),
        ({"truncation_cutoff": -1}, "truncation_cutoff -1"),
        ({"truncation_cutoff": 1.5}, "truncation_cutoff 1.5"),
        ({"batch": 0}, "batch 0"),
        ({"noise": "pink"}, "noise 'pink': choose"),
        ({"c": torch.zeros(3)}, "without labels"),
    ],
)
def test_odd_arguments_are_refused_before_anything_is_computed(arguments: dict, says: str) -> None:
    G = generator()
    with pytest.raises(FruganError, match=says):
        G.sample(**{"seeds": [0], **arguments})


def test_labels_have_the_generators_shape() -> None:
    G = generator(labels=2)
    for c in (None, torch.zeros(3), torch.zeros(3, 2), torch.zeros(1, 1, 2)):
        with pytest.raises(FruganError, match=r"give \[2\] or \[4, 2\]"):
            G.sample(range(4), c=c)


def test_seeds_of_other_types() -> None:
    G = generator()
    expected = G.sample([1, 2])
    for seeds in (range(1, 3), np.array([1, 2]), torch.tensor([1, 2]), (s for s in (1, 2)), [np.uint8(1), 2.0]):
        assert torch.equal(G.sample(seeds), expected)  # pyright: ignore[reportArgumentType]


def test_the_estimated_average_is_that_of_w() -> None:
    G = generator()
    average = estimate_average(G.mapping.features, G.z_dim)
    with torch.no_grad():
        w = G.mapping.features(torch.randn(10_000, 12, generator=torch.Generator().manual_seed(1)), None)
    assert torch.equal(average, estimate_average(G.mapping.features, G.z_dim))
    assert ((average - w.mean(0)).abs() < 6 * w.std(0) * (2 / 10_000) ** 0.5).all()
