"""The evaluator: its numbers against direct computation, whatever batch, device and number of processes."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from frugan.errors import FruganError
from frugan.images import to_float, to_uint8
from frugan.label_parts import LabelPart
from frugan.metrics import (
    METRICS,
    EvaluateConfig,
    EvaluationCard,
    Evaluator,
    ImageScore,
    ImageSet,
    UtilityConfig,
    authenticity,
    data_copying,
    feature_likelihood,
    held_out,
    kernel_distance_full,
    membership_attack,
    nearest,
    sample_images,
)
from frugan.networks import Generator, GeneratorConfig, SynthesisConfig

REFERENCE = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _quick_utility(monkeypatch: pytest.MonkeyPatch) -> None:
    make_utility_quick(monkeypatch)


def make_utility_quick(patch: pytest.MonkeyPatch) -> None:
    quick = UtilityConfig(seeds=1, steps=25, batch=16, learning_rate=0.01)
    patch.setattr(held_out, "utility", partial(held_out.utility, config=quick))


class Toy:
    """Generator-shaped: the latent (and label) paints the image, over noise. It has no `draw_noise`."""

    z_dim = 3 * 8 * 8

    def __init__(self, label_size: int = 0, scale: float = 0.5) -> None:
        self.label_size, self.scale = label_size, scale

    def mapping(self, z: Tensor, c: Tensor | None, truncation: float = 1.0) -> Tensor:
        z = z * truncation
        assert (c is None) == (self.label_size == 0)
        return z if c is None else z * 0 + c[:, :1]

    def synthesis(self, ws: Tensor, *, noise: str, generator: torch.Generator) -> Tensor:
        assert noise == "random"
        grain = torch.randn(len(ws), 3, 8, 8, generator=generator)
        return self.scale * ws.reshape(-1, 3, 8, 8) + 0.1 * grain


class Replay:
    """Generates the given images in turn."""

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
    preprocessing = "none"

    def __init__(self, digest: str = "a") -> None:
        self.digest, self.seen = digest, 0
        self.classify = lambda features: np.asarray(features, np.float64)[:, :5] * 4

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


CONFIG = EvaluateConfig.__dataclass_fields__


def evaluator(reference: np.ndarray = REFERENCE, rows: np.ndarray | None = None, **options: Any) -> Evaluator:
    config = EvaluateConfig(
        **{"samples": 50, **{key: options.pop(key) for key in list(options) if key in CONFIG and key != "features"}}
    )
    return Evaluator(ImageSet(reference, rows), config, **{"features": Averages(), **options})


def values(measure: Evaluator, generator: Any) -> dict[str, float]:
    return measure(generator).values


def samples(generator: Any, n: int = 10, **options: Any) -> Tensor:
    return torch.cat([images for images, _ in sample_images(generator, range(n), **options)])


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
    assert len({tuple(four) for four in drawn.reshape(-1, 4).tolist()}) > 4  # not the rows in turn


@pytest.mark.parametrize("labels", [None, np.zeros((4, 3), np.float32), np.zeros((0, 2), np.float32)])
def test_missing_labels_are_named(labels: np.ndarray | None) -> None:
    with pytest.raises(FruganError, match="needs labels of size 2"):
        samples(Toy(label_size=2), labels=labels)


TRAIN = ImageSet(
    np.random.default_rng(1).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8), names=[f"{i}.png" for i in range(40)]
)


def test_every_metric_is_given_as_asked() -> None:
    """Whatever stands beside it; of membership the attacks that there are scores for, of usefulness what labels allow."""
    generator = Toy()
    names = tuple(name for name in METRICS if name != "utility")  # which needs labels, see below
    found = values(evaluator(metrics=names, train=TRAIN), generator)
    without = {f"membership_{name}{n}" for name in ("discriminator", "reconstruction") for n in ("", "_tpr")}
    assert set(found) == {number for name in names for number in METRICS[name].names} - without
    assert set(names) <= set(found)
    assert all(np.isfinite(value) for value in found.values())
    for name in names:
        alone = values(evaluator(metrics=(name,), train=TRAIN), generator)
        assert alone == {key: pytest.approx(found[key]) for key in METRICS[name].names if key not in without}


def test_the_number_is_that_of_the_parts() -> None:
    """Images pass through uint8, features and distance, and nothing else."""
    measure = evaluator(metrics=("kid_full",), seed=3)
    generated = to_float(torch.from_numpy(to_uint8(samples(Toy(), 50, seed=3))))
    real = to_float(torch.from_numpy(REFERENCE))
    expected = kernel_distance_full(*(Averages()(x).double().numpy() for x in (real, generated)))
    assert values(measure, Toy()) == {"kid_full": pytest.approx(expected, rel=1e-6)}


def test_results_depend_on_the_seed_not_on_the_batch() -> None:
    first = values(evaluator(batch=64), Toy())
    assert values(evaluator(batch=7), Toy()) == pytest.approx(first)
    assert values(evaluator(batch=64), Toy()) == first
    assert values(evaluator(seed=1), Toy()) != pytest.approx(first)


def test_a_perfect_generator_and_worse_ones() -> None:
    measure = evaluator(samples=60, metrics=("kid_full", "fid", "recall", "precision"))
    perfect, copies = values(measure, Replay(REFERENCE)), values(measure, Replay(REFERENCE[:3]))
    assert perfect["precision"] == perfect["recall"] == 1
    assert perfect["fid"] == pytest.approx(0, abs=1e-9)
    assert perfect["kid_full"] < 0
    assert copies["precision"] == 1
    assert copies["recall"] < 0.2
    assert copies["kid_full"] > 0
    assert copies["fid"] > values(measure, Replay(REFERENCE[:30]))["fid"] > 0.01


def test_reference_features_are_computed_once_and_kept(tmp_path: Path) -> None:
    features = Averages()
    first = evaluator(features=features, cache=tmp_path / "new")
    assert features.seen == 60
    value = values(first, Toy())
    first(Toy())
    assert features.seen == 160
    again = Averages()
    second = evaluator(features=again, cache=tmp_path / "new", batch=7)
    assert again.seen == 0
    assert np.array_equal(second.real.features, first.real.features)
    assert values(second, Toy()) == pytest.approx(value)


def test_the_cache_knows_pixels_and_network(tmp_path: Path) -> None:
    changed = REFERENCE.copy()
    changed[17, 3, 2, 1] ^= 1
    for reference, digest in ((REFERENCE, "a"), (changed, "a"), (REFERENCE, "b"), (REFERENCE[::-1], "a")):
        features = Averages(digest)
        evaluator(reference, features=features, cache=tmp_path)
        assert features.seen == 60
    assert len(list(tmp_path.iterdir())) == 4


def test_a_damaged_cache_is_mended(tmp_path: Path) -> None:
    expected = evaluator(cache=tmp_path).real.features
    (file,) = tmp_path.iterdir()
    shorter = tmp_path.with_suffix(".npy")
    np.save(shorter, expected[:30])
    for damage in (b"", b"no array", file.read_bytes()[:200], shorter.read_bytes()):
        file.write_bytes(damage)
        features = Averages()
        assert np.array_equal(evaluator(features=features, cache=tmp_path).real.features, expected)
        assert features.seen == 60
        assert [file] == list(tmp_path.iterdir())


def test_a_memory_map_and_indices(tmp_path: Path) -> None:
    np.save(tmp_path / "pixels.npy", REFERENCE)
    mapped = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    rows = np.arange(0, 60, 2)
    expected = evaluator(REFERENCE[rows]).real.features
    assert np.array_equal(evaluator(mapped, rows=rows, cache=tmp_path / "cache").real.features, expected)
    wide = evaluator(REFERENCE.astype(np.uint16) * 257, rows=rows).real.features
    np.testing.assert_allclose(wide, expected, atol=1e-6)


@pytest.mark.parametrize(
    "options, says",
    [
        ({"metrics": ("kid", "lpips")}, "'lpips': choose from kid, "),
        ({"features": "vgg"}, "'vgg': choose one of efficientnet-lite0"),
        ({"metrics": ()}, "choose from kid"),
        ({"features": "inception", "mean": (0, 0, 0)}, "normalisation of its own"),
        ({"features": "net.onnx", "input_size": 32}, "all three"),
        ({"features": "a:b", "input_size": 32, "mean": (0, 0, 0), "std": (1, 0, 1)}, "above 0"),
        ({"samples": 9}, "--samples 9: give a whole number from 10"),
        ({"batch": 0}, "--batch 0"),
    ],
)
def test_bad_configs_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(FruganError, match=says):
        EvaluateConfig(**options)


def test_too_small_a_reference_is_refused() -> None:
    with pytest.raises(FruganError, match="9 reference images"):
        evaluator(REFERENCE[:9])


@pytest.mark.parametrize("name", [name for name in METRICS if name != "utility"])
def test_the_fewest_samples_are_enough_for_every_metric(name: str) -> None:
    found = values(evaluator(REFERENCE[:10], samples=10, metrics=(name,), train=TRAIN), Toy())
    assert np.isfinite(found[name])


def test_with_the_default_network(device: torch.device) -> None:
    config = EvaluateConfig(samples=10, metrics=("fid", "kid", "is"))
    measure = Evaluator(ImageSet(REFERENCE[:20]), config, device=device)
    found = values(measure, small_generator().to(device))
    assert found["fid"] > 0
    assert 1 <= found["is"] < 1000


def test_features_are_not_kept_unless_a_metric_holds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """FID alone goes by moments, batch by batch; with KID beside it the same number comes from the features."""
    alone = values(evaluator(metrics=("fid",), batch=7), Toy())["fid"]
    both = values(evaluator(metrics=("kid", "fid")), Toy())["fid"]
    assert alone == pytest.approx(both, rel=1e-9)
    seen: list[int] = []
    monkeypatch.setattr(
        "frugan.metrics.evaluator._join", lambda parts: seen.append(len(parts)) or np.concatenate(parts)
    )
    measure = evaluator(metrics=("fid",), batch=7)
    del seen[:]
    measure(Toy())
    assert seen == []


def test_truncation_reaches_the_mapping() -> None:
    wide, narrow = (samples(Toy(), 50, truncation=t).std().item() for t in (1.0, 0.2))
    assert narrow < 0.5 * wide
    assert values(evaluator(truncation=0.2), Toy()) != values(evaluator(), Toy())


def test_samples_may_be_taken_in_any_order() -> None:
    generator = small_generator()
    images = samples(generator)
    some = torch.cat([x for x, _ in sample_images(generator, [7, 2, 5])])
    torch.testing.assert_close(some, images[[7, 2, 5]], rtol=1e-4, atol=1e-5)


def test_x_flipped_copies() -> None:
    image_set = ImageSet(REFERENCE, np.array([3, 63]), names=[str(i) for i in range(60)])
    assert np.array_equal(image_set[:][1], REFERENCE[3][:, ::-1])
    assert [image_set.name(i) for i in range(2)] == ["3", "3 (mirrored)"]


def test_memorisation_is_found_where_it_was_simulated() -> None:
    """Half of what is generated are training images (seen in a mirror): named, and shown beside them."""
    train = ImageSet(TRAIN.pixels, np.arange(80), names=TRAIN.names)
    held_out = np.random.default_rng(2).integers(0, 256, (300, 8, 8, 3), dtype=np.uint8)
    fresh = np.random.default_rng(3).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    copies = np.concatenate([TRAIN.pixels[:, :, ::-1], fresh])
    measure = evaluator(held_out, metrics=("memorisation",), samples=80, train=train)
    found = measure(Replay(copies))
    assert found.values["copied"] == pytest.approx(0.5, abs=0.05)
    assert found.values["memorisation"] > 0.7
    honest = values(measure, Replay(np.random.default_rng(4).integers(0, 256, (80, 8, 8, 3), dtype=np.uint8)))
    assert honest["copied"] < 0.06
    assert honest["memorisation"] == pytest.approx(0.5, abs=0.1)
    assert len(found.nearest) == 8
    for entry in found.nearest:
        assert entry["names"][0] == f"{entry['sample']}.png (mirrored)"
        assert entry["distances"] == sorted(entry["distances"])
        assert entry["distances"][0] == pytest.approx(0, abs=1e-2)
    with pytest.raises(FruganError, match="hold some out"):
        evaluator(metrics=("memorisation",))


def test_the_sheet_of_neighbours() -> None:
    train = ImageSet(TRAIN.pixels)
    measure = evaluator(metrics=("memorisation",), train=train)
    generator = Toy()
    card = measure(generator)
    sheet = measure.nearest_sheet(generator, card)
    assert sheet.shape == (8 * 8, 8 * 6, 3)
    entry = card.nearest[2]
    ((image, _),) = sample_images(generator, [entry["sample"]])
    assert np.array_equal(sheet[16:24, :8], to_uint8(image)[0])
    assert np.array_equal(sheet[16:24, 8:16], TRAIN.pixels[entry["positions"][0]])


def test_metrics_for_each_class() -> None:
    """Class 1 is painted white, class 0 varies like the reference of its own: only one of the two is bad."""
    labels = np.eye(2, dtype=np.float32)[np.arange(60) % 2]

    class TwoKinds(Toy):
        def synthesis(self, ws: Tensor, *, noise: str, generator: torch.Generator) -> Tensor:
            if ws[0, 0] == 0:
                return torch.ones(1, 3, 8, 8)
            return torch.rand(len(ws), 3, 8, 8, generator=generator) * 2 - 1

    config = EvaluateConfig(metrics=("kid_full", "coverage"), samples=200, per_class=True)
    reference = ImageSet(REFERENCE, labels=labels, class_names=["alive", "white"])
    card = Evaluator(reference, config, labels=labels, features=Averages())(TwoKinds(2))  # pyright: ignore[reportArgumentType]
    assert list(card.per_class) == ["alive", "white"]  # the classes' own order
    assert card.per_class["alive"]["kid_full"] < 0.01 < card.values["kid_full"] < card.per_class["white"]["kid_full"]
    with pytest.raises(FruganError, match="conditional generator"):
        evaluator(per_class=True)
    with pytest.raises(FruganError, match="one class per image"):
        Evaluator(ImageSet(REFERENCE, labels=labels + 0.5), config, labels=labels + 0.5, features=Averages())  # pyright: ignore[reportArgumentType]


def test_the_card_says_how(tmp_path: Path) -> None:
    card = evaluator(seed=3, truncation=0.7)(small_generator())
    assert card.protocol["reference_count"] == 60
    assert card.protocol["samples"] == 50
    assert card.protocol["truncation"] == 0.7
    assert card.subject["seed"] == 3
    assert card.conditions["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert EvaluationCard.load(card.save(tmp_path / "new" / "card.json")) == card
    again = evaluator(seed=3, truncation=0.7)(small_generator())
    assert (again.values, again.protocol, again.subject) == (card.values, card.protocol, card.subject)
    other = REFERENCE.copy()
    other[0, 0, 0, 0] ^= 1
    assert evaluator(other)(small_generator()).protocol["reference"] != card.protocol["reference"]


def test_progress_is_told() -> None:
    heard: list[tuple[int, int]] = []
    evaluator(batch=20)(Toy(), lambda done, total: heard.append((done, total)))
    assert heard == [(20, 50), (40, 50), (50, 50)]


PARTS = [LabelPart("", range(2), ["dark", "bright"])]


def brightness(image: np.ndarray) -> float:
    return float(image.mean())


def shades(n: int, seed: int) -> ImageSet:
    """Two classes, which brightness tells."""
    labels = np.eye(2, dtype=np.float32)[np.arange(n) % 2]
    pixels = np.random.default_rng(seed).integers(0, 120, (n, 8, 8, 3), dtype=np.uint8)
    return ImageSet(pixels + (120 * (np.arange(n) % 2))[:, None, None, None].astype(np.uint8), labels=labels)


def held_out_evaluator(reference: ImageSet | None = None, train: ImageSet | None = None, **options: Any) -> Evaluator:
    """All measurements that need held-out images, of 51 samples, with an attack that knows the first pixel."""
    attack = ImageScore(lambda pixels, labels: pixels[:, 0, 0, 0] + np.zeros(len(pixels)), most=20)
    fields = {"samples": 51, "metrics": HELD_OUT, "statistics": (f"{__name__}:brightness",)}
    fields |= {key: options.pop(key) for key in list(options) if key in CONFIG}
    train = shades(40, 1) if train is None else train
    return Evaluator(
        reference or shades(60, 0),
        EvaluateConfig(**fields),
        train=train if len(train) else None,
        labels=train.labels if len(train) else np.eye(2, dtype=np.float32),
        parts=PARTS,
        features=Averages(),  # pyright: ignore[reportArgumentType]
        attacks={"discriminator": attack},
        untried={"reconstruction": "nobody asked"},
        **{"partial": True, **options},
    )


HELD_OUT = ("kid", "memorisation", "c_t", "authenticity", "fld", "membership", "utility")


def test_held_out_metrics_are_those_of_the_parts() -> None:
    """The card's numbers against the functions, on the features and pixels of the same samples."""
    card = held_out_evaluator()(small_generator(2))
    real, train = shades(60, 0), shades(40, 1)
    made = to_uint8(samples(small_generator(2), 51, labels=train.labels))
    q, t, p = (Averages()(to_float(torch.from_numpy(x))).numpy() for x in (made, train.pixels, real.pixels))
    assert card.values["c_t"] == pytest.approx(data_copying(q, p, t).c_t)
    assert card.values["authenticity"] == pytest.approx(authenticity(q, t, p).generated.value)
    assert card.values["fld"] == pytest.approx(feature_likelihood(q, t, p).fld.value, rel=1e-4)
    near = [-nearest(x, q)[0][:, 0] for x in (t, p)]
    assert card.values["membership_distance"] == pytest.approx(membership_attack(*near).auc.value)
    told = card.details["membership"]["discriminator"]
    assert (told["members"], told["non_members"]) == (20, 20)
    assert card.values["membership"] == max(card.values["membership_distance"], card.values["membership_discriminator"])
    assert card.values["utility_real"] > 0.95
    assert card.details["utility"]["label"]["count"] == 40
    assert card.missing == {"membership by reconstruction": "nobody asked"}
    found = card.details["statistics"][f"{__name__}:brightness"]
    assert found["real_mean"] == pytest.approx(real.pixels.mean())  # pyright: ignore[reportAttributeAccessIssue]
    assert found["generated_mean"] == pytest.approx(made.mean())
    distances = nearest(p, t)[0][:, 0]
    assert card.nearest[0]["unseen_as_near"] == (distances <= nearest(q, t)[0].min()).mean()
    assert json.loads(json.dumps(asdict(card)))["details"].keys() == card.details.keys()


