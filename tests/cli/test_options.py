"""Every option of every command reaches its field, and no other: on its own on a command line, with the work mocked out.

A new option fails here until the table says where it belongs.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
import typer

from frugan.channels import MaskChannel
from frugan.cli import app as program
from frugan.latent.code import Code
from frugan.latent.direction import Direction, Identity
from frugan.latent.encoder import EncoderConfig
from frugan.latent.projection import Rung
from frugan.latent.targets import Targets
from frugan.latent.text.nada import Snapshot
from frugan.latent.text.search import Found
from frugan.latent.text.styleclip import MapperConfig, OptimiseConfig
from frugan.latent.tuning import TuningConfig
from frugan.leaks import Recovery
from frugan.pixel_format import PixelFormat
from frugan.run.plan import Plan
from frugan.run.train import Run
from tests.cli.test_numbers import COMMANDS

GROUP: Any = typer.main.get_command(program.app)


ABSENT = object()


class Recorder:
    """What the functions that a command calls were given, as "function.argument.field"."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: dict[str, Any] = {}
        self.monkeypatch = monkeypatch

    def watch(self, target: str, result: Any = None, *, name: str = "") -> None:
        """Replaces a function by one that notes its arguments and returns `result`, or raises it, or calls it."""
        module, _, attribute = target.rpartition(".")
        home = importlib.import_module(module) if module else None
        signature = inspect.signature(getattr(home, attribute))
        noting = self.noting(name or attribute, result, signature, called_as=attribute if name else True)
        self.monkeypatch.setattr(home, attribute, noting)

    def noting(
        self, name: str, result: Any = None, signature: inspect.Signature | None = None, *, called_as: Any = True
    ) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs).arguments if signature else {**dict(enumerate(args)), **kwargs}
            self.seen |= {name: called_as} | dict(flat(name, given))
            return result(**given) if inspect.isfunction(result) else result

        return called


def flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """What can be compared of a value, by name; objects of other kinds (networks, tensors) are left out."""
    if dataclasses.is_dataclass(value):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    elif hasattr(value, "_asdict"):
        value = value._asdict()
    elif isinstance(value, (list, tuple)):
        plain = all(isinstance(part, (str, int, float, Path)) for part in value)
        value = [str(p) if isinstance(p, Path) else p for p in value] if plain else dict(enumerate(value))
    if isinstance(value, dict):
        for key, part in value.items():
            yield from flat(f"{name}.{key}", part)
    elif isinstance(value, Path):
        yield name, str(value)
    elif value is None or isinstance(value, (str, int, float, list)):
        yield name, value


@dataclass
class Case:
    """What is given on the command line (for what the command needs anyway: in its place), and all that changes by it.

    `instead`: what the command needs for this option, where that is not what it needs otherwise.
    """

    text: str
    changes: dict[str, Any]
    instead: dict[str, str] | None = None


@dataclass
class Command:
    """How its functions are watched, what it needs on the command line, and a case for each parameter (or several)."""

    watch: Callable[[Recorder], None]
    needs: dict[str, str]
    cases: dict[str, Case | tuple[Case, ...]] = field(default_factory=dict)


def each(prefix: str, **values: Any) -> dict[str, Case]:
    """Options that become the field of their own name: `True` for a switch."""
    return {name: Case(on_line(name, value), {f"{prefix}.{name}": value}) for name, value in values.items()}


def crop_options(prefix: str, instead: dict[str, str]) -> dict[str, Case]:
    """Options of crops, which go together."""
    given = {"crops": "grid", "crop_size": 32, "crop_overlap": 0.5, "crop_rotations": True, "crop_seed": 5}
    cases = {name: Case(on_line(name, value), {f"{prefix}.{name}": value}, instead) for name, value in given.items()}
    random = {**instead, "": "--crops=9 --crop-size=64"}
    return cases | {"crops": Case("--crops=grid", {f"{prefix}.crops": "grid"}, random)}


def on_line(name: str, value: Any) -> str:
    option = "--" + name.replace("_", "-")
    return option if value is True else f"{option}={value}"


def call(name: str, /, **given: Any) -> dict[str, Any]:
    """What is noted of a call of a function."""
    return {name: True} | dict(flat(name, given))


def generator() -> MagicMock:
    G = MagicMock(resolution=(32, 32), channels=3, label_size=0, pixels=PixelFormat())
    G.to.return_value = G.cpu.return_value = G
    G.synthesis.sizes = [(4, 4), (8, 8), (16, 16), (32, 32)]
    G.config.measured = ()
    G.config.masks = (MaskChannel((0, 1)),)
    G.without_masks.return_value = G
    G.config.synthesis.tile = "xy"
    G.mapping.w_avg.device = torch.device("cpu")
    return G


def identity(G: Any) -> Identity:
    return Identity("digest", torch.zeros(1), ())


CODE = Code("a", torch.zeros(14, 8), identity(None), facts={"image": "a", "space": "encoder"})


# --- train, resume


def watch_train(rec: Recorder) -> None:
    dataset: Any = MagicMock()
    rec.watch("frugan.device.choose_device", torch.device("cpu"))
    rec.watch("frugan.run.directory.check_free")
    rec.watch("frugan.run.plan.plan", Plan(MagicMock(), [], dataset, None))
    for name in ("describe", "show_configuration", "show_cost", "show_forecast", "go_on"):
        rec.watch(f"frugan.cli.train.{name}")
    rec.monkeypatch.setattr(Run, "create", rec.noting("create"))
    rec.monkeypatch.setattr(torch, "set_num_threads", rec.noting("set_num_threads"))


def out_of(path: str) -> dict[str, Any]:
    return {"check_free.path": path, "create.0": path, "go_on.out": path}


GO_ON = [f"go_on.{name}" for name in ("out", "device", "processes", "threads", "run")]
TRAIN = Command(
    watch_train,
    {"data": "photos"},
    {
        "data": Case("other", {"plan.data.path": "other", **out_of("runs/other")}),
        "to": Case("there", out_of("there")),
        "out": Case("--out there", out_of("there")),
        "dry_run": Case(
            "--dry-run",
            dict.fromkeys(
                ["create", "create.0", "go_on", *GO_ON, "show_forecast"]
            )
            | {"show_configuration": True, "show_cost": True, "show_cost.device": "cpu"},
        ),
        "resolution": Case("--resolution 48x64", {"plan.data.resolution": [48, 64]}),
        "labels": Case("--labels=table.csv", {"plan.data.labels": "table.csv"}, {"data": "photos", "": "--conditional"}),
        "conditional": Case("--conditional", {"plan.options.conditional": True, "plan.data.labels": "auto"}),
        "balanced": Case("--balanced", {"plan.data.balanced": True, "plan.data.labels": "auto"}),
        "cache_limit": Case("--cache-limit=12.5", {"plan.data.cache_limit": 12.5}, {"data": "s3://host/{00..09}.tar"}),
        "device": Case("--device=mps", {"choose_device.name": "mps"}),
        "threads": Case(
            "--threads=3",
            {"plan.options.threads": 3, "go_on.threads": 3, "set_num_threads": True, "set_num_threads.0": 3},
        ),
        "processes": Case("--processes=4", {"plan.processes": 4, "go_on.processes": 4}),
        "batch_per_device": Case("--batch-per-device=auto", {"plan.options.batch_per_device": "auto"}),
        **each(
            "plan.data", channels="L", fit="letterbox", filter="box", background="black", value_range="3,900",
            use_generated=True, frames="all", stride=7, mirror=True, held_out=7, strict=True, group="folder:2", masks="there",
            mask_filter="smooth",
        ),
        **crop_options("plan.data", {"data": "photos", "": "--crops=grid --crop-size=64"}),
        "cuda_graphs": Case("--no-cuda-graphs", {"plan.options.cuda_graphs": False}),
        **each(
            "plan.options", preset="paper256", kimg=123.5, method="cr", seed=11, augment="fixed", controller="rv", target=0.31,
            p=0.21, p_max=0.71, ada_kimg=77.5, transforms="bgcfn", diffaugment="color", measurement="drop-pixels:0.4",
            consistency_transforms="xflip", consistency_reach=0.35, channel_base=1234, channel_max=222, d_capacity=1.5, latent=96,
            mapping_layers=5, d_mapping_layers=3, g_architecture="orig", d_architecture="skip", mbstd_group=6,
            tile="xy", images_tile="no",
            architecture="stylegan2", batch=48,
            vicinity="hard", vicinity_sigma=0.3, vicinity_kappa=0.7,
            r1_gamma=3.5, lr=0.0017, rollback_lr=0.6, path_length_weight=1.7, style_mixing=0.4, ema_half_life_kimg=9.5,
            init_from="net.pkl", allow_partial=True, freeze_d="10", freeze_g="16px", freeze_mapping=True, tick_kimg=1.5,
            samples_kimg=2.5, checkpoint_kimg=3.75, keep_last=9, evaluate_kimg=6.5, evaluate_samples=333, metrics="fid,is",
            tracker="aim,wandb", features="dinov2", weights="w.bin", precision="fp32", compile="on", activation_checkpointing=True,
        ),
    },
)  # fmt: skip


