"""A resume is a resume: however a run was stopped, going on gives bit for bit the run that never stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import frugan
from frugan.data import open_dataset
from frugan.data.labels.encode import one_hot
from frugan.errors import FruganError
from frugan.networks import Discriminator, Generator
from frugan.run.build import build
from frugan.run.train import Run
from frugan.tracking import read_stats
from frugan.training import TrainState

from .conftest import TINY

TIMES = ("seconds", "seconds_total", "seconds_per_kimg", "memory_bytes", "host_memory_bytes", "device_memory_bytes")


def final_tensors(run: Path) -> dict[str, torch.Tensor]:
    found = Run(run).latest()
    assert found is not None
    return safetensors.torch.load_file(found.path / "training.safetensors")


def comparable(run: Path) -> list[dict]:
    return [
        {k: v for k, v in row.items() if k not in TIMES and "memory" not in k}
        for row in read_stats(run / "stats.jsonl")
    ]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, image_folder: Path) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    os.environ["FRUGAN_CACHE"] = str(tmp_path_factory.getbasetemp() / "cache")
    list(frugan.train(image_folder, out, device="cpu", **TINY))
    return out


def assert_same(run: Path, reference: Path) -> None:
    ours, theirs = final_tensors(run), final_tensors(reference)
    assert ours.keys() == theirs.keys()
    different = [k for k in ours if not torch.equal(ours[k], theirs[k])]
    assert not different


def test_numbered_classes_as_runs_had_them_at_first(tmp_path: Path, image_folder: Path) -> None:
    """With a column for every number up to the largest, the gaps' too: such a run goes on as if nothing had changed."""
    data = Path(shutil.copytree(image_folder, tmp_path / "data"))
    names = sorted(str(file.relative_to(data)) for file in data.rglob("*.png"))
    numbers = [(1, 4, 11)[i % 3] for i in range(len(names))]
    (data / "dataset.json").write_text(json.dumps({"labels": [list(row) for row in zip(names, numbers)]}))
    options = {**TINY, "labels": "dataset.json", "conditional": True}

    def as_at_first(codes: Sequence[int], *_: object) -> tuple[np.ndarray, None]:
        return one_hot(np.array(codes), max(codes) + 1), None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("frugan.data.labels.encode.from_integers", as_at_first)
        patch.setattr("frugan.data.labels.encode.Labels.classes", None)  # nor were held-out images stratified
        list(frugan.train(data, tmp_path / "whole", device="cpu", **options))
        list(frugan.train(data, tmp_path / "run", device="cpu", **{**options, "kimg": 0.08}))  # pyright: ignore[reportArgumentType]
    list(Run(tmp_path / "run").train(kimg=TINY["kimg"], device="cpu"))
    assert Run(tmp_path / "run").config.generator.label_size == 12
    assert_same(tmp_path / "run", tmp_path / "whole")
    others = [[name, number + 1] for name, number in zip(names, numbers)]
    (data / "dataset.json").write_text(json.dumps({"labels": others}))
    with pytest.raises(FruganError, match="have changed since this run began"):
        Run(tmp_path / "run").open_data()


def test_the_state_is_whole(reference: Path) -> None:
    """What must be in a checkpoint, by name: no more, no less; without any one of them a resume would drift, or is refused."""
    tensors = final_tensors(reference)
    found = Run(reference).latest()
    assert found is not None
    config = Run(reference).config
    networks = {"G": Generator(config.generator), "D": Discriminator(config.discriminator)}
    networks["ema"] = networks["G"]
    expected = {f"{name}/{key}" for name, network in networks.items() for key in network.state_dict()}
    for name in ("G", "D"):
        count = len(list(networks[name].parameters()))
        slots = ("step", "exp_avg", "exp_avg_sq")
        expected |= {f"optimizer_{name}/{i}/{slot}" for i in range(count) for slot in slots}
    expected |= {f"controller/{k}" for k in ("p", "r_t", "r_v", "sums", "minibatches", "images", "seen")}
    expected |= {"path_length_mean", "logit_means", "bad_streak"}
    assert set(tensors) == expected
    moved = ("controller/p", "controller/seen", "path_length_mean", "logit_means", "ema/mapping.w_avg")
    assert all(tensors[name].abs().sum() > 0 for name in moved)
    facts = found.facts
    assert (facts["images"], facts["step"], facts["rollbacks"], facts["seed"]) == (160, 20, 0, 0)
    # 32 images train, so 160 of them are five epochs
    assert facts["sampler"] in [{"seed": 0, "epoch": e, "position": p, "size": 32} for e, p in ((4, 32), (5, 0))]
    state, _ = build(config, open_dataset(config.data), torch.device("cpu"))
    for name in ("G/mapping.fc0.weight", "D/b4.fc.bias", "ema/mapping.w_avg", "controller/p", "controller/sums"):
        with pytest.raises(FruganError, match=r"does not fit|lacks"):
            state.load_state_dict({k: v for k, v in tensors.items() if k != name}, facts)
    state.load_state_dict(tensors, facts)
    again, numbers = state.state_dict()
    assert numbers == {k: v for k, v in facts.items() if k != "metrics"}
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[k].nan_to_num(), v.nan_to_num()) for k, v in tensors.items())