def test_batches_change_nothing() -> None:
    first, second = (held_out_evaluator(batch=batch)(small_generator(2)) for batch in (64, 7))
    assert second.values == pytest.approx(first.values, rel=1e-4)
    assert second.details["membership"] == first.details["membership"]


def test_what_cannot_be_computed_is_named_and_the_rest_is_given() -> None:
    nothing = shades(0, 1)
    card = held_out_evaluator(train=nothing)(small_generator(2))
    assert set(card.values) == {"kid", "kid_std"}
    assert set(card.missing) == set(HELD_OUT) - {"kid"}
    assert all("hold some out" in why for why in card.missing.values())
    one_class = shades(60, 0)
    one_class.labels[:] = [1, 0]
    few = held_out_evaluator(reference=one_class)(small_generator(2))
    assert "one class only" in few.missing["utility"]
    assert {"c_t", "fld", "membership"} <= set(few.values)
    seven = ImageSet(shades(60, 0).pixels, rows=np.arange(11), labels=shades(60, 0).labels)
    tiny = held_out_evaluator(reference=seven, train=ImageSet(shades(7, 1).pixels, labels=shades(7, 1).labels))
    found = tiny(small_generator(2))
    assert "7 training" in found.missing["fld"]
    assert "7 members" in found.missing["membership"]
    assert "memorisation" in found.values
    with pytest.raises(FruganError, match="hold some out"):
        held_out_evaluator(train=nothing, metrics=("c_t", "fld"))
    with pytest.raises(FruganError, match="hold some out"):
        held_out_evaluator(train=nothing, partial=False)
    with pytest.raises(FruganError, match="7 training"):
        held_out_evaluator(train=shades(7, 1), metrics=("fld",))(small_generator(2))
    unlabelled = held_out_evaluator(reference=ImageSet(shades(60, 0).pixels))(small_generator(2))
    assert "must share" in unlabelled.missing["utility"]


