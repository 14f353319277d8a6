"""A run finds its files from any working directory, and after it was moved; what fails, fails before anything is written."""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import frugan
from frugan.config.schema import load_config
from frugan.data import DataConfig, open_dataset
from frugan.data.tools import shard
from frugan.errors import FruganError
from frugan.run.paths import absolute, data_places, located, relative_paths
from frugan.run.train import Run
from tests.program import call

SMALL = shlex.split(
    "--preset tiny --batch 8 --channel-base 64 --channel-max 8 --latent 16 --kimg 0.008 --tick-kimg 0.008 --samples-kimg 1 "
    "--checkpoint-kimg 1 --device cpu --threads 1"
)


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRUGAN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def make_images(folder: Path, count: int = 12, seed: int = 3) -> Path:
    rng = np.random.default_rng(seed)
    for i in range(count):
        target = folder / ("oak" if i % 2 else "ash") / f"{i}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(target)
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos and labels beside runs/a, a run of them begun from within by relative paths."""
    os.environ["FRUGAN_CACHE"] = str(tmp_path_factory.getbasetemp() / "cache")
    home = tmp_path_factory.mktemp("project")
    make_images(home / "photos")
    rows = [f"{name}/{i}.png,{i % 3}" for i in range(12) for name in ("oak" if i % 2 else "ash",)]
    (home / "classes.csv").write_text("\n".join(["filename,label", *rows]) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        options = {"preset": "tiny", "batch": 8, "channel_base": 64, "channel_max": 8, "latent": 16, "kimg": 0.008}
        list(frugan.train("photos", "runs/a", conditional=True, labels="classes.csv:label", device="cpu", **options))
    return home


# ---- any working directory ----

WAYS = {
    "beside": (".", "photos", "run"),
    "below": ("sub/deep", "../../photos", "../run"),
    "absolute": (".", "{home}/photos", "{home}/run"),
    "untidy": ("sub", ".././photos/", "../sub/../run"),
    "through a link": (".", "link/photos", "link/run"),
    "into a link": (".", "photos", "link/runs/run"),
}


@pytest.mark.parametrize("way", WAYS)
def test_resume_from_elsewhere(way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cwd, data, out = (text.format(home=tmp_path) for text in WAYS[way])
    make_images(tmp_path / "photos")
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    code, text = call(capsys, tmp_path / cwd, "train", data, "--out", out, *SMALL)
    assert code == 0, text
    run = (tmp_path / cwd / out).resolve()
    for elsewhere in (tmp_path / "elsewhere", Path("/")):
        total = (Run(run).latest().images + 8) / 1000
        code, text = call(capsys, elsewhere, "resume", run, "--kimg", total, "--device", "cpu")
        assert code == 0, text
        assert Run(run).latest().images == total * 1000


def test_a_project_that_moved_is_found(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Images, table and run together, at a place that has nothing else of the old one."""
    new = tmp_path / "new place [2]"
    shutil.copytree(project, new, symlinks=True)
    aside = project.rename(project.with_name("aside"))
    try:
        code, text = call(capsys, tmp_path, "resume", new / "runs" / "a", "--kimg", 0.016, "--device", "cpu")
        assert code == 0, text
        options = ["--samples", 12, "--metrics", "kid_full", "--device", "cpu"]
        code, text = call(capsys, tmp_path, "evaluate", new / "runs" / "a", *options)
        assert code == 0, text
        found = Run(new / "runs" / "a").config
    finally:
        aside.rename(project)
    assert found.data.path == str(new / "photos")
    assert found.data.labels == f"{new / 'classes.csv'}:label"