def watch_resume(rec: Recorder) -> None:
    run = MagicMock()
    for name in ("move_data", "set_threads"):
        setattr(run, name, rec.noting(name))
    rec.watch("frugan.device.choose_device", torch.device("cpu"))
    rec.monkeypatch.setattr("frugan.run.train.Run", rec.noting("Run", run))
    rec.monkeypatch.setattr(torch, "set_num_threads", rec.noting("set_num_threads"))
    rec.watch("frugan.cli.train.go_on")


RESUME = Command(
    watch_resume,
    {"run": "a-run"},
    {
        "run": Case("other", {"Run.0": "other", "go_on.out": "other"}),
        "kimg": Case("--kimg=55", {"go_on.kimg": 55.0}),
        "data": Case("--data=moved", {"move_data": True, "move_data.0": "moved"}),
        "device": Case("--device=mps", {"choose_device.name": "mps"}),
        "threads": Case(
            "--threads=3",
            {"go_on.threads": 3, "set_threads": True, "set_threads.0": 3}
            | {"set_num_threads": True, "set_num_threads.0": 3},
        ),
        "processes": Case("--processes=4", {"go_on.processes": 4}),
    },
)


# --- generate, evaluate, compare, status, import, export, leaks, demo


def watch_generate(rec: Recorder) -> None:
    G = generator()
    G.sample_batches = rec.noting("sample", [])
    rec.watch("frugan.device.choose_device", "cpu")
    rec.watch("frugan.run.load.load_with_notes", (G, []))
    rec.watch("frugan.run.load.read_class_names")
    rec.watch("frugan.latent.parse_label", lambda text, **_: None if text is None else torch.ones(1))
    rec.monkeypatch.setattr("frugan.latent.outside", lambda *_: [])
    rec.monkeypatch.setattr("frugan.networks.serialization.weights_digest", lambda _: "digest")
    for name in ("write_each", "write_npz", "write_atlas"):
        rec.watch(f"frugan.cli.output.{name}", "")
    rec.watch("frugan.cli.generate._write_grid", "")
    rec.watch("frugan.cli.generate.open_network", (G, None))
    rec.watch("frugan.latent.code.load_code", CODE)
    rec.watch("frugan.latent.code.render_points", torch.zeros(1, 3, 8, 8))
    rec.watch("frugan.image_files.save")
    rec.watch("frugan.palette.read_palette", "four colours")


OUTPUT = {f".output.{k}": v for k, v in {"channels": 3, "kind": "png", "dtype": "uint8", "stored": True}.items()}
OUTPUT |= dict(flat(".output.pixels", PixelFormat()))
TEXT = {".text.Network": "digest", ".text.Truncation": "1", ".text.Noise": "const"}
EACH = {"": True, ".seeds": [*range(16)], ".out": "generated", ".factor": 1, ".palette": None, **TEXT, **OUTPUT}
NO_EACH = {f"write_each{k}": None for k in (*EACH, ".masks")}
GRID = {"": True, ".seeds": [*range(16)], ".out": "generated", ".factor": 4, ".resolution": [32, 32]}
GRID |= TEXT | {".masks": 0, ".sweep": [], ".sheet.channels": 3} | {f".sheet{k}": v for k, v in OUTPUT.items()}
ATLAS = EACH | {".size": [32, 32]}
NPZ = {k: v for k, v in ATLAS.items() if k not in (".factor", ".palette")} | {".output.kind": "npz"}
GENERATE = Command(
    watch_generate,
    {"source": "a-run"},
    {
        "source": Case("other", {"load_with_notes.path": "other", "read_class_names.path": "other"}),
        "out": Case("--out=there", {"write_each.out": "there"}),
        "seeds": Case("--seeds=3,8-9", {"sample.0": [3, 8, 9], "write_each.seeds": [3, 8, 9]}),
        "truncation": Case("--truncation=0.7", {"sample.truncation": 0.7, "write_each.text.Truncation": "0.7"}),
        "truncation_cutoff": Case(
            "--truncation-cutoff=5",
            {"sample.truncation_cutoff": 5, "write_each.text.Truncation cutoff": "5"},
            {"source": "a-run", "truncation": "--truncation=0.7"},
        ),
        "noise": Case("--noise=random", {"sample.noise": "random", "write_each.text.Noise": "random"}),
        "label": Case("--class=cat", {"parse_label.text": "cat", "sample.c": None, "write_each.text.Class": "cat"}),
        "code": Case(
            "--code=a.safetensors",
            dict.fromkeys(
                call("load_with_notes", path="a-run")
                | call("read_class_names", path="a-run")
                | call("parse_label", text=None, label_size=0, class_names=None, measured=None)
                | call("choose_device", name="auto")
                | call("sample", c=None, batch=16, truncation=1.0, truncation_cutoff=None, noise="const")
                | {"sample.0": None}
            )
            | NO_EACH
            | call("load_code", file="a.safetensors")
            | call("open_network", network="a-run", label=None, device="auto", optional=True)
            | call("render_points", points=[CODE])
            | call("save", path="generated/a.png", alpha=False, text={"Code": "a", "Network": "digest"})
            | {"save.names": ["red", "green", "blue"]},
        ),
        "grid": Case("--grid", NO_EACH | {f"_write_grid{k}": v for k, v in GRID.items()}),
        "scale": Case("--scale=3", {"write_each.factor": 3}),
        "format": (
            Case("--format=npy", {"write_each.output.kind": "npy"}),
            Case("--format=npz", NO_EACH | {f"write_npz{k}": v for k, v in NPZ.items()}),
        ),
        "repeat": Case("--repeat=2x3", {"write_each.text.Repeat": "2x3"}),
        "pairs": Case(
            "--pairs",
            {"write_each.masks": None, "write_each.masks.0.values": [0, 1], "write_each.masks.0.bits": 8}
            | {"write_each.output.channels": 2, "write_each.output.kind": "tiff"},
        ),
        "bits": Case(
            "--bits=16",
            {"write_each.output.dtype": "uint16", "write_each.output.stored": False, "write_each.text.Bits": "16"},
        ),
        "palette": Case(
            "--palette=4",
            {
                "read_palette": True,
                "read_palette.text": "4",
                "write_each.palette": "four colours",
                "write_each.text.Palette": "4",
            },
        ),
        "atlas": Case("--atlas", NO_EACH | {f"write_atlas{k}": v for k, v in ATLAS.items()}),
        "batch": Case("--batch=5", {"sample.batch": 5}),
        "device": Case("--device=mps", {"choose_device.name": "mps"}),
    },
)


def watch_evaluate(rec: Recorder) -> None:
    rec.watch("frugan.run.evaluate.evaluate", lambda **_: MagicMock())
    rec.watch("frugan.cli.evaluate.show")


EVALUATE = Command(
    watch_evaluate,
    {"source": "a-run"},
    {
        "source": Case("other", {"evaluate.source": "other"}),
        "metrics": Case("--metrics=fid,is", {"evaluate.options.metrics": ["fid", "is"]}),
        "statistic": Case("--statistic=a.b:c,d:e", {"evaluate.options.statistics": ["a.b:c", "d:e"]}),
        "verbose": Case("--verbose", {"show.verbose": True}),
        "mean": Case("--mean=0.1,0.2,0.3", {"evaluate.options.mean": [0.1, 0.2, 0.3]}),
        "std": Case("--std=0.4,0.5,0.6", {"evaluate.options.std": [0.4, 0.5, 0.6]}),
        **each("evaluate", data="moved", reference="others", group="folder:2", against="all", out="card.json", device="mps"),
        **each(
            "evaluate.options", samples=777, seed=13, truncation=0.6, per_class=True, features="clip", weights="w.bin",
            resize="legacy", input_size=99, batch=21, intervals=True,
        ),
        "path_distance": Case(
            "--path-distance=lpips", {"evaluate.options.path_distance": "lpips"},
            {"source": "a-run", "metrics": "--metrics=ppl_w_end"},
        ),
    },
)  # fmt: skip