def test_groups_on_both_sides_are_no_control() -> None:
    """Held-out images of a film that was trained on are left out of it; where none is left, copying is not measured."""
    reference, train = shades(60, 0), shades(40, 1)
    films = np.array([f"film {i // 5}" for i in range(60)])
    seen = np.array(["film 0", "film 1", *[f"elsewhere {i // 2}" for i in range(38)]])
    pixels = reference.pixels.copy()  # pyright: ignore[reportAttributeAccessIssue]
    pixels[:10] = train.pixels[:10]  # frames as good as trained on
    grouped = [
        ImageSet(x, labels=y.labels, groups=g) for x, y, g in ((pixels, reference, films), (train.pixels, train, seen))
    ]
    card = held_out_evaluator(*grouped)(small_generator(2))
    assert card.protocol["control_count"] == 50
    assert card.details["membership"]["distance"]["non_members"] == 50
    cut = ImageSet(pixels, rows=np.arange(10, 60), labels=reference.labels, groups=films)
    without = held_out_evaluator(cut, grouped[1])(small_generator(2))
    for name in ("c_t", "fld", "authenticity_unseen", "membership_distance", "utility_real"):
        assert card.values[name] == pytest.approx(without.values[name]), name
    assert card.values["kid"] != without.values["kid"]
    all_seen = ImageSet(pixels, labels=reference.labels, groups=np.repeat("film 0", 60))
    found = held_out_evaluator(all_seen, grouped[1])(small_generator(2))
    assert set(found.values) == {"kid", "kid_std"}
    statistic = found.missing.pop(f"statistic {__name__}:brightness")
    assert statistic.startswith("1 images or groups cannot be halved")
    assert all("hold out whole groups" in why for why in found.missing.values())
    halves = held_out_evaluator(all_seen, grouped[1], intervals=True)(small_generator(2))
    assert "cannot be halved" in halves.missing["interval of kid"]
    assert "cannot be halved" in halves.missing["floor of kid"]
    assert halves.intervals == halves.floor == {}