def test_weights_and_what_adam_keeps_of_them_are_channels_last(tmp_path: Path, reference: Path) -> None:
    """After loading, too: the fused step goes through memory in order, and files are contiguous."""
    run = shutil.copytree(reference, tmp_path / "run")
    seen = []
    create = TrainState.create
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainState, "create", lambda *a, **k: seen.append(create(*a, **k)) or seen[-1])
        list(Run(run).train(kimg=TINY["kimg"] + 0.05, device="cpu"))
    for optimizer in seen[0].optimizers().values():
        weights = [p for group in optimizer.param_groups for p in group["params"] if p.ndim == 4]
        assert weights
        for weight in weights:
            kept = [v for v in optimizer.state[weight].values() if v.ndim == 4]
            assert all(v.is_contiguous(memory_format=torch.channels_last) for v in (weight, *kept))


def test_stopped_between_steps_and_resumed(tmp_path: Path, image_folder: Path, reference: Path) -> None:
    """Stops at a step that is neither a tick nor a checkpoint."""
    calls = iter(range(10**6))
    list(frugan.train(image_folder, tmp_path / "run", device="cpu", stop=lambda: next(calls) == 6, **TINY))
    assert Run(tmp_path / "run").latest().images == 7 * 8
    list(Run(tmp_path / "run").train(device="cpu"))
    assert_same(tmp_path / "run", reference)


def test_abandoned_iterator_and_resumed(tmp_path: Path, image_folder: Path, reference: Path) -> None:
    records = frugan.train(image_folder, tmp_path / "run", device="cpu", **TINY)
    next(records)
    records.close()  # pyright: ignore[reportAttributeAccessIssue]
    list(Run(tmp_path / "run").train(device="cpu"))
    assert_same(tmp_path / "run", reference)
    assert comparable(tmp_path / "run") == comparable(reference)


SCRIPT = """
import os, sys, torch, frugan
from frugan.cli.common import stop_on_signal
from frugan.training import step
torch.set_num_threads(1)
real = step.update

def update(state, name, *args):
    if state.step == 13:  # in the midst of a step, past the first checkpoint
        step.update = real
        os.kill(os.getpid(), int(sys.argv[3]))
    real(state, name, *args)

step.update = update
with stop_on_signal() as stop:
    for _ in frugan.train(sys.argv[1], sys.argv[2], device="cpu", stop=stop, **eval(sys.argv[4])):
        pass
"""


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda s: s.name)
def test_signalled_and_resumed(tmp_path: Path, image_folder: Path, reference: Path, kind: signal.Signals) -> None:
    run = tmp_path / "run"
    words = [sys.executable, "-c", SCRIPT, image_folder, run, str(kind.value), repr(TINY)]
    done = subprocess.run(words, check=False, timeout=240)
    assert done.returncode == (-signal.SIGKILL if kind == signal.SIGKILL else 0)
    found, whole = Run(run).latest(), Run(reference).latest()
    assert found is not None
    assert whole is not None
    assert 80 <= found.images < whole.images
    list(Run(run).train(device="cpu"))
    assert_same(run, reference)
    if kind == signal.SIGKILL:
        assert comparable(run) == comparable(reference)


def test_longer_total(tmp_path: Path, image_folder: Path, reference: Path) -> None:
    """Training half as long first, then to the full length, is the same as training to the full length."""
    list(frugan.train(image_folder, tmp_path / "run", device="cpu", **{**TINY, "kimg": 0.08}))  # pyright: ignore[reportArgumentType]
    list(Run(tmp_path / "run").train(kimg=0.16, device="cpu"))
    assert_same(tmp_path / "run", reference)