def watch_report(rec: Recorder) -> None:
    rec.watch("frugan.device.choose_device", torch.device("cpu"))
    rec.watch("frugan.reports.report.report", MagicMock(statement=[]))


REPORT = Command(
    watch_report,
    {"source": "a-run", "out": "--out=there"},
    {
        "source": Case("other", {"report.source": "other"}),
        "out": Case("--out=elsewhere", {"report.out": "elsewhere"}),
        "sections": Case("--sections=quality,statement", {"report.sections": ["quality", "statement"]}),
        "features": Case("--features=clip,dinov2", {"report.settings.features": ["clip", "dinov2"]}),
        "statistic": Case("--statistic=a:b --statistic=c:d", {"report.settings.statistics": ["a:b", "c:d"]}),
        "device": Case("--device=mps", {"choose_device.name": "mps"}),
        "real_images": Case("--no-real-images", {"report.settings.real_images": False}),
        **each("report", data="moved", reference="others", group="folder:2"),
        **each("report.settings", licence="CC0", samples=777, seed=13, truncation=0.6, batch=21),
    },
)


def watch_compare(rec: Recorder) -> None:
    rec.monkeypatch.setattr("frugan.metrics.EvaluationCard.load", rec.noting("load", None))
    cards = iter("ab")
    rec.monkeypatch.setattr(
        "frugan.metrics.EvaluationCard.load",
        lambda file: rec.seen.update({f"load.{next(cards)}": str(file)}),
    )
    rec.monkeypatch.setattr("frugan.metrics.compare", lambda a, b: {})


COMPARE = Command(
    watch_compare,
    {"first": "a.json", "second": "b.json"},
    {"first": Case("c.json", {"load.a": "c.json"}), "second": Case("c.json", {"load.b": "c.json"})},
)


def watch_status(rec: Recorder) -> None:
    run = MagicMock()
    run.status.return_value = SimpleNamespace(name="done", sentence="done", kimg=1.0, total_kimg=1.0)
    rec.monkeypatch.setattr("frugan.run.train.Run", rec.noting("Run", run))


STATUS = Command(watch_status, {"runs": "a-run"}, {"runs": Case("other", {"Run.0": "other"})})


def watch_import(rec: Recorder) -> None:
    found = MagicMock(notes=[], raw_generator=None, discriminator=None, generator=generator())
    found.generator.parameters.return_value = []
    rec.watch("frugan.interop.read_network", found)
    rec.watch("frugan.interop.write_directory")


IMPORT = Command(
    watch_import,
    {"file": "net.pkl", "out": "there"},
    {
        "file": Case("other.pt", {"read_network.path": "other.pt"}),
        "out": Case("elsewhere", {"write_directory.path": "elsewhere"}),
    },
)


def watch_export(rec: Recorder) -> None:
    rec.watch("frugan.run.load.load_with_notes", (generator(), []))
    rec.watch("frugan.run.load.read_source", MagicMock(notes=[], discriminator=None))
    rec.watch("frugan.run.load.read_class_names")
    done = MagicMock(inputs={}, output=(3, 32, 32), difference=0.0)
    rec.watch("frugan.interop.export_onnx", done, name="export")
    rec.watch("frugan.interop.export_program", done, name="export")
    rec.watch("frugan.interop.save_pretrained")
    rec.watch("frugan.run.provenance.provenance_of")
    rec.watch("frugan.interop.write_community")
    rec.watch("frugan.cli.explore.write_page")


PAGE = {"source": "a-run", "out": "page.html", "format": "--format=page"}
EXPORT = Command(
    watch_export,
    {"source": "a-run", "out": "net.onnx", "format": "--format=onnx"},
    {
        "source": Case("other", {"load_with_notes.path": "other"}),
        "out": Case("other.onnx", {"export.path": "other.onnx"}),
        "format": Case("--format=torch-export", {"export": "export_program"}),
        **each("export.config", part="synthesis", noise="none", truncation=0.6),
        "truncation_cutoff": Case(
            "--truncation-cutoff=4",
            {"export.config.truncation_cutoff": 4},
            {"source": "a-run", "out": "net.onnx", "format": "--format=onnx", "truncation": "--truncation=0.6"},
        ),
        "weights": Case("--weights=int8", {"write_page.weights": "int8"}, PAGE),
        "directions": Case("--directions=there", {"write_page.directions": ["there"]}, PAGE),
        "runtime": Case("--runtime=ort.tgz", {"write_page.runtime": "ort.tgz"}, PAGE),
        "webgpu": Case("--webgpu", {"write_page.webgpu": True}, PAGE),
        "beside": Case("--beside=other", {"write_page.sources": ["a-run", "other"]}, PAGE),
        "licence": Case(
            "--licence=cc0-1.0",
            {"provenance_of.licence": "cc0-1.0"},
            {"source": "a-run", "out": "hub", "format": "--format=pretrained"},
        ),
    },
)


def watch_server(rec: Recorder) -> None:
    rec.watch("frugan.cli.explore.open_network", MagicMock())
    rec.watch("frugan.cli.explore.open_text_model", MagicMock())
    rec.watch("frugan.cli.explore.check_host")
    rec.watch("frugan.explorer.board.Board", MagicMock())
    rec.watch("frugan.explorer.server.listen", (MagicMock(), MagicMock(address="http://there/")))
    rec.watch("frugan.explorer.server.serve")
    rec.watch("webbrowser.open")


SERVER = {
    "port": Case("--port=8000", {"listen.port": 8000}),
    "host": Case("--host=0.0.0.0", {"listen.host": "0.0.0.0", "check_host.host": "0.0.0.0"}),
    "share": Case("--share", {"check_host.share": True}),
    "browser": Case("--no-browser", {"open": None, "open.url": None}),
}
EXPLORE = Command(
    watch_server,
    {"networks": "a-run"},
    {
        **SERVER,
        "networks": Case("other", {"open_network.source": "other"}),
        "directions": Case("--directions=there", {"open_network.folders": ["there"]}),
        "text_model": Case(
            "--text-model=classes",
            {"open_text_model": True, "open_text_model.text": "classes", "open_text_model.device": "auto"},
        ),
        "device": Case("--device=cuda", {"open_network.device": "cuda"}),
    },
)
BOARD = Command(
    watch_server,
    {"runs": "runs"},
    {
        **SERVER,
        "runs": Case("other", {"Board.paths": ["other"]}),
        "control": Case("--control", {"Board.control": True}),
    },
)


def watch_leaks(rec: Recorder) -> None:
    rec.watch("frugan.run.leak_report.leaks_of_run", lambda **_: SimpleNamespace(name="run", p=0.5, leaks=[]))
    rec.watch("frugan.run.leak_report.recovery_of_images", Recovery(0.0, 0.0, 0.0, 0.0))
    rec.watch("frugan.cli.leaks._group", ({}, []))
    rec.watch("frugan.cli.leaks._table", ({}, []))
    rec.watch("frugan.leaks.plots.plot_runs")
    rec.watch("frugan.leaks.plots.plot_transforms")
    rec.watch("json.dumps", "")


DRAW = {"draw": "--draw=0.5,0.5"}
LEAKS = Command(
    watch_leaks,
    {"runs": "a-run"},
    {
        "runs": Case("other", {"leaks_of_run.path": "other"}),
        "p": Case("--p=0.3", {"recovery_of_images.p": 0.3}, {"data": "--data=photos"}),
        "condition": Case("--condition=4", {"_group.condition": 4.0}, DRAW),
        "draw": Case("--draw=0.2,0.8", {"_group.draw": [0.2, 0.8]}, DRAW),
        "observed": Case("--observed=0.6,0.4", {"_group.observed": "0.6,0.4"}, DRAW),
        "size": Case("--size=48", {"_table.size": 48}, {}),
        "as_json": Case("--json", {"dumps": True, "dumps.indent": 1}, DRAW),
        "plot": Case("--plot=leaks.png", {"plot_runs": True, "plot_runs.path": "leaks.png"}),
        **each("leaks_of_run", data="moved", function="mine:turn", transforms="bgc", samples=345, device="mps"),
    },
)


