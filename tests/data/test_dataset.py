"""What training sees: images, flips, labels, the split, and the errors on the way there."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from frugan.data import DataConfig, draw_labels, open_dataset
from frugan.data.dataset import Dataset, untrained_warning
from frugan.data.store import split
from frugan.errors import FruganError
from tests.program import SMALL_NETWORKS, call

NAMES = [f"{'ab'[i % 3 == 0]}/{i:02d}.png" for i in range(30)]  # 20 of class a, 10 of class b


@pytest.fixture
def config(tmp_path: Path, make_images) -> DataConfig:
    make_images(tmp_path / "set", NAMES)
    return DataConfig(str(tmp_path / "set"))


def test_images_are_scaled_pixels(config: DataConfig, device: torch.device) -> None:
    data = open_dataset(replace(config, labels="folders"))
    indices = np.array([4, 0, 29, 4])
    images, labels = data.images(indices, device=device)
    assert images.dtype == labels.dtype == torch.float32
    assert images.device.type == device.type
    expected = data.pixels[indices].transpose(0, 3, 1, 2) / 127.5 - 1
    np.testing.assert_allclose(images.cpu(), expected, atol=1e-6)
    np.testing.assert_array_equal(labels.cpu(), data.labels[indices])
    assert data.resolution == (8, 8)
    assert (data.channels, data.label_size, len(data)) == (3, 2, 30)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(6, 8, 1), (8, 8, 3), (8, 6, 5)])
def test_flips_and_residence(dtype: type, shape: tuple, tmp_path: Path, noise, device: torch.device) -> None:
    pixels = noise(7, *shape, dtype=dtype)
    np.save(tmp_path / "set.npy", pixels)
    data = open_dataset(DataConfig(str(tmp_path / "set.npy"), resolution=shape[:2], mirror=True))
    indices = np.array([0, 7, 13, 6, 10, 3])
    images, labels = data.images(indices, device=device)
    assert labels.shape == (6, 0)
    every = np.concatenate([pixels, pixels[:, :, ::-1]]).astype(np.float64)
    expected = every[indices].transpose(0, 3, 1, 2) / (np.iinfo(dtype).max / 2) - 1
    np.testing.assert_allclose(images.cpu(), expected, atol=1e-6)
    assert not data.resident(device, limit_bytes=pixels.nbytes - 1)
    assert data.resident(device, limit_bytes=pixels.nbytes)
    torch.testing.assert_close(data.images(indices, device=device)[0], images, rtol=0, atol=0)
    with pytest.raises(IndexError, match="0 to 13"):
        data.images(np.array([14]))


def test_nothing_is_resident_on_the_cpu_by_itself(config: DataConfig) -> None:
    assert not open_dataset(config).resident("cpu")


def test_opening_twice_gives_the_same(config: DataConfig) -> None:
    first, second = open_dataset(config), open_dataset(config)
    assert first.fingerprint == second.fingerprint
    np.testing.assert_array_equal(first.pixels, second.pixels)


@pytest.mark.parametrize(
    "change", [{"labels": "folders"}, {"mirror": True}, {"held_out": 3}, {"channels": "L"}, {"resolution": (6, 6)}]
)
def test_the_fingerprint_covers(change: dict, config: DataConfig) -> None:
    assert open_dataset(replace(config, **change)).fingerprint != open_dataset(config).fingerprint


HELD_OUT = {0: 0, 0.1: 3, 0.01: 1, 1: 1, 7: 7, 29: 29}


@pytest.mark.parametrize(("held_out", "count"), HELD_OUT.items())
def test_split(held_out: float, count: int, config: DataConfig) -> None:
    data = open_dataset(replace(config, held_out=held_out))
    assert len(data.held_out_indices) == count
    assert data.train_indices.dtype == data.held_out_indices.dtype == np.int64
    assert sorted([*data.train_indices, *data.held_out_indices]) == list(range(30))
    assert set(data.sampler().next(200)) == set(data.train_indices)


def test_the_split_depends_on_names_and_seed_only(config: DataConfig) -> None:
    base = replace(config, held_out=8)
    held = open_dataset(base).held_out_indices
    for change in ({"mirror": True}, {"channels": "L"}, {"resolution": (6, 8)}):
        np.testing.assert_array_equal(open_dataset(replace(base, **change)).held_out_indices, held)
    assert list(open_dataset(replace(base, held_out_seed=1)).held_out_indices) != list(held)
    smaller = open_dataset(replace(base, held_out=5)).held_out_indices
    assert set(smaller) < set(held)


def test_each_class_gives_its_share(config: DataConfig) -> None:
    """20 of class a, 10 of b: whatever else is asked for, and a smaller part within a larger one."""
    before: set[int] = set()
    for count in range(1, 30):
        base = replace(config, held_out=count, labels="folders")
        data = open_dataset(base)
        held = data.labels[data.held_out_indices].sum(0)
        assert held.sum() == count
        assert abs(held - count * np.array([2, 1]) / 3).max() < 1
        assert before < set(data.held_out_indices.tolist())
        before = set(data.held_out_indices.tolist())
        if count == 7:
            for change in ({"mirror": True}, {"balanced": True}, {"channels": "L"}, {"resolution": (6, 8)}):
                assert set(open_dataset(replace(base, **change)).held_out_indices.tolist()) == before
            assert set(open_dataset(replace(base, held_out_seed=1)).held_out_indices.tolist()) != before


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=60), st.floats(0.01, 0.99), st.integers(0, 3))
def test_shares_are_rounded_at_one_half(classes: list[int], share: float, seed: int) -> None:
    """For a share s, round(s · size) of every class are held out (Webster's rule); classes that are alike are split by names."""
    kinds = np.array(classes)
    names = [f"{i}.png" for i in range(len(kinds))]
    if round(share * len(kinds)) >= len(kinds):
        return
    train, held = split(names, share, seed, classes=kinds)
    assert sorted([*train, *held]) == list(range(len(kinds)))
    assert len(held) == max(round(share * len(kinds)), 1)
    sizes = np.bincount(kinds)
    counts = np.bincount(kinds[held], minlength=len(sizes))
    counts, sizes = counts[sizes > 0], sizes[sizes > 0]
    assert ((counts - 0.5) / sizes).max() <= ((counts + 0.5) / sizes).min() + 1e-12
    for same in (np.zeros_like(kinds), np.arange(len(kinds))):
        np.testing.assert_array_equal(split(names, share, seed, classes=same)[1], split(names, share, seed)[1])


LABELLED = {
    "classes": ("name,kind", lambda i: f"{'ab'[i % 3 == 0]}", True),
    "numbers": ("name,year", lambda i: f"{i}.5", False),
    "classes beside numbers": ("name,kind,size", lambda i: f"{'ab'[i % 3 == 0]},{i}.5", True),
    "two kinds": ("name,kind,shape", lambda i: f"{'ab'[i % 3 == 0]},{'xy'[i % 2]}", False),
}


@pytest.mark.parametrize("kind", LABELLED)
def test_which_labels_count_as_classes(kind: str, config: DataConfig) -> None:
    header, label, stratified = LABELLED[kind]
    rows = [f"{name},{label(i)}" for i, name in enumerate(NAMES)]
    (Path(config.path) / "labels.csv").write_text("\n".join([header, *rows]))
    shares = []
    for seed in range(6):
        base = replace(config, held_out=9, held_out_seed=seed)
        plain, labelled = (open_dataset(replace(base, labels=labels)) for labels in ("none", "auto"))
        same = labelled.held_out_indices.tolist() == plain.held_out_indices.tolist()
        assert same or stratified
        shares.append(labelled.labels[labelled.held_out_indices][:, :2].sum(0).tolist())
    assert (shares == [[6, 3]] * 6) == stratified


def test_a_run_that_began_unstratified_keeps_its_held_out_images(config: DataConfig) -> None:
    """As the fingerprint tells: that of earlier versions is known still."""
    plain = replace(config, held_out=6, held_out_seed=1)
    data = open_dataset(replace(plain, labels="folders"))
    earlier = Dataset(data.config, data._cached, data._read_labels, stratify=False)
    assert earlier.fingerprint != data.fingerprint
    assert earlier.held_out_indices.tolist() != data.held_out_indices.tolist()
    resumed = open_dataset(replace(plain, labels="folders")).as_begun_with(earlier.fingerprint)
    assert resumed.fingerprint == earlier.fingerprint
    np.testing.assert_array_equal(resumed.held_out_indices, open_dataset(plain).held_out_indices)
    assert data.as_begun_with(data.fingerprint) is data
    assert data.as_begun_with("another") is data


@pytest.mark.parametrize("labels", ["none", "folders"])
def test_more_images_hardly_move_the_split(labels: str, config: DataConfig, make_images) -> None:
    def held() -> set[str]:
        data = open_dataset(replace(config, held_out=8, labels=labels))
        return {data.names[i] for i in data.held_out_indices}

    before = held()
    make_images(Path(config.path), ["a/new.png"])
    assert len(before & held()) >= 7


def test_mirrored_copies_stay_on_their_side_of_the_split(config: DataConfig) -> None:
    data = open_dataset(replace(config, held_out=6, mirror=True))
    epoch = data.sampler(seed=1).next(48)
    assert sorted(epoch) == sorted([*data.train_indices, *(data.train_indices + 30)])
    assert not set(epoch % 30) & set(data.held_out_indices)


def test_balanced_stream_and_labels(config: DataConfig) -> None:
    data = open_dataset(replace(config, labels="folders", balanced=True, mirror=True))
    stream = data.sampler(seed=0).next(6000) % 30
    assert chisquare(data.labels[stream].sum(0)).pvalue > 1e-3
    drawn = draw_labels(data, 6000, generator=torch.Generator().manual_seed(0))
    assert chisquare(drawn.sum(0)).pvalue > 1e-3


def test_labels_of_fakes_follow_the_training_images(config: DataConfig) -> None:
    data = open_dataset(replace(config, labels="folders", held_out=5))
    drawn = draw_labels(data, 6000, generator=torch.Generator().manual_seed(0))
    assert drawn.shape == (6000, 2)
    expected = data.labels[data.train_indices].mean(0) * 6000
    assert chisquare(drawn.sum(0), expected).pvalue > 1e-3
    again = draw_labels(data, 6000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(drawn, again)
    assert draw_labels(open_dataset(config), 4, generator=torch.Generator()).shape == (4, 0)


@pytest.mark.parametrize("labels", ["integers", "vectors", "none"])
@pytest.mark.parametrize("stored", [True, False])
def test_stylegan_zips_load_unchanged(labels: str, stored: bool, tmp_path: Path, noise) -> None:
    import io

    from PIL import Image

    names = [f"{i // 3:05d}/img{i:08d}.png" for i in range(7)]
    values = {"integers": [i % 3 for i in range(7)], "vectors": [[0.5 * i, 1.0] for i in range(7)], "none": None}[
        labels
    ]
    with zipfile.ZipFile(tmp_path / "set.zip", "w", zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED) as archive:
        for i, name in enumerate(names):
            file = io.BytesIO()
            Image.fromarray(noise(16, 16, 3, seed=i)).save(file, "PNG", compress_level=0)
            archive.writestr(name, file.getvalue())
        pairs = None if values is None else [list(pair) for pair in zip(names, values)]
        archive.writestr("dataset.json", json.dumps({"labels": pairs}))
    data = open_dataset(DataConfig(str(tmp_path / "set.zip"), labels="none" if values is None else "auto"))
    assert data.names == names
    for i in range(7):
        np.testing.assert_array_equal(data.pixels[i], noise(16, 16, 3, seed=i))
    expected = {"integers": np.eye(3)[np.arange(7) % 3], "vectors": values, "none": np.zeros((7, 0))}[labels]
    np.testing.assert_array_equal(data.labels, np.float32(expected))


def test_labels_skip_with_their_images(config: DataConfig) -> None:
    (Path(config.path) / NAMES[1]).write_bytes(b"broken")
    data = open_dataset(replace(config, labels="folders"))
    assert data.skipped[0][0] == NAMES[1]
    assert data.labels.argmax(1).tolist() == [int(name.startswith("b")) for name in data.names]
    assert len(data.names) == len(data.labels) == 29


def test_strict_refuses_what_was_skipped(config: DataConfig) -> None:
    (Path(config.path) / NAMES[1]).write_bytes(b"broken")
    for _ in range(2):  # whether just decoded or found in the cache
        with pytest.raises(FruganError, match=rf"1 of 30 images cannot be read, the first is {NAMES[1]} .*--strict"):
            open_dataset(replace(config, strict=True))
        assert len(open_dataset(config)) == 29


def test_describe_is_json(config: DataConfig) -> None:
    data = open_dataset(replace(config, held_out=2, labels="folders"))
    said = json.loads(json.dumps(data.describe()))
    assert said["held_out"] == [data.names[i] for i in data.held_out_indices]
    assert said["class_names"] == ["a", "b"]
    assert (said["images"], said["bits"], said["resolution"]) == (30, 8, [8, 8])


def test_too_few_images(config: DataConfig) -> None:
    data = open_dataset(replace(config, held_out=10))
    data.require(20, "a batch")
    with pytest.raises(FruganError, match=r"a batch needs 32 images but .* gives 20 to train on \(10 held out"):
        data.require(32, "a batch")
    open_dataset(replace(config, held_out=10, mirror=True)).require(40, "a batch")


CONFIG_MISTAKES = {
    "resolution 100x101 is not": {"resolution": (100, 101)},
    "--resolution 64: give a whole number": {"resolution": "64"},
    "--resolution True: give a whole number": {"resolution": True},
    "resolution 17x17 is not": {"resolution": 17},
    r"--resolution \(64,\): give a side, or a pair": {"resolution": (64,)},
    "--channels 'CMYK': give auto, L": {"channels": "CMYK"},
    "--fit 'stretch'": {"fit": "stretch"},
    "--filter 'nearest'": {"filter": "nearest"},
    "--background 'pink'": {"background": "pink"},
    "--held-out -1: give a number from 0": {"held_out": -1},
    "--held-out 2.5: give a whole number of at least 1; or a fraction below 1": {"held_out": 2.5},
    "balanced sampling needs classes": {"balanced": True},
}


@pytest.mark.parametrize("message", CONFIG_MISTAKES)
def test_config_mistakes(message: str) -> None:
    with pytest.raises(FruganError, match=message):
        DataConfig("anywhere", **CONFIG_MISTAKES[message])  # type: ignore[arg-type]


def test_one_number_is_a_square() -> None:
    assert DataConfig("anywhere", resolution=24) == DataConfig("anywhere", resolution=(24, 24))  # type: ignore[arg-type]


def test_set_mistakes(config: DataConfig, tmp_path: Path, noise) -> None:
    with pytest.raises(FruganError, match="holding out 30 of 30 images leaves none"):
        open_dataset(replace(config, held_out=30))
    np.savez(tmp_path / "set.npz", images=noise(3, 8, 8, 3), labels=np.array([[0.5], [1], [2]], np.float32))
    with pytest.raises(FruganError, match="one class per image"):
        open_dataset(DataConfig(str(tmp_path / "set.npz"), labels="auto", balanced=True))
    (Path(config.path) / "a/grey.png").write_bytes((Path(config.path) / NAMES[0]).read_bytes())
    from PIL import Image

    Image.new("L", (8, 8)).save(Path(config.path) / "a/grey.png")
    with pytest.raises(FruganError, match=r"a/01\.png is RGB, a/grey\.png is L"):
        open_dataset(config)
    assert open_dataset(replace(config, channels="RGB")).channels == 3


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 5), min_size=4, max_size=12), st.integers(0, 3), st.booleans())
def test_classes_that_keep_no_training_image_are_named(
    tmp_path_factory: pytest.TempPathFactory, noise, classes: list[int], held_out: int, flags: bool
) -> None:
    """Of classes, and of flags several of which an image may have: exactly those that the split takes away."""
    file = tmp_path_factory.mktemp("set") / "set.npz"
    labels = np.eye(6, dtype=np.float32)[classes]
    if flags:
        labels[:, 0] = 1
    np.savez(file, images=noise(len(classes), 8, 8, 3), labels=labels)
    data = open_dataset(DataConfig(str(file), labels="auto", held_out=held_out))
    held, train = (set(np.flatnonzero(data.labels[i].any(0))) for i in (data.held_out_indices, data.train_indices))
    lost, told = sorted(held - train), untrained_warning(data)
    assert (told is None) == (not lost)
    if told:
        assert told.startswith(f"--held-out {held_out} leaves no training image of class {', '.join(map(str, lost))}, ")


