from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from frugan.errors import FruganError
from frugan.metrics import METRICS, EvaluateConfig, Evaluator, kernel_distance_full, sample_images
from frugan.networks import Generator, GeneratorConfig, SynthesisConfig
from frugan.pictures import to_float, to_uint8

REFERENCE = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)


class Toy:
    """Generator-shaped: the latent (and label) paints the image, over noise. It has no `draw_noise`."""

    z_dim = 3 * 8 * 8

    def __init__(self, label_size: int = 0, scale: float = 0.5) -> None:
        self.label_size, self.scale = label_size, scale

    def mapping(self, z: Tensor, c: Tensor | None) -> Tensor:
        assert (c is None) == (self.label_size == 0)
        return z if c is None else z * 0 + c[:, :1]

    def synthesis(self, ws: Tensor, *, noise: str, generator: torch.Generator) -> Tensor:
        assert noise == "random"
        grain = torch.randn(len(ws), 3, 8, 8, generator=generator)
        return self.scale * ws.reshape(-1, 3, 8, 8) + 0.1 * grain


class Replay:
    """Generates the given pictures in turn."""

    z_dim = 1
    label_size = 0

    def __init__(self, pixels: np.ndarray) -> None:
        self.images, self.at = to_float(torch.from_numpy(pixels)), 0

    def mapping(self, z: Tensor, c: Tensor | None) -> Tensor:
        self.at += len(z)
        return torch.arange(self.at - len(z), self.at)

    def synthesis(self, ws: Tensor, **noise: object) -> Tensor:
        return self.images[ws % len(self.images)]