def watch_demo(rec: Recorder) -> None:
    rec.watch("frugan.device.choose_device", torch.device("cpu"))
    rec.watch("frugan.data.tools.draw_avatars")
    rec.watch("frugan.run.plan.plan", Plan(MagicMock(), [], MagicMock(), None))
    rec.monkeypatch.setattr(Run, "create", rec.noting("create"))
    rec.watch("frugan.cli.demo.describe")
    rec.watch("frugan.cli.demo.follow")
    rec.watch("frugan.cli.demo.show")


DEMO = Command(
    watch_demo,
    {},
    {
        "out": Case(
            "there",
            {
                "draw_avatars.out": "there/images",
                "plan.data.path": "there/images",
                "create.0": "there/run",
                "show.out": "there",
            },
        ),
        "style": Case("--style=planets", {"draw_avatars.style": "planets"}),
        "kimg": Case("--kimg=7.5", {"plan.options.kimg": 7.5, "plan.options.samples_kimg": 0.15}),
        "device": Case("--device=mps", {"choose_device.name": "mps"}),
    },
)


# --- directions, edit, mix, sweep, video, blend


def watch_latent(rec: Recorder) -> None:
    """The networks are opened, and what is asked of them is noted; nothing is computed."""
    G = generator()
    G.latents = rec.noting("latents", torch.zeros(1))
    G.synthesis.return_value = torch.zeros(1, 3, 8, 8)
    direction = MagicMock(slider=(-1.0, 1.0))
    direction.name = "smile"
    direction.restricted = rec.noting("restricted", direction)
    home = "frugan.cli.latent."
    for name in ("check_out", "check_image", "_show"):
        rec.watch(home + name)
    rec.watch(home + "open_network", (G, torch.zeros(2)))
    rec.watch(home + "read_label", torch.zeros(2))
    rec.watch(home + "_levels", lambda text, **_: None if text is None else (1, 2))
    rec.watch(home + "_mask")
    rec.watch("frugan.latent.direction.find_direction", direction)
    rec.watch("frugan.latent.explore.check")
    rec.watch("frugan.latent.explore.explore", [])
    rec.monkeypatch.setattr("frugan.latent.edit.check_edit", rec.noting("check_edit"))
    rec.watch("frugan.latent.edit.render_edited", torch.zeros(1, 3, 8, 8))
    rec.watch("frugan.latent.code.render_points", torch.zeros(1, 3, 8, 8))
    rec.watch("frugan.latent.sheets.table", np.zeros((8, 8, 3), np.uint8))
    rec.watch("frugan.images.save_image")
    rec.monkeypatch.setattr("frugan.image_files.Output.save", lambda *_: [])
    rec.watch("frugan.interop.save_pretrained")


def requests(**values: Any) -> dict[str, Any]:
    return {f"{function}.request.{name}": value for function in ("check", "explore") for name, value in values.items()}


DIRECTIONS = Command(
    watch_latent,
    {"network": "net"},
    {
        "network": Case("other", {"open_network.network": "other"}),
        "out": Case("--out=there", {"check_out.out": "there", "explore.out": "there"}),
        "levels": Case("--levels=8-32", {"_levels.text": "8-32", **requests(levels=[1, 2])}),
        "scores": Case("--scores=hue", requests(scores="hue", name="hue")),
        "normalize": Case("--no-normalize", requests(normalize=False)),
        "label": Case("--class=cat", {"open_network.label": "cat"}),
        "to_label": Case(
            "--to-class=dog",
            {"read_label": True, "read_label.network": "net", "read_label.label": "dog"} | requests(to_c=None),
        ),
        "mask": Case("--mask=mask.png", {"_mask": True, "_mask.file": "mask.png"}),
        "without": Case("--without=folder:1", {"find_direction": True, "find_direction.text": "folder:1"} | requests(without=None)),
        "truncation": Case("--truncation=0.4", {"explore.truncation.psi": 0.4}),
        "device": Case("--device=mps", {"open_network.device": "mps"}),
        **{
            name: Case(on_line(name, text), requests(**{name: value}))
            for name, text, value in (
                ("method", "sefa", "sefa"), ("space", "z", "z"), ("count", 4, 4), ("samples", 321, 321),
                ("seeds", "3-4", [3, 4]), ("to_seeds", "6,9", [6, 9]), ("file", "c.npz", "c.npz"), ("component", 3, 3),
                ("ws", "6:8", [6, 8]), ("name", "smile", "smile"),
            )
        },
    },
)  # fmt: skip

EDIT = Command(
    watch_latent,
    {"network": "net", "direction": "--direction=folder:0"},
    {
        "network": Case("other", {"open_network.network": "other"}),
        "direction": Case("--direction=folder:7", {"find_direction.text": "folder:7"}),
        "out": Case("--out=there", {"check_out.out": "there", "save_image.path": "there/smile.png"}),
        "seeds": Case("--seeds=0-6,9", {"render_points.points": [*range(7), 9], "table.row_names": [*"0123456", "9"]}),
        "strengths": Case(
            "--strengths=-3,2",
            {"check_edit.0.strength": 2.0, "render_points.edits.0.strength": 2.0}
            | {"table.columns": 2, "table.column_names": ["-3", "+2"]},
        ),
        "levels": Case("--levels=8-32", {"_levels": True, "_levels.text": "8-32", "restricted": True, "restricted.0": [1, 2]}),
        "mode": Case("--mode=centred", {"check_edit.0.mode": "centred", "render_points.edits.0.mode": "centred"}),
        "label": Case("--class=cat", {"open_network.label": "cat"}),
        "truncation": Case("--truncation=0.4", {"render_points.truncation.psi": 0.4}),
        "device": Case("--device=mps", {"open_network.device": "mps"}),
    },
)  # fmt: skip


def watch_mix(rec: Recorder) -> None:
    watch_latent(rec)
    kinds = iter(("rows", "columns"))

    def noted(G: Any, seeds: list[int], c: Any, truncation: Any) -> torch.Tensor:
        rec.seen |= dict(flat(next(kinds), {"seeds": seeds, "psi": truncation.psi}))
        return torch.zeros(1)

    rec.monkeypatch.setattr("frugan.latent.code.point_ws", noted)
    rec.monkeypatch.setattr("frugan.latent.code.point_noise", lambda G, points: "const")
    rec.watch(
        "frugan.latent.mixing.mixing_grid", (torch.zeros(6, 3, 8, 8), torch.zeros(8, 3, 8, 8), torch.zeros(48, 3, 8, 8))
    )
    rec.monkeypatch.setattr("frugan.latent.sheets.blank", lambda like: like[:1])  # fmt: skip


MIX = Command(
    watch_mix,
    {"network": "net"},
    {
        "network": Case("other", {"open_network.network": "other"}),
        "out": Case("--out=there.png", {"check_image.out": "there.png", "save_image.path": "there.png"}),
        "rows": Case("--rows=1-6", {"rows.seeds": [*range(1, 7)], "table.row_names": ["", *"123456"]}),
        "columns": Case("--columns=1-8", {"columns.seeds": [*range(1, 9)], "table.column_names": ["", *"12345678"]}),
        "levels": Case(
            "--levels=8-32",
            {"_levels.text": "8-32", "mixing_grid.levels": [1, 2], "table.title": "levels 8-32 from the columns"},
        ),
        "label": Case("--class=cat", {"open_network.label": "cat"}),
        "truncation": Case("--truncation=0.4", {"rows.psi": 0.4, "columns.psi": 0.4}),
        "device": Case("--device=mps", {"open_network.device": "mps"}),
    },
)  # fmt: skip


def watch_sweep(rec: Recorder) -> None:
    watch_latent(rec)
    rec.watch("frugan.latent.code.point_ws", torch.zeros(1, 14, 8))
    rec.watch("frugan.latent.edit.Truncation", MagicMock())
    rec.watch("frugan.cli.latent._centre", torch.zeros(8))


SWEEP = Command(
    watch_sweep,
    {"network": "net"},
    {
        "network": Case("other", {"open_network.network": "other"}),
        "out": Case("--out=there.png", {"check_image.out": "there.png", "save_image.path": "there.png"}),
        "seeds": Case("--seeds=1-8", {"point_ws.points": [*range(1, 9)], "table.row_names": [*"12345678"]}),
        "truncation": Case(
            "--truncation=0.5",
            {"Truncation.psi": 0.5, "table.columns": 1, "table.column_names": ["psi 0.5"]},
        ),
        "levels": Case("--levels=8-32", {"_levels.text": "8-32", "Truncation.levels": [1, 2]}),
        "towards": Case(
            "--towards=77",
            {"_centre": True, "_centre.network": "net", "_centre.text": "77", "Truncation.centre": None},
        ),
        "label": Case("--class=cat", {"open_network.label": "cat"}),
        "device": Case("--device=mps", {"open_network.device": "mps"}),
    },
)  # fmt: skip