def test_a_column_of_groups_among_the_labels_is_told(tmp_path: Path, make_images) -> None:
    make_images(tmp_path / "set", [f"{i}.png" for i in range(8)])
    rows = [f"{i}.png,{'ill' if i % 2 else 'well'},P{i // 2}" for i in range(8)]
    (tmp_path / "set/labels.csv").write_text("\n".join(["file,kind,patient", *rows]))
    config = DataConfig(str(tmp_path / "set"), labels="auto", group="labels.csv:patient", held_out=4)
    told = untrained_warning(open_dataset(config)) or ""
    assert told.endswith("nothing will be learned: --labels FILE:COLUMN,… without patient")
    assert untrained_warning(open_dataset(replace(config, labels="labels.csv:kind"))) is None
    assert "hold out fewer" in (untrained_warning(open_dataset(replace(config, group="regex:(.)", held_out=7))) or "")


def test_on_the_command_line_classes_without_training_images_are_told_before_the_first_step(
    tmp_path: Path, make_images, capsys: pytest.CaptureFixture[str]
) -> None:
    make_images(tmp_path / "set", ["Katze/1.png", "[b]dog/2.png", "owl/3.png", "owl/4.png"])
    told = "no training image of class"
    options = f"--held-out 3 --dry-run --kimg 0.1 --threads 1 --device cpu {SMALL_NETWORKS}".split()
    code, out = call(capsys, tmp_path, "train", "set", "--conditional", *options)
    assert code == 0, out
    assert "warning: --held-out 3 leaves no training image of class " in out
    assert told not in call(capsys, tmp_path, "train", "set", *options)[1]  # without labels nothing is lost
    assert told in " ".join(call(capsys, tmp_path, "data", "inspect", "set", "--held-out", 3)[1].split())
    assert told not in call(capsys, tmp_path, "data", "inspect", "set")[1]
