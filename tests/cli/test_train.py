"""`frugan train` up to the first step: sizes under every preset, what is refused, and which directory is made."""

from __future__ import annotations

from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
from PIL import Image

from frugan.cli import train as train_module
from frugan.config.presets import PRESETS
from frugan.config.schema import load_config
from frugan.run.estimate import Cost
from tests.program import call


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A working directory with 12 images."""
    write_images(tmp_path / "photos", 12)
    return tmp_path


@pytest.fixture
def nothing_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Configurations are resolved, and no network is built or timed."""
    monkeypatch.setattr("frugan.run.plan._check_start", lambda *_: None)
    monkeypatch.setattr("frugan.run.plan.pace", lambda config: 1.0)
    monkeypatch.setattr("frugan.run.estimate.estimate", lambda config, device: Cost(1, 1, 1.0, 2**20))
    monkeypatch.setattr("frugan.cli.train.go_on", lambda *args, **kwargs: None)


def write_images(folder: Path, count: int) -> None:
    folder.mkdir()
    for i, pixels in enumerate(np.random.default_rng(0).integers(0, 255, (count, 16, 16, 3), np.uint8)):
        Image.fromarray(pixels).save(folder / f"{i}.png")


@pytest.mark.usefixtures("nothing_built")
@pytest.mark.parametrize("size", ["16", "144x256", "160x192", "192", "640", "96x512"])
@pytest.mark.parametrize("preset", PRESETS)
def test_sizes_and_presets(preset: str, size: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One image is enough. What is shown is the configuration of that size, and nothing is written."""
    write_images(tmp_path / "photo", 1)
    options = ["--resolution", size, "--preset", preset, "--dry-run", "--device", "cpu", "--threads", 1]
    code, text = call(capsys, tmp_path, "train", "photo", *options)
    assert code == 0, text
    h, w = (size if "x" in size else f"{size}x{size}").split("x")
    assert f"1 image of {h}x{w}" in text
    assert "generator:" in text
    assert [path.name for path in tmp_path.iterdir()] == ["photo"]


def test_of_one_image_none_can_be_held_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path / "photo", 1)
    for share in ("0.5", "1"):
        code, text = call(capsys, tmp_path, "train", "photo", "--preset", "tiny", "--held-out", share, "--dry-run")
        assert code == 2
        assert "held out" in text or "--held-out" in text
        assert "Traceback" not in text


@pytest.mark.usefixtures("nothing_built")
def test_the_run_directory(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Named by place, by --out, or after the data and numbered: it is the one that is told and made."""
    runs = [([], "runs/photos"), ([], "runs/photos-2"), (["mine"], "mine"), (["--out", "own/place"], "own/place")]
    for more, place in runs:
        code, text = call(
            capsys, photos, "train", "photos", *more, "--preset", "tiny", "--device", "cpu", "--threads", 1
        )
        assert code == 0, text
        assert more or f"run directory: {place}" in text
        assert load_config(photos / place / "config.yaml").data.path == str(photos / "photos")
    made = sorted(str(path.parent.relative_to(photos)) for path in photos.rglob("config.yaml"))
    assert made == sorted(place for _, place in runs)


WRONG = {
    "data": ("nowhere", "nowhere"),
    "preset": ("photos --preset tinny", "did you mean 'tiny'"),
    "method": ("photos --method adaa", "did you mean 'ada'"),
    "resolution": ("photos --resolution 17", "17x17"),
    "value_range": ("photos --value-range 9,3", "9,3"),
    "channels": ("photos --channels RGBX", "RGBX"),
    "masks": ("photos --masks nowhere", "nowhere"),
    "group": ("photos --held-out 0.5 --group regex:(", "regex:("),
    "crops": ("photos --crops few --crop-size 8", "few"),
    "labels": ("photos --conditional --labels nowhere.csv", "nowhere.csv"),
    "transforms": ("photos --transforms bgcc", "did you mean 'bgc'"),
    "diffaugment": ("photos --diffaugment color,cutou", "did you mean 'cutout'"),
    "measurement": ("photos --measurement drop-pixel:0.5", "did you mean 'drop-pixels'"),
    "consistency_transforms": ("photos --method bcr --consistency-transforms xflop", "did you mean 'xflip'"),
    "batch_per_device": ("photos --batch-per-device few", "'few'"),
    "init_from": ("photos --init-from nowhere", "nowhere"),
    "freeze_d": ("photos --freeze-d many", "freeze"),
    "freeze_g": ("photos --freeze-g many", "freeze"),
    "metrics": ("photos --evaluate-kimg 1 --metrics fidd", "did you mean 'fid'"),
    "features": ("photos --evaluate-kimg 1 --features incepton", "did you mean 'inception'"),
    "weights": ("photos --evaluate-kimg 1 --features inception --weights nowhere.bin", "nowhere.bin"),
    "device": ("photos --device tpu", "tpu"),
    "architecture": ("photos --architecture stylegan22", "did you mean 'stylegan2'"),
    "threads": ("photos --threads few", "'few'"),
    "tracker": ("photos --tracker wandbb", "did you mean 'wandb'"),
}
SMALL = "--preset tiny --channel-base 64 --channel-max 8 --latent 16"
TEXTS = [name for name, hint in get_type_hints(train_module.train).items() if str in (hint, *get_args(hint))]


@pytest.mark.parametrize("name", TEXTS)
def test_every_text_is_checked_before_the_directory_is_made(
    name: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A new option fails here until it has a case."""
    arguments, word = WRONG[name]
    if name not in ("preset", "freeze_d", "freeze_g"):
        arguments += f" {SMALL} --batch 4"
    if name != "device":
        arguments += " --device cpu"
    if name != "threads":
        arguments += " --threads 1"
    code, text = call(capsys, photos, "train", *arguments.split())
    assert code == 2, text
    assert word in text.replace("\n", " ")
    assert "Traceback" not in text
    assert [path.name for path in photos.iterdir()] == ["photos"]


LINES = (
    "train photo", "train x --init-from photo", "resume photo", "status photo", "generate photo", "evaluate photo", "leaks photo",
    "import photo out", "export photo out --format onnx", "edit photo --direction x:0", "data inspect photo",
    "data prepare photo out", "data shard photo out",
)  # fmt: skip


@pytest.mark.parametrize("line", LINES)
def test_paths_that_were_meant(line: str, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = call(capsys, photos, *line.split())
    assert code == 2, text
    assert "did you mean photos" in text.replace("\n", " "), text


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_the_batch_at_once_is_of_one_process(
    processes: int, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """--batch-per-device auto: at most a process's share of the batch, in a share of this machine's memory."""
    asked = []

    def affords(phases: object, group: int, free_bytes: int):
        asked.append(free_bytes)
        return lambda n: True

    monkeypatch.setattr("frugan.training.trial.free_memory", lambda: 2**40)
    monkeypatch.setattr("frugan.training.trial.affords", affords)
    options = f"{SMALL} --batch 32 --device cpu --threads 1 --batch-per-device auto"
    monkeypatch.setattr("frugan.cli.train.go_on", lambda *args, **kwargs: None)
    monkeypatch.setattr("frugan.run.plan.pace", lambda config: 1.0)
    code, text = call(capsys, photos, "train", "photos", "run", *options.split(), "--processes", processes)
    assert code == 0, text
    assert asked == [2**40 // processes]
    assert load_config(photos / "run" / "config.yaml").training.batch_per_device == 32 // processes