def watch_video(rec: Recorder) -> None:
    watch_latent(rec)
    rec.watch("frugan.cli.video.open_network", (generator(), torch.zeros(2)))
    rec.watch("frugan.cli.video.read_label", torch.zeros(2))
    rec.watch("frugan.latent.blending.check_aligned")
    rec.watch("frugan.latent.blending.interpolate")
    for name in ("tour", "loop", "edit_path", "class_path", "truncation_path"):
        rec.watch(f"frugan.latent.path.{name}")
    rec.watch("frugan.latent.path.frame_times", [])
    rec.watch("frugan.latent.path.render_frames", MagicMock())
    rec.watch("frugan.latent.video.check_video")
    rec.monkeypatch.setattr("frugan.latent.video.check_frames", lambda *_: None)
    rec.watch("frugan.latent.video.tiled", [])
    rec.watch("frugan.latent.video.write_video", lambda frames, **_: len([*frames]))
    rec.watch("frugan.run.directory.RunDirectory", MagicMock())
    rec.watch("frugan.run.training_video.write_training_video", 1)


TOUR = {"network": "net", "tour": "--tour=0,5"}
EDITED = {"network": "net", "edit": "--edit=folder:0"}
FILM = {"network": "net", "training": "--training"}
VIDEO = Command(
    watch_video,
    {"network": "net"},
    {
        "network": Case("other", {"open_network.network": "other"}),
        "out": Case("--out=there.gif", {"check_video.file": "there.gif", "write_video.file": "there.gif"}),
        "tour": Case("--tour=0,7", {"tour.seeds": [0, 7]}, TOUR),
        "loop": Case("--loop", {}),  # what is made of nothing, too
        "edit": Case("--edit=folder:7", {"find_direction.text": "folder:7"}, EDITED),
        "classes": Case("--classes=cat", {"read_label.label": "cat"}, {"network": "net", "classes": "--classes=dog"}),
        "training": Case(
            "--training --grid=3x1", {"write_training_video.columns": 3, "write_training_video.rows": 1}, FILM
        ),
        "truncation": Case(
            "--truncation=0.2:0.9",
            {"truncation_path.first": 0.2, "truncation_path.last": 0.9},
            {"network": "net", "truncation": "--truncation=0:1"},
        ),
        "morph": Case(
            "--morph=third", {"open_network.network": "third"}, {"network": "net", "morph": "--morph=second"}
        ),
        "seeds": Case("--seeds=4-6", {"loop.seeds": [4, 5, 6]}),
        "strengths": Case("--strengths=-2:3", {"edit_path.low": -2.0, "edit_path.high": 3.0}, EDITED),
        "space": Case("--space=z", {"tour.space": "z"}, TOUR),
        "easing": Case("--easing=smooth", {"frame_times.easing": "smooth"}),
        "even": Case("--no-even", {"frame_times.even": False}),
        "seconds": Case("--seconds=4", {"frame_times.frames": 120}),
        "fps": Case("--fps=12", {"frame_times.frames": 120, "write_video.fps": 12.0, "check_video.fps": 12.0}),
        "grid": Case("--grid=3x1", {"tiled.columns": 3, "loop.seeds": [*range(2000, 2006)]}),
        "scale": Case("--scale=3", {"tiled.scale": 3}),
        "label": Case("--class=cat", {"open_network.label": "cat"}),
        "device": Case("--device=mps", {"open_network.device": "mps"}),
    },
)


def watch_blend(rec: Recorder) -> None:
    watch_latent(rec)
    G, opened = generator(), iter(("first", "second"))
    G.latents = rec.noting("latents", torch.zeros(1))

    def open_(network: str, label: Any, device: str, *, optional: bool = False) -> Any:
        rec.seen |= dict(flat(next(opened), {"network": network, "label": label, "device": device}))
        return G, torch.zeros(2)

    rec.monkeypatch.setattr("frugan.cli.latent.open_network", open_)
    rec.watch("frugan.latent.blending.check_aligned", SimpleNamespace(w=1.0, images=1.0))
    rec.monkeypatch.setattr("frugan.run.load.read_class_names", lambda _: None)
    rec.watch("frugan.latent.blending.blend", G)
    rec.watch("frugan.latent.blending.interpolate", G)
    rec.watch("frugan.latent.levels.parse_levels", (2,))
    rec.watch("frugan.latent.levels.level_names", [])


BETWEEN = {"first": "net", "second": "other", "interpolate": "--interpolate=0.2"}
BLEND = Command(
    watch_blend,
    {"first": "net", "second": "other", "at": "--at=16"},
    {
        "first": Case("third", {"first.network": "third"}),
        "second": Case("third", {"second.network": "third"}),
        "out": Case(
            "--out=there",
            {"check_out.out": "there", "save_pretrained.directory": "there", "save_image.path": "there/blend.png"},
        ),
        "at": Case("--at=8", {"parse_levels.text": "8", "table.column_names": ["first", "second from 8", "second"]}),
        "width": Case("--width=1.5", {"blend.swap.width": 1.5}),
        "interpolate": Case(
            "--interpolate=0.4",
            {"interpolate.share": 0.4, "table.column_names": ["0.4"], "save_pretrained.directory": "blended/0.4"},
            BETWEEN,
        ),
        "seeds": Case("--seeds=1-8", {"latents.0": [*range(1, 9)], "table.row_names": [*"12345678"]}),
        "truncation": Case("--truncation=0.4", {"render_edited.truncation.psi": 0.4}),
        "label": Case("--class=cat", {"first.label": "cat"}),
        "device": Case("--device=mps", {"first.device": "mps", "second.device": "mps"}),
    },
)


# --- project, encode


def watch_fitting(rec: Recorder) -> None:
    """Ten images, fitted in two batches; the mask and what an encoder finds are plain values, which are seen on their way."""
    G = generator()
    G.synthesis.return_value = torch.zeros(1, 3, 8, 8)
    rung = Rung("pn", torch.zeros(1, 14, 8), (), torch.zeros(1, 3, 8, 8), torch.zeros(1), torch.zeros(1), 0.0, 1)
    encoder = MagicMock()
    encoder.encode.return_value = [*range(10)]
    for name in ("check_out", "_show"):
        rec.watch(f"frugan.cli.project.{name}")
    rec.watch("frugan.cli.project.open_network", (G, None))
    rec.monkeypatch.setattr(Path, "mkdir", rec.noting("mkdir"))
    rec.watch("frugan.run.load.read_source", SimpleNamespace(discriminator="D"))
    rec.watch("frugan.run.load.generator_folder", lambda path: Path(f"{path}-home"))
    rec.watch("frugan.run.load.read_class_names")
    rec.watch("frugan.latent.targets.read_targets", Targets([*"abcdefghij"], torch.zeros(10, 3, 8, 8), []))
    rec.monkeypatch.setattr("frugan.latent.targets.check_apart", lambda *_: None)
    rec.watch("frugan.latent.targets.read_mask", "white")
    rec.watch("frugan.latent.fitting.open_distance", MagicMock())
    rec.watch("frugan.latent.statistics.statistics_of", MagicMock(digest="digest"))
    rec.watch("frugan.latent.projection.project", lambda images, **_: rec.seen.update(last_batch=len(images)))
    rec.watch("frugan.latent.projection.Target", MagicMock())
    made = SimpleNamespace(rungs=[rung], last=rung, labels=None, distance="pixels", codes=lambda *_: [])
    rec.watch("frugan.latent.projected.joined", made)
    rec.watch("frugan.latent.projected.write_projection")
    rec.monkeypatch.setattr("frugan.cli.project.time", MagicMock())
    rec.watch("frugan.latent.tuning.check_home")
    rec.watch("frugan.latent.tuning.tune", (G, MagicMock(step=1)))
    rec.watch("frugan.latent.tuning.save_tuned")
    rec.watch("frugan.networks.load_generator", G)
    rec.watch("frugan.latent.encoder.load_encoder", encoder)


def tuning(**values: Any) -> dict[str, Any]:
    config = TuningConfig(**{"steps": 350, **values})
    return {f"tune.config.{name}": value for name, value in values.items()} | {
        "tune.facts": f"digest {config} pixels 0.0"
    }


