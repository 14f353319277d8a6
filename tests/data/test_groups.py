"""Grouped splits: no group on both sides, every image placed once, as near to the number asked for as groups allow."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from frugan.data import DataConfig, Sampler, open_dataset
from frugan.data.groups import grouped, nearest_groups, read_groups
from frugan.data.open import regroup
from frugan.data.shards.locate import is_shards
from frugan.data.store import split, split_groups
from frugan.data.tools import inspect, shard
from frugan.errors import FruganError
from tests.program import call

SIZES = st.lists(st.integers(1, 9), min_size=2, max_size=9)


@settings(deadline=None, max_examples=200)
@given(SIZES, st.integers(1, 60))
def test_no_subset_comes_nearer(sizes: list[int], wanted: int) -> None:
    chosen = nearest_groups(sizes, wanted)
    assert chosen == sorted(set(chosen))
    assert 0 < len(chosen) < len(sizes)
    places = range(len(sizes))
    sums = [sum(sizes[i] for i in some) for n in range(1, len(sizes)) for some in itertools.combinations(places, n)]
    assert abs(sum(sizes[i] for i in chosen) - wanted) == min(abs(total - wanted) for total in sums)


@settings(deadline=None, max_examples=200)
@given(SIZES, st.one_of(st.floats(0.01, 0.95), st.integers(1, 8)), st.integers(0, 3), st.randoms(use_true_random=False))
def test_groups_stay_whole_in_any_order(sizes: list[int], held_out: float, seed: int, random) -> None:
    names = [f"group {i}" for i, size in enumerate(sizes) for _ in range(size)]
    if held_out >= len(names) or round(held_out * len(names)) >= len(names):
        return
    train, held = split_groups(grouped(names, "folder"), held_out, seed)
    assert sorted([*train, *held]) == list(range(len(names)))
    assert min(len(train), len(held)) > 0
    assert not {names[i] for i in train} & {names[i] for i in held}
    order = random.sample(range(len(names)), len(names))
    _, again = split_groups(grouped([names[i] for i in order], "folder"), held_out, seed)
    assert {names[order[i]] for i in again} == {names[i] for i in held}


def test_groups_of_one_image_are_split_as_by_the_seed() -> None:
    names = [f"{i}.png" for i in range(50)]
    for by_group, plain in zip(split_groups(grouped(names, "folder"), 0.2, 3), split(names, 0.2, 3)):
        np.testing.assert_array_equal(by_group, plain)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5)), min_size=4, max_size=40),
    st.floats(0.05, 0.6),
    st.integers(0, 3),
)
def test_groups_are_stratified(groups: list[tuple[int, int]], share: float, seed: int) -> None:
    """Whole groups, as near to the number as without classes; where all have one size, by the same rule as images."""
    names = [f"group {i:02d}" for i, (_, size) in enumerate(groups) for _ in range(size)]
    classes = np.array([kind for kind, size in groups for _ in range(size)])
    if round(share * len(names)) >= len(names):
        return
    plain, held = (split_groups(grouped(names, "folder"), share, seed, by)[1] for by in (None, classes))
    assert len(plain) == len(held)
    assert not {names[i] for i in held} & {name for i, name in enumerate(names) if i not in set(held)}
    alike = [f"group {i:02d}" for i in range(len(groups)) for _ in range(3)]
    kinds = np.array([kind for kind, _ in groups])
    _, held = split_groups(grouped(alike, "folder"), share, seed, kinds.repeat(3))
    found = np.unique(np.array(held) // 3)
    if 3 * len(found) == round(share * len(alike)):
        expected = split([f"group {i:02d}" for i in range(len(groups))], len(found), seed, classes=kinds)[1]
        np.testing.assert_array_equal(found, expected)


def test_patients_of_two_diagnoses(tmp_path: Path, make_images) -> None:
    """40 patients, 10 of them ill, of 2 to 5 scans each: a fifth of either is held out, and none is divided."""
    names = [f"p{p:02d}_{s}.png" for p in range(40) for s in range(2 + p % 4)]
    make_images(tmp_path, names)
    rows = [f"{name},{'ill' if int(name[1:3]) % 4 == 1 else 'well'}" for name in names]
    (tmp_path / "labels.csv").write_text("\n".join(["name,state", *rows]))
    for seed in range(10):
        config = DataConfig(str(tmp_path), labels="auto", group=r"regex:^(p\d+)_", held_out=0.2, held_out_seed=seed)
        data = open_dataset(config)
        assert data.groups is not None
        assert len(data.held_out_indices) == 28
        assert not {*data.groups.numbers[data.train_indices]} & {*data.groups.numbers[data.held_out_indices]}
        ill = data.labels[data.held_out_indices, 0].sum()
        assert abs(ill - 6) <= 3, (seed, ill)


def test_the_class_of_a_group_is_that_of_most_images() -> None:
    groups = grouped([*"aaabbcccc"], "folder")
    assert groups.most_frequent(np.array([2, 0, 2, 5, 1, 3, 3, 4, 4])).tolist() == [2, 1, 3]


def test_many_groups_take_bounded_time() -> None:
    sizes = np.random.default_rng(0).integers(1, 40, 20_000).tolist()
    assert sum(sizes[i] for i in nearest_groups(sizes, 40_000)) == 40_000


@pytest.fixture
def source(tmp_path: Path, make_images) -> Path:
    """30 images of five films, with 2, 4, 6, 8 and 10 scenes, and a table that says who owns them."""
    names = [f"film{f}/reel/scene{s:02d}.png" for f in range(1, 6) for s in range(2 * f)]
    make_images(tmp_path / "set", names)
    lines = [f"{name},owner{int(name[4]) % 2},1.5" for name in names]
    (tmp_path / "set/owners.csv").write_text("\n".join(["name,owner,size", *lines]))
    return tmp_path / "set"


BY: dict[str, Callable[[str], str]] = {
    "folder": lambda name: name.rpartition("/")[0],
    "folder:1": lambda name: name.split("/")[0],
    r"regex:scene(\d)(\d)": lambda name: "/".join(name[-6:-4]),
    r"regex:film([12])/|(film)": lambda name: name[4] if name[4] in "12" else "film",
    "owners.csv:owner": lambda name: f"owner{int(name[4]) % 2}",
}


MISTAKES = {
    "films": "--group films: give folder, folder:1, regex:PATTERN with parentheses, or FILE.csv:COLUMN",
    "folder:0": "give folder",
    "": "give folder",
    "regex:film": "nothing in it is in parentheses",
    "regex:(film": "no regular expression",
    "regex:film(x?)": "film1/reel/scene00.png matches with nothing in the parentheses",
    "regex:film([1-4])": "film5/reel/scene00.png does not match; correct the expression, or move the image away",
    "regex:(film)": r"puts all 30 images into one group \(film\)",
    "folder:3": "film1/reel/scene00.png lies 2 folders deep",
    "owners.csv:age": "has no column 'age'; its columns are owner, size",
    "nowhere.csv:owner": "there is no label file nowhere.csv",
    "short.csv:owner": r"film2/reel/scene00.png has no row in short.csv \(28 of 30",
    "empty.csv:owner": "film1/reel/scene01.png has an empty cell",
}


@pytest.mark.parametrize("by", BY)
def test_rules(by: str, source: Path) -> None:
    data = open_dataset(DataConfig(str(source), group=by, held_out=0.3))
    assert data.groups is not None
    expected = [BY[by](name) for name in data.names]
    assert [data.groups.names[i] for i in data.groups.numbers] == expected
    assert data.groups.names == sorted(set(expected))
    assert data.groups.sizes.tolist() == [expected.count(name) for name in data.groups.names]
    held = {expected[i] for i in data.held_out_indices}
    assert held
    assert not held & {expected[i] for i in data.train_indices}
    told = data.describe()
    assert (told["group"], told["groups"]) == (by, len(set(expected)))
    assert told["held_out_groups"] == sorted(held)


@pytest.mark.parametrize("by", BY)
def test_an_open_set_is_grouped_anew(by: str, source: Path) -> None:
    """And divided as before: that is what an evaluation has to find out."""
    data, grouped_so = (open_dataset(DataConfig(str(source), held_out=0.3, group=g)) for g in (None, by))
    before = data.held_out_indices.copy()
    regroup(data, by)
    assert data.groups is not None
    assert grouped_so.groups is not None
    assert data.groups.names == grouped_so.groups.names
    np.testing.assert_array_equal(data.groups.numbers, grouped_so.groups.numbers)
    np.testing.assert_array_equal(data.held_out_indices, before)


@pytest.mark.parametrize("by", [by for by in MISTAKES if ".csv:" not in by and by != "regex:(film)"])
def test_mistakes_of_an_open_set(by: str, source: Path) -> None:
    with pytest.raises(FruganError, match=MISTAKES[by]):
        regroup(open_dataset(DataConfig(str(source))), by)


def test_shards_and_crops_keep_their_groups(source: Path, tmp_path: Path) -> None:
    shard(source, tmp_path / "shards", per_shard=10)
    for config in (DataConfig(str(tmp_path / "shards")), DataConfig(str(source), crops="2", crop_size=8)):
        with pytest.raises(FruganError, match="groups are those that the run trained with"):
            regroup(open_dataset(config), "folder")


def test_the_fingerprint_covers_groups(source: Path) -> None:
    found = {open_dataset(DataConfig(str(source), group=by)).fingerprint for by in (None, "folder", "owners.csv:owner")}
    assert len(found) == 3


@pytest.mark.parametrize("by", MISTAKES)
def test_mistakes(by: str, source: Path) -> None:
    (source / "short.csv").write_text("name,owner\nfilm1/reel/scene00.png,a\nfilm1/reel/scene01.png,b\n")
    owners = [
        f"{name},{'' if '1/reel/scene01' in name else 'a'}" for name in open_dataset(DataConfig(str(source))).names
    ]
    (source / "empty.csv").write_text("\n".join(["name,owner", *owners]))
    with pytest.raises(FruganError, match=MISTAKES[by]):
        open_dataset(DataConfig(str(source), group=by, held_out=0.1))


def test_balanced_groups_are_drawn_equally_often(source: Path) -> None:
    data = open_dataset(DataConfig(str(source), group="folder:1", balanced=True))
    assert data.groups is not None
    drawn = data.groups.numbers[data.sampler(seed=0).next(6000)]
    assert chisquare(np.bincount(drawn)).pvalue > 1e-3


def test_balanced_classes_then_groups(source: Path) -> None:
    data = open_dataset(
        DataConfig(str(source), labels="owners.csv:owner", group="folder:1", balanced=True, mirror=True)
    )
    assert data.groups is not None
    stream = data.sampler(seed=1).next(12_000) % 30
    films = np.bincount(data.groups.numbers[stream], minlength=5) / len(stream)
    np.testing.assert_allclose(films, [1 / 6, 1 / 4, 1 / 6, 1 / 4, 1 / 6], atol=0.02)  # owner 1: films 1, 3, 5


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=30), st.integers(0, 99))
def test_balanced_streams_resume_exactly(kinds: list[tuple[int, int]], before: int) -> None:
    classes, groups = np.array(kinds).T

    def sampler() -> Sampler:
        return Sampler(np.arange(len(kinds)), seed=2, classes=classes, groups=groups)

    one, two = sampler(), sampler()
    one.next(before)
    two.load_state_dict(json.loads(json.dumps(one.state_dict())))
    np.testing.assert_array_equal(one.next(50), two.next(50))


def test_groups_of_shards_do_not_follow_the_shards(source: Path, tmp_path: Path) -> None:
    shard(str(source), tmp_path / "shards", per_shard=7, labels="none")
    config = DataConfig(str(tmp_path / "shards"), group=r"regex:(film\d)", held_out=0.3)
    assert is_shards(config.path)
    data = open_dataset(config)
    assert data.groups is not None
    assert data.groups.names == [f"film{i}" for i in range(1, 6)]
    assert not {*data.groups.numbers[data.train_indices]} & {*data.groups.numbers[data.held_out_indices]}
    with pytest.raises(FruganError, match="streaming holds out whole shards, which may divide groups"):
        replace(config, cache_limit=1.0)


def test_inspect_tells_groups_and_what_is_wrong_with_them(source: Path) -> None:
    rows = dict(inspect(DataConfig(str(source), group="folder:1", held_out=0.3)).rows())
    assert rows["groups"].startswith("5 by folder:1, of 2 to 10 images each; held out: ")
    assert rows["held out"].endswith(" of 30")
    assert not rows["held out"].startswith("0 ")
    wrong = inspect(DataConfig(str(source), group="folder:3"))
    assert any("2 folders deep" in problem for problem in wrong.problems)
    assert wrong.count == 30


def test_on_the_command_line(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--resolution", "8", "--preset", "tiny", "--threads", "1", "--held-out", "0.3"]
    code, out = call(capsys, tmp_path, "train", source, *options, "--group", "folder:1", "--balanced", "--dry-run")
    assert code == 0, out
    assert "groups: 5 by folder:1, of 2 to 10 images each; held out: " in out
    assert "group: folder:1" in out
    code, out = call(capsys, tmp_path, "train", source, *options, "--group", "folder:3")
    assert code == 2
    assert "lies 2 folders deep" in out
    assert not (tmp_path / "runs").exists()


def test_read_groups_needs_no_pixels() -> None:
    found = read_groups(None, "folder", ["a/1.png", "b/2.png", "a/3.png"])  # type: ignore[arg-type]
    assert (found.names, found.numbers.tolist()) == (["a", "b"], [0, 1, 0])