class Averages:
    """Features: the image at 4×4. Counts the images that it has looked at."""

    name = "averages"

    def __init__(self, digest: str = "a") -> None:
        self.digest, self.seen = digest, 0

    def __call__(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        return nn.functional.avg_pool2d(images, 2).flatten(1)


def small_generator(label_size: int = 0) -> Generator:
    torch.manual_seed(0)
    config = GeneratorConfig(
        z_dim=8,
        w_dim=8,
        resolution=(8, 8),
        channels=3,
        label_size=label_size,
        synthesis=SynthesisConfig(channel_base=64, channel_max=8),
    )
    generator = Generator(config)
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            nn.init.ones_(parameter)
    return generator


def evaluator(reference: np.ndarray = REFERENCE, **options: Any) -> Evaluator:
    config = {key: options.pop(key) for key in ("samples", "metrics", "seed", "batch") if key in options}
    config = EvaluateConfig(**{"samples": 50, **config})
    return Evaluator(reference, config, **{"features": Averages(), **options})


def samples(generator: Any, n: int = 10, **options: Any) -> Tensor:
    return torch.cat(list(sample_images(generator, n, **options)))


@pytest.mark.parametrize("make", [Toy, small_generator])
@pytest.mark.parametrize("label_size", [0, 2])
def test_an_image_follows_from_seed_and_number_alone(make: Any, label_size: int) -> None:
    generator = make(label_size)
    labels = np.eye(2, dtype=np.float32)[:, :label_size] if label_size else np.zeros((5, 0), np.float32)
    images = samples(generator, labels=labels, batch=10)
    assert images.shape == (10, 3, 8, 8)
    for n, batch in ((10, 1), (10, 3), (10, 64), (4, 4)):
        torch.testing.assert_close(samples(generator, n, labels=labels, batch=batch), images[:n], rtol=1e-4, atol=1e-5)
    state = torch.get_rng_state()
    assert not torch.allclose(samples(generator, labels=labels, seed=1), images)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(images.flatten(1).unique(dim=0)) == 10


def test_noise_is_fresh_for_every_image() -> None:
    generator = small_generator()
    with torch.no_grad():
        generator.mapping.get_submodule("fc0").weight.zero_()  # pyright: ignore[reportCallIssue]
    images = samples(generator)
    assert images.std(dim=0).min() > 1e-4


def test_labels_are_drawn_from_the_rows_given() -> None:
    labels = np.array([[1, 0], [1, 0], [1, 0], [-1, 0]], np.float32)
    drawn = samples(Toy(label_size=2, scale=1), 400, labels=labels).mean(dim=(1, 2, 3)).sign()
    assert set(drawn.tolist()) == {1.0, -1.0}
    assert (drawn > 0).float().mean() == pytest.approx(0.75, abs=0.07)


@pytest.mark.parametrize("labels", [None, np.zeros((4, 3), np.float32), np.zeros((0, 2), np.float32)])
def test_missing_labels_are_named(labels: np.ndarray | None) -> None:
    with pytest.raises(FruganError, match="needs labels of size 2"):
        samples(Toy(label_size=2), labels=labels)


def test_every_metric_is_given_as_asked() -> None:
    generator = Toy()
    values = evaluator(metrics=tuple(METRICS))(generator)
    assert set(values) == {name for metric in METRICS.values() for name in metric.names}
    assert set(METRICS) <= set(values)
    assert all(np.isfinite(value) for value in values.values())
    for name, metric in METRICS.items():
        alone = evaluator(metrics=(name,))(generator)
        assert alone == {key: pytest.approx(values[key]) for key in metric.names}


def test_the_number_is_that_of_the_parts() -> None:
    """Images pass through uint8, features and distance, and nothing else."""
    measure = evaluator(metrics=("kid_full",), seed=3)
    generated = to_float(torch.from_numpy(to_uint8(samples(Toy(), 50, seed=3))))
    real = to_float(torch.from_numpy(REFERENCE))
    expected = kernel_distance_full(*(Averages()(x).double().numpy() for x in (real, generated)))
    assert measure(Toy()) == {"kid_full": pytest.approx(expected, rel=1e-6)}


def test_results_depend_on_the_seed_not_on_the_batch() -> None:
    first = evaluator(batch=64)(Toy())
    assert evaluator(batch=7)(Toy()) == pytest.approx(first)
    assert evaluator(batch=64)(Toy()) == first
    assert evaluator(seed=1)(Toy()) != pytest.approx(first)


def test_a_perfect_generator_and_worse_ones() -> None:
    measure = evaluator(samples=60, metrics=("kid_full", "fid", "recall", "precision"))
    perfect, copies = measure(Replay(REFERENCE)), measure(Replay(REFERENCE[:3]))
    assert perfect["precision"] == perfect["recall"] == 1
    assert perfect["fid"] == pytest.approx(0, abs=1e-9)
    assert perfect["kid_full"] < 0
    assert copies["precision"] == 1
    assert copies["recall"] < 0.2
    assert copies["kid_full"] > 0
    assert copies["fid"] > measure(Replay(REFERENCE[:30]))["fid"] > 0.01


def test_reference_features_are_computed_once_and_kept(tmp_path: Path) -> None:
    features = Averages()
    first = evaluator(features=features, cache=tmp_path / "new")
    assert features.seen == 60
    value = first(Toy())
    first(Toy())
    assert features.seen == 160
    again = Averages()
    second = evaluator(features=again, cache=tmp_path / "new", batch=7)
    assert again.seen == 0
    assert np.array_equal(second.reference, first.reference)
    assert second(Toy()) == pytest.approx(value)


def test_the_cache_knows_pixels_and_network(tmp_path: Path) -> None:
    changed = REFERENCE.copy()
    changed[17, 3, 2, 1] ^= 1
    for reference, digest in ((REFERENCE, "a"), (changed, "a"), (REFERENCE, "b"), (REFERENCE[::-1], "a")):
        features = Averages(digest)
        evaluator(reference, features=features, cache=tmp_path)
        assert features.seen == 60
    assert len(list(tmp_path.iterdir())) == 4


def test_a_damaged_cache_is_mended(tmp_path: Path) -> None:
    expected = evaluator(cache=tmp_path).reference
    (file,) = tmp_path.iterdir()
    for damage in (b"", b"no array", file.read_bytes()[:200]):
        file.write_bytes(damage)
        features = Averages()
        assert np.array_equal(evaluator(features=features, cache=tmp_path).reference, expected)
        assert features.seen == 60
        assert [file] == list(tmp_path.iterdir())


def test_a_memory_map_and_indices(tmp_path: Path) -> None:
    np.save(tmp_path / "pixels.npy", REFERENCE)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    rows = np.arange(0, 60, 2)
    expected = evaluator(REFERENCE[rows]).reference
    assert np.array_equal(evaluator(mapped, indices=rows, cache=tmp_path / "cache").reference, expected)
    wide = evaluator(REFERENCE.astype(np.uint16) * 257, indices=rows).reference
    np.testing.assert_allclose(wide, expected, atol=1e-6)


@pytest.mark.parametrize(
    "options, says",
    [
        ({"metrics": ("kid", "is")}, "'is': choose from kid, "),
        ({"features": "vgg"}, "'vgg': choose one of efficientnet-lite0"),
        ({"samples": 9}, "9 samples .* at least 10"),
        ({"batch": 0}, "batches of 0"),
    ],
)
def test_bad_configs_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(FruganError, match=says):
        EvaluateConfig(**options)


def test_too_small_a_reference_is_refused() -> None:
    with pytest.raises(FruganError, match="9 reference pictures"):
        evaluator(REFERENCE[:9])


@pytest.mark.parametrize("name", METRICS)
def test_the_fewest_samples_are_enough_for_every_metric(name: str) -> None:
    values = evaluator(REFERENCE[:10], samples=10, metrics=(name,))(Toy())
    assert np.isfinite(values[name])


def test_with_the_default_network(device: torch.device) -> None:
    measure = Evaluator(REFERENCE[:20], EvaluateConfig(samples=10, metrics=("fid", "kid")), device=device)
    assert measure(small_generator().to(device))["fid"] > 0