FITS = {"network": "net", "images": "a.png"}
TUNED = {**FITS, "tune": "--tune"}
PROJECT = Command(
    watch_fitting,
    FITS,
    {
        "network": (
            Case("other", {"open_network.network": "other", "read_source.path": "other", "_show.network": "other"}),
            Case(
                "other",
                dict.fromkeys(
                    ("open_network.network", "read_source.path", "_show.network", "generator_folder.path"), "other"
                )
                | {"read_class_names.path": "other", "check_home.home": "other-home", "save_tuned.home": "other-home"},
                TUNED,
            ),
        ),
        "images": Case("b.png folder", {"read_targets.paths": ["b.png", "folder"]}),
        "out": (
            Case(
                "--out=there",
                {"check_out.out": "there", "write_projection.out": "there"}
                | {"mkdir.0": "there/.fits/00008", "project.states": "there/.fits/00008"},
            ),
            Case(
                "--out=there",
                {"check_out.out": "there", "write_projection.out": "there"}
                | {"mkdir.0": "there/.fits/00008", "project.states": "there/.fits/00008"}
                | dict.fromkeys(("save_tuned.out", "load_generator.directory"), "there/tuned")
                | {"tune.state": "there/.fits/tuned.fit"},
                TUNED,
            ),
        ),
        "tune": Case(
            "--tune",
            call("generator_folder", path="net")
            | call("check_home", home="net-home")
            | call("Target", mask=None)
            | call("tune", config=TuningConfig(steps=350), noise=[], state="projected/.fits/tuned.fit")
            | tuning()
            | call("read_class_names", path="net")
            | call("save_tuned", home="net-home", out="projected/tuned", rank=None, class_names=None)
            | call("load_generator", directory="projected/tuned"),
        ),
        "encoder": Case(
            "--encoder=there",
            {"load_encoder": True, "load_encoder.folder": "there", "project.encoded": [8, 9]},
        ),
        "distance": Case(
            "--distance=pixels",
            dict.fromkeys(("read_source", "read_source.path", "open_distance.setting.discriminator"))
            | {"open_distance.text": "pixels"},
        ),
        "target": (
            Case(
                "--target=0.2",
                {"project.config.target": 0.2, "write_projection.target": 0.2, "_show.target": 0.2},
            ),
            Case(
                "--target=0.2",
                {"project.config.target": 0.2, "write_projection.target": 0.2, "_show.target": 0.2} | tuning(target=0.2),
                TUNED,
            ),
        ),
        "mask": Case(
            "--mask=mask.png",
            {"read_mask": True, "read_mask.file": "mask.png", "project.mask": "white", "Target.mask": "white"},
            TUNED,
        ),
        "label": Case("--class=cat", {"open_network.label": "cat"}),
        "tune_steps": Case("--tune-steps=12", tuning(steps=12), TUNED),
        "rank": Case("--rank=6", {"save_tuned.rank": 6}, TUNED),
        "batch": Case(
            "--batch=6",
            {"last_batch": 4, "mkdir.0": "projected/.fits/00006", "project.states": "projected/.fits/00006"},
        ),
        "seed": Case("--seed=5", {"project.config.seed": 5} | tuning(seed=5), TUNED),
        "device": Case("--device=mps", {"open_network.device": "mps"}),
        **each("project.config", space="w+", noise="keep", start="centres", steps_w=12, steps=34),
    },
)  # fmt: skip


def watch_encode(rec: Recorder) -> None:
    encoder = MagicMock()
    encoder.encode.return_value = torch.zeros(1, 14, 8)
    rec.watch("frugan.cli.project.check_out")
    rec.watch("frugan.cli.project.open_network", (generator(), None))
    rec.watch("frugan.latent.targets.read_targets", Targets(["a"], torch.zeros(1, 3, 8, 8), []))
    rec.watch("frugan.latent.encoder.load_encoder", encoder)
    rec.watch("frugan.latent.encoder.train_encoder", (MagicMock(), 0.1))
    rec.watch("frugan.latent.encoder.save_encoder")
    rec.watch("frugan.latent.code.save_code")
    rec.monkeypatch.setattr(Identity, "of", identity)


ENCODED = {"network": "net", "images": "a.png", "encoder": "--encoder=there"}
ENCODE = Command(
    watch_encode,
    {"network": "net", "train": "--train"},
    {
        "network": Case("other", {"open_network.network": "other"}),
        "images": Case("b.png folder", {"read_targets.paths": ["b.png", "folder"]}, ENCODED),
        "train": Case(
            "--train",
            dict.fromkeys(
                call("read_targets", paths=["a.png"])
                | call("load_encoder", folder="there")
                | call("save_code", code=CODE, file="encoder/a.safetensors")
            )
            | call("train_encoder", config=EncoderConfig(), state="encoder/.fit")
            | call("save_encoder", config=EncoderConfig(), error=0.1, folder="encoder"),
            {"network": "net", "train": "a.png --encoder=there"},
        ),
        "encoder": Case("--encoder=elsewhere", {"load_encoder.folder": "elsewhere"}, ENCODED),
        "out": (
            Case(
                "--out=there",
                {"check_out.out": "there", "train_encoder.state": "there/.fit", "save_encoder.folder": "there"},
            ),
            Case("--out=there", {"check_out.out": "there", "save_code.file": "there/a.safetensors"}, ENCODED),
        ),
        "device": Case("--device=mps", {"open_network.device": "mps"}),
        **{
            name: Case(
                on_line(name, value),
                {f"{f}.config.{name}": value for f in ("train_encoder", "save_encoder")},
            )
            for name, value in (("steps", 12), ("batch", 34), ("seed", 5))
        },
    },
)


# --- text


def watch_text(rec: Recorder) -> None:
    """The networks and the joint model are opened, and what is asked of them is noted; nothing is computed."""
    joint = SimpleNamespace(name="joint", images=lambda images: torch.zeros(1, 4))
    direction = Direction("smile", "w", torch.ones(8), 1.0, identity(None))
    mapper = MagicMock(side_effect=lambda ws: ws)
    clip = "frugan.latent.text.styleclip."

    def sample(G: Any, n: int, stream: int, truncation: float, c: Any) -> torch.Tensor:
        purpose = {1 << 29: "relevance", 1 << 30: "strength"}[stream]
        rec.seen |= {f"{purpose}.n": n, f"{purpose}.psi": truncation}
        return torch.zeros(1, 14, 8)

    for name in ("check_out", "check_image"):
        rec.watch(f"frugan.cli.text.{name}")
    rec.watch("frugan.cli.text.open_network", (generator(), torch.zeros(2)))
    rec.watch("frugan.latent.text.open_model", joint)
    rec.watch("frugan.latent.text.prompt_vector", torch.zeros(4))
    rec.watch("frugan.latent.text.change", torch.zeros(4))
    rec.watch("frugan.latent.levels.parse_levels", (1, 2))
    rec.watch("frugan.latent.statistics.statistics_of", MagicMock(style_mean=torch.zeros(3)))
    rec.monkeypatch.setattr(clip + "sample_ws", sample)
    rec.watch(clip + "convolution_channels", torch.tensor([True, True, False]))
    rec.watch(clip + "relevance_by_jacobian", torch.zeros(3, 4))
    rec.watch(clip + "relevance_by_differences", torch.zeros(2, 4))
    rec.watch(clip + "global_direction", direction)
    rec.watch(clip + "shared_direction", direction)
    rec.watch(clip + "strength_for", 2.0)
    rec.watch(clip + "optimise", (torch.zeros(1, 14, 8), None))
    rec.watch(clip + "train_mapper", mapper)
    rec.watch(clip + "load_mapper", mapper)
    rec.watch(clip + "save_mapper")
    rec.watch("frugan.latent.direction.save_directions")
    rec.monkeypatch.setattr(Identity, "of", identity)
    rec.watch("frugan.latent.code.point_ws", torch.zeros(1, 14, 8))
    rec.watch("frugan.latent.code.render_points", torch.zeros(1, 3, 8, 8))
    rec.watch("frugan.latent.code.save_code")
    rec.watch("frugan.latent.sheets.table", np.zeros((8, 8, 3), np.uint8))
    rec.watch("frugan.images.save_image")
    rec.monkeypatch.setattr("frugan.image_files.Output.save", lambda *_: [])