def test_mirrored_copies_are_one_image() -> None:
    """An x-flipped copy of the nearest training image is no other image; attacks ask for each image once."""
    train = shades(40, 1)
    mirrored = ImageSet(train.pixels, rows=np.arange(80), labels=train.labels)
    pixels = mirrored[np.arange(40)]
    symmetric = ImageSet(
        np.concatenate([pixels[:, :, :4], pixels[:, :, :4][:, :, ::-1]], axis=2), np.arange(80), train.labels
    )
    once = ImageSet(symmetric.pixels, np.arange(40), train.labels)
    found, expected = (held_out_evaluator(train=x)(small_generator(2)) for x in (symmetric, once))
    assert found.values["authenticity"] == pytest.approx(expected.values["authenticity"])
    assert found.details["membership"]["distance"]["members"] == 40


def test_intervals_and_floors_are_on_the_card(tmp_path: Path) -> None:
    names = ("kid", "recall", "coverage", "fid", "fid_infinity")
    card = evaluator(metrics=names, intervals=True)(small_generator())
    numbers = {"kid", "precision", "recall", "density", "coverage", "fid_infinity"}
    assert set(card.intervals) == numbers
    assert set(card.floor) == numbers | {"fid"}
    for name, (median, lowest, highest) in card.floor.items():
        assert lowest <= median <= highest, name
    assert 0 < card.floor["fid"][2] < card.values["fid"]
    assert card.intervals["kid"][0] < card.values["kid"] < card.intervals["kid"][1]
    assert abs(card.floor["kid"][0]) < abs(card.values["kid"])
    assert evaluator(metrics=names[:4])(small_generator()).intervals == {}
    assert EvaluationCard.load(card.save(tmp_path / "card.json")) == card


