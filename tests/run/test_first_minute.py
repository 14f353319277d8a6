"""What a user sees while a run is young, slow, or gone: an early record, signs of life, a length that ends."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import frugan
from frugan.config.options import Options
from frugan.config.resolve import Facts, resolve
from frugan.data import DataConfig
from frugan.run.plan import DAY, _ending_tonight
from frugan.run.train import Run
from frugan.tracking import read_stats
from tests.program import call

from .conftest import TINY
from .test_resume import final_tensors

SHORT: dict[str, Any] = TINY | {"kimg": 0.064, "tick_kimg": 50.0, "samples_kimg": 50.0, "checkpoint_kimg": 50.0}
MACHINE = "--preset tiny --batch 8 --channel-base 64 --channel-max 8 --latent 16 --device cpu".split()  # noqa: SIM905


def test_an_early_record_changes_nothing_of_training(
    tmp_path: Path, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(frugan.train(image_folder, tmp_path / "plain", device="cpu", **SHORT))
    monkeypatch.setattr("frugan.run.session.EARLY_SECONDS", 0.0)
    list(frugan.train(image_folder, tmp_path / "early", device="cpu", **SHORT))
    plain, early = (read_stats(tmp_path / name / "stats.jsonl") for name in ("plain", "early"))
    assert [r["kimg"] for r in plain] == [0.064]
    assert [r["kimg"] for r in early] == [0.008, 0.064]
    assert early[0]["diversity"] > 0
    assert (tmp_path / "early" / "samples" / "samples-000000.008.png").is_file()
    a, b = (final_tensors(tmp_path / name) for name in ("plain", "early"))
    assert all(torch.equal(a[k], b[k]) for k in a.keys() | b.keys())
    list(Run(tmp_path / "early").train(kimg=0.096, device="cpu"))  # not early any more: it has records
    assert [r["kimg"] for r in read_stats(tmp_path / "early" / "stats.jsonl")] == [0.008, 0.064, 0.096]


def test_steps_are_heard_and_signs_of_life_written(
    tmp_path: Path, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between records, too: a page that only records rewrote would look dead for hours."""
    monkeypatch.setattr("frugan.run.reporting.SIGN_SECONDS", 0.0)
    frugan.train(image_folder, tmp_path / "run", device="cpu", **SHORT).close()  # pyright: ignore[reportAttributeAccessIssue]
    heard: list[float] = []
    written: list[float] = []

    def stepping(kimg: float) -> None:
        heard.append(kimg)
        written.append(json.loads((tmp_path / "run" / "run.json").read_text())["kimg"])
        assert Run(tmp_path / "run").status().name == "running"

    list(Run(tmp_path / "run").train(device="cpu", stepping=stepping))
    assert heard == pytest.approx([0.008 * i for i in range(1, 9)])
    assert written == [0.0, *heard[:-1]]
    assert Run(tmp_path / "run").status().name == "finished"


@pytest.fixture
def killed(tmp_path: Path, image_folder: Path) -> Path:
    """A run that says it is running, two hours after the process had gone."""
    run = tmp_path / "run"
    list(frugan.train(image_folder, run, device="cpu", **SHORT))
    facts = json.loads((run / "run.json").read_text())
    then = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() - 7500))
    (run / "run.json").write_text(json.dumps(facts | {"status": "running", "sign_of_life": then}))
    return run