SAID = {"network": "net", "target": "--target=smiling", "model": "--model=clip", "neutral": "--neutral=plain"}
SHARED, OPTIMISED, MAPPED = ({**SAID, "method": f"--method={name}"} for name in ("shared", "optimise", "mapper"))
RELEVANT = {"model": "joint", "target": "smiling", "relevance": "jacobian", "images": 16}
TRAINED = call("train_mapper", config=MapperConfig(), state="said/.fit")
TRAINED |= call("save_mapper", folder="said/mapper", facts={"target": "smiling", "model": "joint"})
TEXT_EDIT = Command(
    watch_text,
    SAID,
    {
        "network": Case("other", {"open_network.network": "other"}),
        "target": (
            Case(
                "--target=Sad!",
                {"prompt_vector.prompt": "Sad!", "change.target": "Sad!"}
                | {"global_direction.name": "sad", "global_direction.source.target": "Sad!"},
            ),
            Case(
                "--target=Sad!",
                {"prompt_vector.prompt": "Sad!", "change.target": "Sad!", "shared_direction.name": "sad"},
                SHARED,
            ),
            Case(
                "--target=Sad!",
                {"prompt_vector.prompt": "Sad!", "change.target": "Sad!", "save_mapper.facts.target": "Sad!"}
                | {"save_code.code.facts.target": "Sad!", "render_points.points.0.facts.target": "Sad!", "table.title": "Sad!"},
                MAPPED,
            ),
        ),
        "model": Case("--model=siglip", {"open_model.text": "siglip"}),
        "neutral": Case("--neutral=dull", {"change.neutral": "dull"}),
        "method": (
            Case(
                "--method=shared",
                dict.fromkeys(
                    call("relevance_by_jacobian")
                    | {"relevance.n": 16, "relevance.psi": 0.7}
                    | call("global_direction", channels=30, levels=None, name="smiling", source=RELEVANT)
                )
                | call("shared_direction", name="smiling", truncation=0.7),
            ),
            Case(
                "--method=mapper",
                dict.fromkeys(call("optimise", config=OptimiseConfig(), state="said/.fit"))
                | TRAINED
                | {f"{name}.facts.method": "mapper" for name in ("save_code.code", "render_points.points.0")},
                OPTIMISED,
            ),
        ),
        "out": (
            Case(
                "--out=there",
                {"check_out.out": "there", "save_directions.folder": "there", "save_image.path": "there/smile.png"},
            ),
            Case(
                "--out=there",
                {"check_out.out": "there", "save_code.file": "there/seed0000.safetensors", "save_image.path": "there/sheet.png"}
                | {"optimise.state": "there/.fit"},
                OPTIMISED,
            ),
            Case(
                "--out=there",
                {"check_out.out": "there", "save_code.file": "there/seed0000.safetensors", "save_image.path": "there/sheet.png"}
                | {"train_mapper.state": "there/.fit", "save_mapper.folder": "there/mapper"},
                MAPPED,
            ),
        ),
        "seeds": Case(
            "--seeds=3,5-6",
            {"render_points.points": [3, 5, 6], "table.row_names": [*"356"]},
        ),
        "channels": Case("--channels=9", {"global_direction.channels": 9}),
        "relevance": Case(
            "--relevance=differences",
            {"relevance_by_jacobian": None, "global_direction.source.relevance": "differences"}
            | call("convolution_channels")
            | call("relevance_by_differences"),
        ),
        "images": Case("--images=5", {"relevance.n": 5, "global_direction.source.images": 5}),
        "levels": Case(
            "--levels=8-32",
            {"parse_levels": True, "parse_levels.text": "8-32", "global_direction.levels": [1, 2]},
        ),
        "groups": Case("--groups=coarse,fine", {"train_mapper.config.groups": ["coarse", "fine"]}, MAPPED),
        "steps": (
            Case("--steps=12", {"optimise.config.steps": 12}, OPTIMISED),
            Case("--steps=12", {"train_mapper.config.steps": 12}, MAPPED),
        ),
        "keep": (
            Case("--keep=0.3", {"optimise.config.keep": 0.3}, OPTIMISED),
            Case("--keep=0.3", {"train_mapper.config.keep": 0.3}, MAPPED),
        ),
        "wanted": (
            Case("--wanted=0.2", {"strength_for.wanted": 0.2, "strength_for.kept": None}),
            Case("--wanted=0.2", {"optimise.config.wanted": 0.2}, OPTIMISED),
        ),
        "kept": (Case("--kept=0.4", {"strength_for.kept": 0.4}), Case("--kept=0.4", {"strength_for.kept": 0.4}, SHARED)),
        "mapper": Case("--mapper=there", dict.fromkeys(TRAINED) | call("load_mapper", folder="there"), MAPPED),
        "template": Case(
            "--template='a {}' --template='the {}'",
            {"prompt_vector.templates": ["a {}", "the {}"], "change.templates": ["a {}", "the {}"]},
        ),
        "label": Case("--class=cat", {"open_network.label": "cat"}),
        "truncation": (
            Case(
                "--truncation=0.4",
                {"relevance.psi": 0.4, "strength.psi": 0.4}
                | {"render_points.truncation.psi": 0.4},
            ),
            Case(
                "--truncation=0.4",
                {"shared_direction.truncation": 0.4, "strength.psi": 0.4}
                | {"render_points.truncation.psi": 0.4},
                SHARED,
            ),
            Case(
                "--truncation=0.4",
                {"train_mapper.config.truncation": 0.4}
                | {"point_ws.truncation.psi": 0.4, "render_points.truncation.psi": 0.4},
                MAPPED,
            ),
        ),
        "seed": Case("--seed=5", {"train_mapper.config.seed": 5}, MAPPED),
        "device": Case("--device=mps", {"open_network.device": "mps"}),
    },
)  # fmt: skip


def watch_adapt(rec: Recorder) -> None:
    watch_text(rec)
    rec.watch("frugan.run.load.generator_folder", lambda path: Path(f"{path}-home"))
    rec.watch("frugan.run.load.read_class_names")
    rec.watch("frugan.latent.targets.read_targets", MagicMock())
    rec.watch("frugan.latent.scoring.labels_for")
    rec.watch("frugan.latent.text.nada.change_to_images", (torch.zeros(4), torch.zeros(4)))
    rec.watch("frugan.latent.text.nada.adapt", [Snapshot(50, generator(), 0.0, {})])
    rec.watch("frugan.latent.tuning.check_home")
    rec.watch("frugan.latent.tuning.save_tuned")


ADAPT = Command(
    watch_adapt,
    {"network": "net", "model": "--model=clip", "source": "--source=photo", "target": "--target=sketch"},
    {
        "network": Case(
            "other",
            {
                **dict.fromkeys(("open_network.network", "generator_folder.path", "read_class_names.path"), "other"),
                **dict.fromkeys(("check_home.home", "save_tuned.home"), "other-home"),
            },
        ),
        "model": Case("--model=siglip", {"open_model.text": "siglip"}),
        "source": Case("--source=dull", {"change.neutral": "dull"}),
        "target": Case("--target=sad", {"change.target": "sad", "prompt_vector.prompt": "sad"}),
        "images": Case(
            "--images=a.png --images=folder",
            {"read_targets.paths": ["a.png", "folder"]},
            {"network": "net", "model": "--model=clip", "images": "--images=b.png"},
        ),
        "out": Case(
            "--out=there",
            {"check_out.out": "there", "save_tuned.out": "there/step00050", "save_image.path": "there/strip.png"}
            | {"adapt.state": "there/.fit"},
        ),
        "every": Case("--every=7", {"adapt.every": 7}),
        "seeds": Case(
            "--seeds=3,5-6", {"labels_for.n": 3, "render_points.points": [3, 5, 6], "table.row_names": [*"356"]}
        ),
        "template": Case(
            "--template='a {}' --template='the {}'",
            {"prompt_vector.templates": ["a {}", "the {}"], "change.templates": ["a {}", "the {}"]},
        ),
        "device": Case("--device=mps", {"open_network.device": "mps"}),
        **each("adapt.config", steps=12, batch=3, layers=4, lr=0.01, seed=5),
    },
)


def watch_find(rec: Recorder) -> None:
    watch_text(rec)
    rec.watch("frugan.latent.text.search.find_seeds", lambda seeds, **_: [Found(seed, 0.5) for seed in seeds])