def _measure_together(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    with pytest.MonkeyPatch.context() as patch:
        make_utility_quick(patch)
        for name, card in measured_in_parts(Path(folder) / "cache").items():
            card.save(Path(folder) / f"{name}-{rank}.json")
    torch.distributed.destroy_process_group()


def measured_in_parts(cache: Path) -> dict[str, EvaluationCard]:
    options: dict[str, Any] = {"samples": 51, "batch": 8}
    return {
        "sets": evaluator(metrics=("kid", "fid", "ppl_w_end"), cache=cache, **options)(small_generator()),
        "moments": evaluator(metrics=("fid",), **options)(small_generator()),
        "held-out": held_out_evaluator(intervals=True, batch=8)(small_generator(2)),
        "masks": mask_evaluator(batch=8)(small_generator()),
    }


def test_several_processes_give_the_result_of_one(tmp_path: Path) -> None:
    """To the last bit, but for sums of moments; networks for usefulness are trained in parts, too."""
    torch.multiprocessing.start_processes(
        _measure_together, args=(2, str(tmp_path)), nprocs=2, start_method="forkserver"
    )
    for name, one in measured_in_parts(tmp_path / "other").items():
        for rank in range(2):
            card = EvaluationCard.load(tmp_path / f"{name}-{rank}.json")
            assert card.values == (pytest.approx(one.values, rel=1e-9) if name == "moments" else one.values)
            assert (card.intervals, card.floor, card.nearest) == (one.intervals, one.floor, one.nearest)
            assert card.details == json.loads(json.dumps(one.details))
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_each_number_has_an_interval_or_a_reason_why_not() -> None:
    """But for those that are a scatter themselves."""
    names = tuple(name for name in METRICS if name != "is")
    card = held_out_evaluator(metrics=names, intervals=True)(small_generator(2))
    reasons = {name.removeprefix("interval of ") for name in card.missing if name.startswith("interval of")}
    scatter = {name for name in card.values if name.endswith(("_std", "_error"))}
    assert set(card.values) == set(card.intervals) | reasons | scatter
    assert reasons == {"fid", "membership"}
    for name, (low, high) in card.intervals.items():
        assert low <= card.values[name] <= high, name


class Painted:
    """Of a generator's images bright pixels are the object; the mask is the last channel."""

    def __init__(self, generator: Generator, *, inverted: bool = False) -> None:
        self.generator, self.sign = generator, -1 if inverted else 1
        self.z_dim, self.label_size, self.mapping = generator.z_dim, generator.label_size, generator.mapping

    def synthesis(self, ws: Tensor, **options: Any) -> Tensor:
        images = self.generator.synthesis(ws, **options)
        return torch.cat([images, self.sign * images[:, :1].sign()], 1)


def with_masks(n: int, seed: int) -> ImageSet:
    """The same of noise: pixels whose red is above the middle."""
    pixels = np.random.default_rng(seed).integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)
    masks = np.where(pixels[..., :1] > 127, 255, 0).astype(np.uint8)
    return ImageSet(np.concatenate([pixels, masks], 3), channels=3, mask_values=[2])