def test_a_killed_run_is_told_of(killed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = call(capsys, killed.parent, "status", "run")
    assert code == 0, text
    assert "killed: no sign of life for 2 hours 5 minutes" in text
    assert "resume run" in text
    measure = ("evaluate", "run", "--metrics", "kid_full", "--samples", 10, "--against", "train", "--device", "cpu")
    code, text = call(capsys, killed.parent, *measure)
    assert code == 0, text
    assert "run is killed: no sign of life for 2 hours 5 minutes; of 0.064 kimg it has 0.064" in text
    code, text = call(capsys, killed.parent, "resume", "run", "--device", "cpu", "--kimg", 0.072)
    assert code == 0, text
    assert "no sign of life for 2 hours 5 minutes" in text
    _, text = call(capsys, killed.parent, "status", "run")
    assert "finished" in text
    code, text = call(capsys, killed.parent, *measure)
    assert code == 0, text
    assert "killed" not in text


@pytest.mark.parametrize("sign", [None, 3, "yesterday", [], "9999-99-99"])
def test_a_sign_of_life_that_is_none(sign: Any, killed: Path) -> None:
    """Of an earlier version, or edited by hand."""
    facts = json.loads((killed / "run.json").read_text())
    (killed / "run.json").write_text(json.dumps(facts | {"sign_of_life": sign}))
    assert Run(killed).status().sentence == "killed"


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of threads that were set, the last one in force: on a machine of three cores, without its threads."""
    set_so_far = [3]
    monkeypatch.setattr("torch.set_num_threads", set_so_far.append)
    monkeypatch.setattr("torch.get_num_threads", lambda: set_so_far[-1])
    monkeypatch.setattr("frugan.training.threads.usable_cores", lambda: 3)
    return set_so_far


def test_threads_are_kept_and_given_back(
    counts: list[int],
    tmp_path: Path,
    image_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A resume computes with as many as the run began with; --threads is from now on."""
    monkeypatch.setattr("frugan.training.threads.choose_threads", lambda work, most: (most - 1, {2: 0.5, 3: 0.6}))
    monkeypatch.setattr("frugan.run.reporting.BUSY", math.inf)  # however slow the machine is meanwhile
    seen: list[int] = []
    step = frugan.run.session.training_steps

    def steps(*arguments: Any) -> Any:
        for report in step(*arguments):
            seen.append(counts[-1])
            yield report

    monkeypatch.setattr("frugan.run.session.training_steps", steps)
    out = tmp_path / "run"
    code, text = call(capsys, tmp_path, "train", image_folder, "--out", out, *MACHINE, "--kimg", 0.008)
    assert code == 0, text
    assert "2 CPU threads" in text
    assert counts[-1] == 3
    for more, expected in (([], 2), (["--threads", 3], 3), ([], 3), (["--threads", 1], 1), ([], 1)):
        code, text = call(capsys, tmp_path, "resume", out, "--kimg", (Run(out).latest().images + 8) / 1000, *more)
        assert code == 0, text
        assert Run(out).config.threads == expected
    assert seen == [2, 2, 3, 3, 1, 1]


def test_a_machine_that_became_busy_is_told_once(
    counts: list[int], tmp_path: Path, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frugan.training.threads.choose_threads", lambda *_: (1, {1: 0.1, 2: 1.5}))
    monkeypatch.setattr("frugan.run.reporting.BUSY", 0.0)
    options = TINY | {"kimg": 0.064, "tick_kimg": 0.016, "threads": 2}
    records = list(frugan.train(image_folder, tmp_path / "busy", device="cpu", **options))
    (warning,) = [w for r in records for w in r.get("warnings", []) if "busy" in w]
    assert "15.0 times as fast" in warning
    assert f"resume {tmp_path / 'busy'} --threads 1`" in warning
    monkeypatch.setattr("frugan.run.reporting.BUSY", 1e9)
    records = list(frugan.train(image_folder, tmp_path / "idle", device="cpu", **options))
    assert not [w for r in records for w in r.get("warnings", []) if "busy" in w]


# ---- without a GPU ----

FACTS = Facts(resolution=(64, 64), channels=3, label_size=0, images=500, held_out=0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(auto=st.floats(0.1, 1e6), tiny=st.floats(0.01, 1e5), fine_tuning=st.booleans())
def test_what_nobody_asked_for_ends_within_a_day(
    auto: float, tiny: float, fine_tuning: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DataConfig("photos")
    monkeypatch.setattr("frugan.run.plan.pace", lambda config: tiny if config.generator.z_dim == 128 else auto)
    asked = Options(init_from="network" if fine_tuning else None)
    options, note = _ending_tonight(asked, data, FACTS)
    config, _ = resolve(options, data, FACTS)
    pace = auto if fine_tuning or auto * 25000 <= DAY else tiny
    assert pace * config.kimg <= DAY or config.kimg == 1
    assert (note is None) == (auto * 25000 <= DAY) == (options == asked)
    assert not (fine_tuning and options.preset)


def test_it_says_so_and_how_to_have_the_other(
    tmp_path: Path, image_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frugan.run.plan.pace", lambda config: 1.0 if config.generator.z_dim == 128 else 1521.0)
    train = ("train", image_folder, "--out", "run", "--device", "cpu", "--threads", 1, "--dry-run")
    code, text = call(capsys, tmp_path, *train)
    assert code == 0, text
    assert "preset auto would take 440 days" in text
    assert "This run takes preset tiny, 100 kimg" in text
    assert "--dry-run --preset auto" in text
    assert "done on" in text
    for asked in (("--preset", "tiny"), ("--kimg", 1, "--channel-base", 64, "--channel-max", 8)):
        code, text = call(capsys, tmp_path, *train, *asked)
        assert code == 0, text
        assert "no GPU" not in text


def test_python_is_warned_once_that_it_is_not_preset_auto(
    tmp_path: Path, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frugan.run.plan.pace", lambda config: 1.0 if config.generator.z_dim == 128 else 1521.0)
    with pytest.warns(
        UserWarning, match="preset tiny, 100 kimg. For preset auto all the same, give preset=.auto."
    ) as warned:
        frugan.train(image_folder, tmp_path / "run", device="cpu", threads=1).close()  # pyright: ignore[reportAttributeAccessIssue]
    assert [w.filename for w in warned] == [__file__]
    frugan.train(image_folder, tmp_path / "asked", preset="tiny", device="cpu", threads=1).close()  # without one  # pyright: ignore[reportAttributeAccessIssue]


def test_the_start_says_how_long_and_where(
    tmp_path: Path, image_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = call(
        capsys, tmp_path, "train", image_folder, "--out", "my run", *MACHINE, "--kimg", 0.016, "--threads", 1
    )
    assert code == 0, text
    page = (tmp_path / "my run" / "index.html").as_uri()
    assert text.index("done on") < text.index(page) < text.index("0.008 / 0.016 kimg")