FIND = Command(
    watch_find,
    {"network": "net", "text": "smiling", "model": "--model=clip", "seeds": "--seeds=0-29"},
    {
        "network": Case("other", {"open_network.network": "other"}),
        "text": Case(
            "sad", {"prompt_vector.prompt": "sad", "table.title": "sad; seeds from 0: 0.50 to 15: 0.50"}
        ),
        "model": Case("--model=siglip", {"open_model.text": "siglip"}),
        "seeds": Case(
            "--seeds=3,5-6",
            {"find_seeds.seeds": [3, 5, 6], "render_points.points": [3, 5, 6], "table.columns": 3}
            | {"table.title": "smiling; seeds from 3: 0.50 to 6: 0.50"},
        ),
        "count": Case(
            "--count=2",
            {"render_points.points": [0, 1], "table.columns": 2, "table.title": "smiling; seeds from 0: 0.50 to 1: 0.50"},
        ),
        "out": Case("--out=there.png", {"check_image.out": "there.png", "save_image.path": "there.png"}),
        "template": Case("--template='a {}' --template='the {}'", {"prompt_vector.templates": ["a {}", "the {}"]}),
        "label": Case("--class=cat", {"open_network.label": "cat"}),
        "truncation": Case(
            "--truncation=0.4", {"find_seeds.truncation.psi": 0.4, "render_points.truncation.psi": 0.4}
        ),
        "device": Case("--device=mps", {"open_network.device": "mps"}),
    },
)  # fmt: skip


def watch_captions(rec: Recorder) -> None:
    found = SimpleNamespace(
        train=None, train_values=None, attributes={"eyes": ["blue"]}, test_values=[0], test_images=lambda: None
    )
    rec.watch("frugan.cli.text.check_out")
    rec.watch("frugan.device.choose_device", "cpu")
    rec.watch("frugan.latent.text.attributes.read_attributes", found)
    rec.watch("frugan.latent.text.captions.train_captioner", MagicMock())
    rec.watch("frugan.latent.text.captions.attribute_accuracy", {"eyes": 0.5})
    rec.watch("frugan.latent.text.captions.save_captioner")


CAPTIONS = Command(
    watch_captions,
    {"data": "photos"},
    {
        "data": Case("other", {"read_attributes.path": "other"}),
        "out": Case("--out=there", {"check_out.out": "there", "save_captioner.folder": "there"}),
        "device": Case("--device=mps", {"choose_device.name": "mps"}),
        **each("read_attributes", labels="labels.csv:eyes", held_out=0.3),
        **each("train_captioner.config", subject="critter", steps=12, batch=34, side=48, seed=5),
    },
)


# --- data


def watch_data(rec: Recorder) -> None:
    rec.monkeypatch.setattr("frugan.cli.data._about", lambda path: {"Data": path})
    report = MagicMock()
    report.rows = rec.noting("rows", [])
    report.to_dict = rec.noting("to_dict", {})
    report.dataset.value_range = None
    report.dataset.alpha = False
    done = MagicMock(dataset=MagicMock(skipped=[], notes=[]), skipped=[], own=MagicMock(count=0))
    rec.watch("frugan.data.tools.inspect", report)
    rec.watch("frugan.data.tools.contact_sheet")
    rec.watch("frugan.image_files.save")
    rec.monkeypatch.setattr("frugan.image_files.Output.save", lambda *_: [])

    def change(change: Any = None, **_: Any) -> Any:
        if change is not None:
            change(0, np.zeros((8, 8, 3), np.uint8))
        return done

    rec.watch("frugan.data.tools.prepare", change)
    rec.watch("frugan.data.tools.draw_avatars", done)
    rec.watch("frugan.data.tools.shard", done)
    measurement = MagicMock()
    measurement.apply.return_value = torch.zeros(1, 3, 8, 8)
    measurement.draw = lambda n, channels, generator: rec.seen.update(seed=generator.initial_seed() >> 32)
    rec.watch("frugan.augment.Measurement", measurement)


PIXELS = {"channels": "L", "fit": "letterbox", "filter": "box", "background": "black"}
SOURCE = {"labels": "table.csv", "value_range": "3,900", "use_generated": True, "frames": "all", "stride": 7}


def config(prefix: str, **values: Any) -> dict[str, Case]:
    return {
        "path": Case("other", {f"{prefix}.path": "other"}),
        "resolution": Case("--resolution=48x64", {f"{prefix}.resolution": [48, 64]}),
        **each(prefix, **values),
    }


INSPECT = Command(
    watch_data,
    {"path": "photos"},
    {
        **config("inspect.config", **PIXELS, **SOURCE, group="regex:(a)", held_out=0.25, masks="there"),
        "path": Case(
            "other", {"inspect.config.path": "other", "save.path": "contact-sheet-other.png", "save.text.Data": "other"}
        ),
        **crop_options("inspect.config", {"path": "photos", "": "--crops=grid --crop-size=64"}),
        "sheet": Case("--sheet=sheet.png", {"save.path": "sheet.png"}),
        "as_json": Case("--json", {"rows": None, "to_dict": True}),
    },
)
PREPARE = Command(
    watch_data,
    {"path": "photos", "out": "there"},
    {**config("prepare.config", **PIXELS, **SOURCE, strict=True), "out": Case("x.zip", {"prepare.out": "x.zip"})},
)
CORRUPT = Command(
    watch_data,
    {"path": "photos", "out": "there", "measurement": "--measurement=drop-pixels:0.5"},
    {
        **config("prepare.config", channels="L", **SOURCE),
        "out": Case("x.zip", {"prepare.out": "x.zip"}),
        "measurement": Case("--measurement=noise:0.3", {"Measurement.specification": "noise:0.3"}),
        "seed": Case("--seed=5", {"seed": 5}),
    },
)
SAMPLE = Command(
    watch_data,
    {"out": "there"},
    {
        "out": Case("elsewhere", {"draw_avatars.out": "elsewhere"}),
        **each("draw_avatars", style="planets", count=33, size=48, seed=5, offset=44, background="white"),
    },
)
SHARD = Command(
    watch_data,
    {"path": "photos", "out": "there"},
    {
        "path": Case("other", {"shard.path": "other"}),
        "out": Case("elsewhere", {"shard.out": "elsewhere"}),
        **each("shard", per_shard=33, labels="table.csv", channels="RGB=image,3=mask", masks="masks", seed=5),
    },
)

TABLE = {
    ("train",): TRAIN, ("resume",): RESUME, ("status",): STATUS, ("generate",): GENERATE, ("directions",): DIRECTIONS,
    ("edit",): EDIT, ("mix",): MIX, ("sweep",): SWEEP, ("video",): VIDEO, ("blend",): BLEND, ("evaluate",): EVALUATE,
    ("report",): REPORT,
    ("compare",): COMPARE, ("import",): IMPORT, ("leaks",): LEAKS, ("methods",): Command(lambda rec: None, {}), ("export",): EXPORT,
    ("explore",): EXPLORE, ("board",): BOARD,
    ("demo",): DEMO, ("data", "inspect"): INSPECT, ("data", "prepare"): PREPARE, ("data", "corrupt"): CORRUPT,
    ("data", "sample"): SAMPLE, ("data", "shard"): SHARD, ("project",): PROJECT, ("encode",): ENCODE,
    ("text", "edit"): TEXT_EDIT, ("text", "adapt"): ADAPT, ("text", "find"): FIND, ("text", "train"): CAPTIONS,
}  # fmt: skip


def recorded(path: tuple[str, ...], given: dict[str, str]) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        rec = Recorder(monkeypatch)
        TABLE[path].watch(rec)
        line = shlex.split(" ".join([*path, *given.values()]))
        GROUP.main(line, "frugan", standalone_mode=False)
    return rec.seen


OPTIONS = [(path, param.name) for path, command in COMMANDS for param in command.params if param.name != "help_all"]


@pytest.mark.parametrize("path, name", OPTIONS, ids=lambda v: v if isinstance(v, str) else "-".join(v))
def test_every_option_reaches_its_field_and_no_other(
    path: tuple[str, ...],
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    cases = TABLE[path].cases[name]
    for case in (cases,) if isinstance(cases, Case) else cases:
        needs = TABLE[path].needs if case.instead is None else case.instead
        before = recorded(path, needs)
        after = recorded(path, {**needs, name: case.text})
        changed = {key: after.get(key) for key in before | after if before.get(key, ABSENT) != after.get(key, ABSENT)}
        assert changed == case.changes
    assert list(tmp_path.iterdir()) == []
    if path != ("directions",):  # whose options are tried with its default method
        assert [record.message for record in caplog.records if "has no effect" in record.message] == []
