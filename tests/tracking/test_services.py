# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
"""Records, sample grids and configuration in other programs: with stand-ins for their packages, and with the packages."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frugan import train
from frugan.errors import FruganError
from frugan.files import read_json, write_text
from frugan.images import save_image
from frugan.run.train import Run
from frugan.tracking import check_trackers, open_tracker, parse_trackers
from frugan.tracking.report.page import flat
from frugan.tracking.services import SERVICES
from tests.program import call
from tests.run.conftest import TINY, _cache, image_folder

__all__ = ["_cache", "image_folder"]

CONFIG = "kimg: 3.0\ngenerator:\n  latent: 16\n"
SETTINGS = {"kimg": "3.0", "generator.latent": "16"}


class Told(list[tuple[str, Any]]):
    """What a stand-in was asked to keep: ("scalar", (name, value, images)), ("image", …), ("config", …), ("closed", id)."""

    def scalars(self) -> list[tuple[str, float, int]]:
        return [what for kind, what in self if kind == "scalar"]

    def of(self, kind: str) -> list[Any]:
        return [what for found, what in self if found == kind]


class FakeWandb:
    """The part of wandb that is used."""

    def __init__(self, told: Told) -> None:
        self.told, self.Image = told, lambda path, caption: (Path(path).name, caption)

    def init(
        self, *, project: str, name: str, id: str | None, resume: str | None, dir: str, config: dict[str, Any]
    ) -> Any:
        assert resume == (None if id is None else "allow")
        assert Path(dir).is_dir()
        self.told.append(("config", dict(flat(config))))
        self.told.append(("begun", (project, name, id)))
        self.id = id or "w1"
        return self

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        self.axis = step_metric

    def log(self, values: dict[str, Any]) -> None:
        assert self.axis == "images"
        images = values.pop("images")
        self.told += [("image", (name, images)) for name, _ in values.pop("samples", [])]
        self.told += [("scalar", (name, value, images)) for name, value in values.items()]

    def finish(self) -> None:
        self.told.append(("closed", self.id))


class FakeMLflow:
    """The part of mlflow that is used: the module, its entities and its client."""

    def __init__(self, told: Told) -> None:
        self.told = told
        self.entities = self
        self.Metric = lambda name, value, timestamp, step: ("scalar", (name, value, step))
        self.Param = lambda name, value: (name, value)

    def get_tracking_uri(self) -> str:
        return "file:///nowhere"

    def MlflowClient(self, tracking_uri: str) -> Any:
        assert tracking_uri == "file:///nowhere"
        return self

    def get_experiment_by_name(self, name: str) -> Any:
        assert name == "frugan"

    def create_experiment(self, name: str) -> str:
        return "7"

    def create_run(self, experiment: str, run_name: str) -> Any:
        self.told.append(("begun", ("frugan", run_name, None)))
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id="w1"))

    def update_run(self, run: str, status: str) -> None:
        assert status == "RUNNING"
        self.told.append(("begun", ("frugan", "a run", run)))

    def log_batch(self, run: str, metrics: Any = (), params: Any = ()) -> None:
        assert len(params) <= 100
        assert run == "w1"
        self.told += [("config", dict(params))] if params else []
        self.told += metrics

    def log_artifact(self, run: str, file: str, folder: str) -> None:
        assert folder == "samples"
        self.told.append(("image", (Path(file).name, None)))

    def set_terminated(self, run: str) -> None:
        self.told.append(("closed", run))


class FakeAim:
    """The part of aim that is used."""

    def __init__(self, told: Told) -> None:
        self.told, self.Image = told, Path
        self.name = ""

    def Run(self, *, run_hash: str | None, repo: str, experiment: str, **_: Any) -> Any:
        assert Path(repo).is_dir()
        self.hash = run_hash or "w1"
        if run_hash:
            self.told.append(("begun", (experiment, "a run", run_hash)))
        return self

    def __setitem__(self, name: str, value: dict[str, str]) -> None:
        assert name == "config"
        self.told += [("config", value), ("begun", ("frugan", self.name, None))]

    def track(self, value: Any, *, name: str, step: int) -> None:
        kind = "image" if name == "samples" else "scalar"
        self.told.append((kind, (value.name, step) if kind == "image" else (name, value, step)))

    def close(self) -> None:
        self.told.append(("closed", self.hash))


FAKES: dict[str, Callable[[Told], Any]] = {"wandb": FakeWandb, "mlflow": FakeMLflow, "aim": FakeAim}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    """What the stand-ins, which take the packages' places, hear."""
    told = Told()
    for name, make in FAKES.items():
        module: Any = make(told)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.delenv(f"{name.upper()}_PROJECT", raising=False)
    monkeypatch.setitem(sys.modules, "mlflow.entities", sys.modules["mlflow"])
    for variable in ("WANDB_NAME", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "AIM_REPO"):
        monkeypatch.delenv(variable, raising=False)
    return told


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A run directory with a configuration and a first sample grid."""
    home = tmp_path / "a run"
    home.mkdir()
    write_text(home / "config.yaml", CONFIG)
    grid(home, "init")
    return home


def grid(home: Path, label: str) -> None:
    shade = len(list(home.rglob("samples-*.png")))  # each another one
    save_image(np.full((8, 8, 3), shade, np.uint8), home / "samples" / f"samples-{label}.png")


def never(message: str) -> None:
    pytest.fail(message)


RECORD = {
    "kimg": 2.0,
    "images": 2000,
    "p": 0.25,
    "r_t": None,
    "bad": float("nan"),
    "logits/real": {"mean": 1.0, "count": 3},
}


def test_fakes_for_all() -> None:
    assert [*FAKES] == [*SERVICES]


@pytest.mark.parametrize("name", SERVICES)
def test_a_run_is_tracked_and_continued(name: str, told: Told, home: Path) -> None:
    tracker = open_tracker(name, home, never)
    assert told.of("begun") == [("frugan", "a run", None)]
    assert told.of("config") == [SETTINGS]
    tracker.log(RECORD)
    assert told.scalars() == [("kimg", 2.0, 2000), ("p", 0.25, 2000)]
    grid(home, "000003.000")
    tracker.log({"kimg": 3.0, "p": np.float32(0.5)})
    assert told.scalars()[2:] == [("kimg", 3.0, 3000), ("p", 0.5, 3000)]
    assert [image for image, _ in told.of("image")] == ["samples-init.png", "samples-000003.000.png"]
    tracker.close()
    assert told.of("closed") == ["w1"]
    assert read_json(home / "trackers.json")[name]["id"] == "w1"

    del told[:]
    grid(home, "000004.000")
    tracker = open_tracker(name, home, never)  # it resumes
    assert told.of("begun") == [("frugan", "a run", "w1")]
    grid(home, "000005.000")
    tracker.log({"kimg": 5.0})
    assert [image for image, _ in told.of("image")] == ["samples-000005.000.png"]


def test_each_service_keeps_its_own_name(told: Told, home: Path) -> None:
    for name in SERVICES:
        open_tracker(name, home, never)
    assert [*read_json(home / "trackers.json")] == [*SERVICES]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_that_fails_is_told_of_once(
    name: str, told: Told, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And has the sample grids that it missed once it is back."""
    said: list[str] = []
    tracker = open_tracker(name, home, said.append)
    kind = FAKES[name]
    works = {
        method: getattr(kind, method)
        for method in ("log", "log_batch", "track", "finish", "set_terminated", "close")
        if hasattr(kind, method)
    }

    def fails(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route")

    for method in works:
        monkeypatch.setattr(kind, method, fails)
    tracker.log(RECORD)
    tracker.log(RECORD)
    assert said == [f"{name} does not take records any more (no route); training goes on"]
    for method, work in works.items():
        monkeypatch.setattr(kind, method, work)
    tracker.log(RECORD)
    assert ("p", 0.25, 2000) in told.scalars()
    assert len(told.of("image")) == 1
    for method in works:
        monkeypatch.setattr(kind, method, fails)
    tracker.close()
    assert len(said) == 2


def test_a_service_that_cannot_begin(told: Told, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: Any, **__: Any) -> None:
        raise RuntimeError("no key")

    monkeypatch.setattr(FakeWandb, "init", refuses)
    with pytest.raises(
        FruganError, match=r"tracker wandb cannot begin: .*no key.*; fix that, or take it out of trackers"
    ):
        open_tracker("wandb", home, never)
    (home / "trackers.json").write_text("{")
    with pytest.raises(FruganError, match=r"trackers\.json is damaged"):
        open_tracker("aim", home, never)


def test_names() -> None:
    assert parse_trackers("tensorboard") == ("tensorboard",)
    assert parse_trackers("aim, wandb,aim") == ("aim", "wandb")
    assert parse_trackers("none") == ()
    for text in ("wand", "", "none,wandb", "wandb,,aim"):
        with pytest.raises(FruganError, match="choose from"):
            parse_trackers(text)


def without(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr("frugan.tracking.services.find_spec", lambda name: None if name == package else found(name))


@pytest.mark.parametrize("name", SERVICES)
def test_a_missing_package(
    name: str, image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence, before images are read and anything is written."""
    without(SERVICES[name].package, monkeypatch)
    with pytest.raises(FruganError, match=rf"pip install 'frugan\[{name}\]'"):
        check_trackers([name])
    code, text = call(
        capsys,
        tmp_path,
        "train",
        image_folder,
        "run",
        "--preset",
        "tiny",
        "--kimg",
        1,
        "--tracker",
        f"tensorboard,{name}",
    )
    assert code == 2
    assert f"tracker {name} needs the package {SERVICES[name].package}: pip install 'frugan[{name}]'" in " ".join(
        text.split()
    )
    assert [*tmp_path.iterdir()] == []


def test_a_run_and_its_resume(image_folder: Path, tmp_path: Path, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several trackers at once hear the same; a resume continues them; a package that has gone is missed before the first step."""
    run = tmp_path / "run"
    for _ in train(image_folder, run, **TINY | {"kimg": 0.08}, tracker="wandb,tensorboard,aim"):
        pass
    assert sorted(told.of("closed")) == ["w1", "w1"]
    assert [name for _, name, _ in told.of("begun")] == ["run", "run"]
    counts = {images for _, _, images in told.scalars()}
    assert counts == {40, 80}
    assert len([1 for name, _, _ in told.scalars() if name == "loss/generator"]) == 4
    assert {image for image, _ in told.of("image")} >= {"samples-init.png", "samples-000000.080.png"}
    assert any((run / "tensorboard").iterdir())
    del told[:]
    for _ in Run(run).train(kimg=0.12):
        pass
    assert [begun[2] for begun in told.of("begun")] == ["w1", "w1"]
    assert {images for _, _, images in told.scalars()} == {120}
    assert "samples-init.png" not in {image for image, _ in told.of("image")}
    without("aim", monkeypatch)
    with pytest.raises(FruganError, match="needs the package aim"):
        next(iter(Run(run).train(kimg=0.2)))


def test_none(image_folder: Path, tmp_path: Path) -> None:
    for _ in train(image_folder, tmp_path / "run", **TINY | {"kimg": 0.04}, tracker="none"):
        pass
    assert not (tmp_path / "run" / "tensorboard").exists()
    assert (tmp_path / "run" / "stats.jsonl").stat().st_size


def tracked(name: str, home: Path) -> str:
    """Two sessions of one run, with the package itself; the run's id."""
    for kimg in (2.0, 3.0):
        tracker = open_tracker(name, home, never)
        grid(home, f"{kimg:010.3f}")
        tracker.log({**RECORD, "kimg": kimg, "images": int(1000 * kimg), "p": kimg / 10})
        tracker.close()
    return read_json(home / "trackers.json")[name]["id"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the packages
class TestPackages:
    """What the packages themselves keep."""

    def test_wandb(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("wandb", reason="needs the package wandb")
        for name, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}.items():
            monkeypatch.setenv(name, value)
        number = tracked("wandb", home)
        sessions = sorted(home.glob(f"wandb/offline-run-*-{number}"))
        assert len(sessions) == 2
        written = b"".join(file.read_bytes() for session in sessions for file in session.glob("*.wandb"))
        assert all(text in written for text in (b"images", b"samples", b"latent"))
        assert sorted(file.parent.name for session in sessions for file in session.rglob("*.png")) == ["images"] * 3

    def test_mlflow(self, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        mlflow = pytest.importorskip("mlflow", reason="needs the package mlflow")
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
        number = tracked("mlflow", home)
        client = mlflow.MlflowClient((tmp_path / "store").as_uri())
        run = client.get_run(number)
        assert (run.info.run_name, run.info.status) == ("a run", "FINISHED")
        assert run.data.params == SETTINGS
        assert [(m.step, m.value) for m in client.get_metric_history(number, "p")] == [(2000, 0.2), (3000, 0.3)]
        grids = [file.path for file in client.list_artifacts(number, "samples")]
        assert grids == [f"samples/samples-{name}.png" for name in ("000002.000", "000003.000", "init")]

    def test_aim(self, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        aim = pytest.importorskip("aim", reason="needs the package aim")
        (tmp_path / "repo").mkdir()
        monkeypatch.setenv("AIM_REPO", str(tmp_path / "repo"))
        number = tracked("aim", home)
        run = aim.Run(run_hash=number, repo=str(tmp_path / "repo"))
        assert run.name == "a run"
        assert run["config"] == SETTINGS
        (p,) = [metric for metric in run.metrics() if metric.name == "p"]
        found = p.dataframe().sort_values("step")
        assert found["step"].tolist() == [2000, 3000]
        assert found["value"].tolist() == pytest.approx([0.2, 0.3])
        images = run.get_image_sequence("samples", importlib.import_module("aim.storage.context").Context({}))
        assert len(images.values.sparse_list()[0]) == 2