def test_data_that_moved(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--data` is compared, taken and remembered; without it, the sentence says so."""
    moved, run = tmp_path / "far" / "images", tmp_path / "a"
    shutil.copytree(project / "photos", moved)
    shutil.copytree(project / "runs" / "a", run)
    shutil.copy(project / "classes.csv", tmp_path)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["data"] |= {"path": "/nowhere/photos", "labels": f"{tmp_path}/classes.csv:label"}
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"relative_paths": {}}))
    resume = ("resume", run, "--device", "cpu", "--kimg")
    code, text = call(capsys, tmp_path, *resume, 0.016)
    assert code == 2
    assert "/nowhere/photos" in text
    assert "--data" in text
    others = make_images(tmp_path / "others", seed=4)
    code, text = call(capsys, tmp_path, *resume, 0.016, "--data", others)
    assert code == 2
    assert "or are others" in text
    for command, options in (("evaluate", ["--samples", 12, "--metrics", "kid_full"]), ("leaks", ["--samples", 12])):
        code, text = call(capsys, tmp_path, command, run, "--data", "far/images", *options, "--device", "cpu")
        assert code == 0 or "too few" in text, text
        code, text = call(capsys, tmp_path, command, run, *options, "--device", "cpu")
        assert "--data" in text
    code, text = call(capsys, tmp_path, *resume, 0.016, "--data", "far/images")
    assert code == 0, text
    code, text = call(capsys, Path("/"), *resume, 0.024)
    assert code == 0, text


@pytest.mark.parametrize("typed", ["photos", "./photos", "proj/photos"])
def test_runs_of_earlier_versions_are_found(
    typed: str, project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They kept the path as it was typed: it is looked for from here, and from every folder above the run."""
    home = tmp_path / "proj"
    shutil.copytree(project, home)
    config = yaml.safe_load((home / "runs/a/config.yaml").read_text())
    del config["relative_paths"]
    config["data"] |= {"path": typed, "labels": f"{Path(typed).parent}/classes.csv:label"}
    (home / "runs/a/config.yaml").write_text(yaml.safe_dump(config))
    code, text = call(capsys, Path("/"), "resume", home / "runs" / "a", "--kimg", 0.016, "--device", "cpu")
    assert code == 0, text


def test_where_something_else_lies_now_the_next_place_is_tried(project: Path, tmp_path: Path) -> None:
    """A copy of a project whose first home got other images since."""
    home = tmp_path / "home"
    shutil.copytree(project, home)
    run = Run(home / "runs" / "a")
    shutil.copytree(home, tmp_path / "copy")
    (home / "photos" / "oak" / "1.png").unlink()
    with pytest.raises(FruganError, match=r"no label|have changed"):
        run.move_data(str(home / "photos"))
    copied = Run(tmp_path / "copy" / "runs" / "a")
    config = yaml.safe_load((copied.path / "config.yaml").read_text())
    config["data"]["path"] = str(home / "photos")
    (copied.path / "config.yaml").write_text(yaml.safe_dump(config))
    assert Run(copied.path).open_data().config.path == str(tmp_path / "copy" / "photos")


NAMES = st.text("ab {}[]*?:é-~", min_size=1, max_size=4).filter(lambda t: t.strip(" .") == t and not t.startswith("~"))


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(NAMES, min_size=1, max_size=3), up=st.integers(0, 2), slash=st.booleans())
def test_every_path_is_found_after_any_move(
    parts: list[str], up: int, slash: bool, tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = load_config(project / "runs" / "a" / "config.yaml")
    trial = tmp_path / str(next(_COUNT))
    photos, cwd, run = trial.joinpath("old", *parts), trial.joinpath("old", *"cd"[:up]), trial / "old" / "runs" / "r"
    for folder in (photos, cwd, run):
        folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(cwd)
    typed = os.path.relpath(photos) + "/" * slash
    kept = absolute("data.path", typed)
    assert kept is not None
    assert os.path.isabs(kept)
    assert os.path.samefile(kept, photos)
    config = replace(base, data=replace(base.data, path=kept, labels="none"))
    config = replace(config, relative_paths=relative_paths(config, run))
    monkeypatch.chdir("/")
    assert located(config, run).data.path == kept
    (trial / "old").rename(trial / "new")
    found = located(config, trial / "new" / "runs" / "r").data.path
    assert os.path.samefile(found, trial.joinpath("new", *parts))
    assert [place.path for place in data_places(config, trial / "new" / "runs" / "r")] == [found]


_COUNT = itertools.count()


@pytest.mark.parametrize("path", ["s3://bucket/set-{000..099}.tar", "https://host/a.tar", "hf:user/name", "nowhere"])
def test_what_is_no_path_here_stays_as_it_is(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("data.path", path) == path
    assert absolute("transfer.init_from", path) == path


def test_shards_of_this_disk_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard(str(make_images(tmp_path / "photos")), tmp_path / "set", per_shard=4, labels="none")
    monkeypatch.chdir(tmp_path)
    names = sorted(p.stem for p in (tmp_path / "set").glob("*.tar"))
    pattern = f"set/{names[0][:-1]}{{0..{len(names) - 1}}}.tar"
    kept = absolute("data.path", pattern)
    assert kept == str(tmp_path / pattern)
    monkeypatch.chdir("/")
    assert len(open_dataset(DataConfig(path=kept))) == 12  # pyright: ignore[reportArgumentType]


# ---- before anything is written ----

WRONG = {
    "metric": ("--evaluate-kimg 1 --metrics beauty", "beauty"),
    "features": ("--evaluate-kimg 1 --features dinov2 --weights /nowhere.safetensors", "nowhere"),
    "memorisation": ("--evaluate-kimg 1 --metrics memorisation", "--held-out"),
    "measurement": ("--measurement erase-everything", "measurement"),
    "seed": ("--seed -1", ""),
    "large seed": ("--seed 99999999999999999999", ""),
    "labels": ("--conditional --labels nowhere.csv", "nowhere.csv"),
    "network": ("--init-from nowhere", "nowhere"),
    "transforms": ("--transforms swirl", "swirl"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["train", "dry run"])
def test_what_can_fail_does_so_before_the_directory_is_made(
    name: str, dry: list[str], project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, word = WRONG[name]
    code, text = call(capsys, tmp_path, "train", project / "photos", "--out", "run", *SMALL, *options.split(), *dry)
    assert code == 2, text
    assert word in text
    assert "Traceback" not in text
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["train", "dry run"])
def test_a_directory_that_is_not_free(
    dry: list[str], project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for out, word in (
        ("file", "is not a folder; name another place"),
        ("mine", "not an empty"),
        ("file/run", "name another place"),
    ):
        code, text = call(capsys, tmp_path, "train", project / "photos", "--out", out, *SMALL, *dry)
        assert code == 2, text
        assert word in text
    code, text = call(capsys, project, "train", "photos", "--out", "runs/a", *SMALL, *dry)
    assert code == 2
    assert "resume runs/a" in text


def test_a_failed_start_leaves_its_directory_free(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever stopped it before its first checkpoint; the next start owes nothing to it."""
    train = ("train", project / "photos", "--out", tmp_path / "run", *SMALL)
    with monkeypatch.context() as patch:
        patch.setattr("frugan.training.checkpoint.save", lambda *_: (_ for _ in ()).throw(MemoryError()))
        code, text = call(capsys, tmp_path, *train, "--seed", 7)
        assert code == 2, text
    assert (tmp_path / "run" / "config.yaml").exists()
    assert (tmp_path / "run" / "samples" / "samples-init.png").exists()
    (tmp_path / "run" / "samples" / "samples-000007.000.png").write_bytes(b"of the failed start")
    code, text = call(capsys, tmp_path, *train)
    assert code == 0, text
    assert Run(tmp_path / "run").config.training.seed == 0
    assert not (tmp_path / "run" / "samples" / "samples-000007.000.png").exists()
    code, text = call(capsys, tmp_path, *train)
    assert code == 2
    assert "holds a run already" in text


def test_notes_beside_a_failed_start_are_kept(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    shutil.copy(project / "runs" / "a" / "config.yaml", tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    code, text = call(capsys, tmp_path, "train", project / "photos", "--out", tmp_path / "run", *SMALL)
    assert code == 2
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    assert "not an empty directory" in text


def test_a_run_stays_locked_from_its_creation_to_its_end(project: Path, tmp_path: Path) -> None:
    """Else another one that begins here could take it for a failed start before it has a checkpoint."""
    config = Run(project / "runs" / "a").config
    run = Run.create(tmp_path / "run", config)
    with pytest.raises(FruganError, match="another process"):
        Run.create(tmp_path / "run", config)
    with run.launching(), pytest.raises(FruganError, match="another process"):
        Run.create(tmp_path / "run", config)
    Run.create(tmp_path / "run", config)


# ---- rights ----


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002], ids=oct)
def test_files_have_the_rights_that_the_umask_gives(
    umask: int, project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file and folder that comes out of any command."""
    monkeypatch.setenv("FRUGAN_CACHE", str(tmp_path / "cache"))
    photos = project / "photos"
    before = os.umask(umask)
    try:
        for arguments in (
            ["train", photos, "--out", "run", *SMALL],
            ["evaluate", "run", "--samples", 12, "--metrics", "kid_full", "--device", "cpu"],
            ["generate", "run", "--seeds", "0-1", "--out", "made"],
            ["export", "run", "hub", "--format", "pretrained"],
            ["export", "run", "community.pt", "--format", "community"],
            ["import", Path(__file__).parents[1] / "golden" / "nvidia_pytorch.pkl", "imported"],
            ["data", "inspect", photos],
            ["data", "prepare", photos, "set.zip"],
            ["data", "prepare", photos, "set"],
            ["data", "prepare", photos, "set.npz"],
            ["data", "shard", photos, "shards", "--per-shard", 4],
        ):
            code, text = call(capsys, tmp_path, *arguments)
            assert code == 0, text
    finally:
        os.umask(before)
    entries = list(tmp_path.rglob("*"))
    assert len([e for e in entries if e.suffix == ".safetensors"]) >= 6
    wrong = {
        str(e.relative_to(tmp_path)): oct(stat.S_IMODE(e.stat().st_mode))
        for e in entries
        if stat.S_IMODE(e.stat().st_mode) != (0o777 if e.is_dir() else 0o666) & ~umask
    }
    assert not wrong


def test_the_sample_generator_is_no_path(project: Path, tmp_path: Path) -> None:
    """`--init-from sample` stays what comes with frugan, also where a folder above the run has that name."""
    (tmp_path / "sample").mkdir()
    config = load_config(project / "runs" / "a" / "config.yaml")
    config = replace(config, transfer=replace(config.transfer, init_from="sample"))
    assert located(config, tmp_path / "runs" / "tuned").transfer.init_from == "sample"


def test_a_run_that_never_began_is_told_how_to_begin(tmp_path: Path) -> None:
    """Of a name that is like one there, that one is suggested instead."""
    with pytest.raises(
        FruganError, match=r"has no config.yaml; one that was stopped before its first step .* begin it again"
    ):
        Run(tmp_path / "elsewhere")
    (tmp_path / "photos").mkdir()
    with pytest.raises(FruganError, match=r"has no config.yaml \(did you mean .*photos\?\)$"):
        Run(tmp_path / "photo")