def mask_evaluator(*, inverted: bool = False, **options: Any) -> Evaluator:
    config = EvaluateConfig(metrics=("kid", "utility"), samples=51, **options)
    pairs: Any = Painted(small_generator(), inverted=inverted)
    features: Any = Averages()
    return Evaluator(with_masks(60, 0), config, train=with_masks(40, 1), pairs=pairs, features=features, partial=True)


def test_masks_are_a_task_of_usefulness() -> None:
    """Masks that fit their images serve, inverted ones do not; the image's channels alone are seen."""
    fitting, inverted = (mask_evaluator(inverted=wrong)(small_generator()) for wrong in (False, True))
    for card in (fitting, inverted):
        task = card.details["utility"]["mask"]
        assert (task["kind"], task["score"], task["count"]) == ("mask", "intersection over union", 40)
        assert card.values["utility_real"] > 0.6
    assert inverted.values["utility_synthetic"] < 0.35 < 0.5 < fitting.values["utility_synthetic"]
    assert fitting.values["kid"] == inverted.values["kid"]
    other = Evaluator(
        ImageSet(with_masks(60, 0).pixels[..., :3]),
        EvaluateConfig(metrics=("kid", "utility"), samples=51),
        train=with_masks(40, 1),
        pairs=Painted(small_generator()),  # pyright: ignore[reportArgumentType]
        features=Averages(),  # pyright: ignore[reportArgumentType]
        partial=True,
    )
    assert "must share" in other(small_generator()).missing["utility"]


