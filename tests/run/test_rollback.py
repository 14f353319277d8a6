"""Warnings of the monitors in a run: on the page, in the log, on the terminal; a resume says what the whole run says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import frugan
from frugan.run.rollback import MAX_ROLLBACKS
from frugan.run.sample_grid import diversity
from frugan.run.train import Run
from frugan.tracking import monitors as health
from frugan.tracking import read_stats

from .conftest import TINY


def warnings(run: Path) -> list[tuple[float, str]]:
    return [(r["kimg"], w) for r in read_stats(run / "stats.jsonl") for w in r.get("warnings", [])]


def test_a_resume_warns_like_the_whole_run(tmp_path: Path, image_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "CAP_KIMG", 0.04)
    options = {**TINY, "p_max": 0.3, "ada_kimg": 0.05, "tick_kimg": 0.016}
    list(frugan.train(image_folder, tmp_path / "whole", device="cpu", **options))
    records = frugan.train(image_folder, tmp_path / "run", device="cpu", **options)
    while not next(records).get("warnings"):
        pass
    records.close()  # pyright: ignore[reportAttributeAccessIssue]
    list(Run(tmp_path / "run").train(device="cpu"))
    assert warnings(tmp_path / "run") == warnings(tmp_path / "whole")
    ((_, said),) = warnings(tmp_path / "whole")
    assert "p has rested at its cap of 0.3" in said
    assert said in json.loads((tmp_path / "run/run.json").read_text())["warnings"]
    assert "rested at its cap" in (tmp_path / "run/index.html").read_text()


def blow_up(monkeypatch: pytest.MonkeyPatch, after: int, times: int) -> None:
    """D's weights grow a thousandfold, `times` times."""
    from frugan.training import loop

    real, calls = loop.train_step, iter(range(10**6))

    def step(state, *args):
        if after <= next(calls) < after + times:
            with torch.no_grad():
                list(state.D.parameters())[-2].mul_(1e4)
        real(state, *args)

    monkeypatch.setattr(loop, "train_step", step)


def test_outputs_that_blow_up_are_warned_of(
    tmp_path: Path, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blow_up(monkeypatch, 12, 1)
    list(frugan.train(image_folder, tmp_path / "run", device="cpu", **TINY))
    assert any("D's outputs spread over" in said for _, said in warnings(tmp_path / "run"))
    assert json.loads((tmp_path / "run/run.json").read_text())["events"] == []


def test_rollback_with_lower_rates(tmp_path: Path, image_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is recorded, limited in number, and the lower rates outlast a resume."""
    blow_up(monkeypatch, 12, 1)
    options = {**TINY, "rollback_lr": 0.5}
    records = list(frugan.train(image_folder, tmp_path / "run", device="cpu", **options))
    assert [r["rollbacks"] for r in records] == [0, 0, 1, 1]
    (event,) = json.loads((tmp_path / "run/run.json").read_text())["events"]
    assert "went back to 0 kimg with new random numbers and learning rates × 0.5" in event
    assert "spread over" in event
    rates: list[list[float]] = []
    real = frugan.run.session.training_steps

    def steps(state, *args):
        for report in real(state, *args):
            rates.append(
                [o.param_groups[0]["lr"] / o.param_groups[0]["initial_lr"] for o in state.optimizers().values()]
            )
            yield report

    monkeypatch.setattr(frugan.run.session, "training_steps", steps)
    list(Run(tmp_path / "run").train(kimg=0.2, device="cpu"))
    assert rates
    assert all(rate == [0.5, 0.5] for rate in rates)


def test_a_rollback_has_new_random_numbers_and_leaves_no_stale_records(
    tmp_path: Path, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records later than the checkpoint are dropped and come again, from other latents than the first time."""
    options = {**TINY, "tick_kimg": 0.016, "rollback_lr": 1 - 1e-9, "held_out": 0, "target": -0.9}
    healthy = list(frugan.train(image_folder, tmp_path / "healthy", device="cpu", **options))
    blow_up(monkeypatch, 13, 1)
    given = list(frugan.train(image_folder, tmp_path / "run", device="cpu", **options))
    records = read_stats(tmp_path / "run/stats.jsonl")
    assert [r["step"] for r in records] == [r["step"] for r in healthy]  # each once
    assert [r["rollbacks"] for r in records] == [int(r["kimg"] > 0.0801) for r in records]
    stale = [r for r in given if r["rollbacks"] == 0 and r["kimg"] > 0.0801]
    assert stale
    for once, again in zip(healthy, records, strict=True):
        same = once["loss/generator"] == again["loss/generator"]
        assert same == (again["rollbacks"] == 0), again["kimg"]
    found = Run(tmp_path / "run").latest()
    assert found is not None
    assert found.facts["seed"] != 0
    assert found.facts["rollbacks"] == 1


def test_rollbacks_end(tmp_path: Path, image_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blow_up(monkeypatch, 12, 10**6)
    with pytest.raises(frugan.FruganError, match="diverged"):
        list(frugan.train(image_folder, tmp_path / "run", device="cpu", **TINY, rollback_lr=0.5))
    events = json.loads((tmp_path / "run/run.json").read_text())["events"]
    assert len(events) == MAX_ROLLBACKS


def test_diversity() -> None:
    """0 where all images are one; that of independent noise is its standard deviation times √2."""
    noise = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert diversity(noise[:1].expand(64, -1, -1, -1)) == 0
    assert diversity(noise) == pytest.approx(2**0.5, rel=0.01)
    assert diversity(noise[:1]) == 0