class Deep:
    """Generator-shaped: images that differ from grey by less than a level of 8 bits."""

    z_dim, label_size = 4, 0

    def __init__(self, channels: int) -> None:
        self.channels = channels

    def mapping(self, z: Tensor, c: Tensor | None, truncation: float = 1.0) -> Tensor:
        return z

    def synthesis(self, ws: Tensor, *, noise: str, generator: torch.Generator) -> Tensor:
        return (0.001 * ws.clamp(-3, 3).mean(1)[:, None, None, None]).expand(-1, self.channels, 8, 8)


@pytest.mark.parametrize(
    ("channels", "dtype"), [(1, np.uint16), (3, np.uint16), (5, np.uint16), (3, np.uint8), (5, np.uint8)]
)
def test_samples_are_compared_at_the_depth_of_the_reference(channels: int, dtype: Any) -> None:
    """What 8 bits cannot tell apart counts where the reference has 16; the card says what was reduced."""
    seen: list[Tensor] = []

    class Seeing(Averages):
        def __call__(self, images: Tensor) -> Tensor:
            seen.append(images)
            return super().__call__(images[:, :1].expand(-1, 3, -1, -1))

    reference = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (40, 8, 8, channels), dtype, endpoint=True)
    measure = evaluator(reference, features=Seeing())
    seen.clear()
    card = measure(Deep(channels))
    levels = len(torch.cat(seen)[:, 0, 0, 0].unique())
    assert levels > 20 if dtype == np.uint16 else levels <= 2
    assert card.protocol.get("depth") == (16 if dtype == np.uint16 else None)
    assert card.protocol.get("seen") == ("the first 3 of 5 channels" if channels == 5 else None)
