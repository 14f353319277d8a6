"""`frugan project` and `frugan encode`: images into the latent space of a trained generator."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Option

from frugan.checks import Limits, Only
from frugan.cli.common import bar, check_out, counted, open_network, print_command, resuming, say, tell_of_sheet
from frugan.cli.signature import Device, Network, Out
from frugan.command_line import command
from frugan.errors import FruganError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from frugan.latent.fitting import Distance, FitReport
    from frugan.latent.projection import Projection, ProjectionConfig
    from frugan.latent.statistics import Statistics
    from frugan.latent.targets import Targets
    from frugan.latent.tuning import TuningConfig
    from frugan.networks import Generator

Images = Annotated[list[str], typer.Argument(help="Image files, or folders of them.")]
SAMPLES = 10_000
EVERY = 50
"""Steps between two writes of progress.png."""


def project(
    network: Network,
    images: Images,
    out: Out = Path("projected"),
    space: Annotated[Literal["w", "pn", "w+", "s"], Option(help="The last rung of the ladder: w edits best, pn lies between, w+ fits closer, s (offsets of styles) closest.")] = "pn",
    tune: Annotated[bool, Option(help="Tune the weights around the codes, too: a small network in OUT/tuned.")] = False,
    noise: Annotated[Literal["const", "keep"], Option(help="const: the network's own noise; keep: noise maps are fitted and kept in the code.")] = "const",
    start: Annotated[Literal["auto", "mean", "centres"], Option(help="mean of w (of the class), the best of k-means centres, or the best of these.")] = "auto",
    encoder: Annotated[Path | None, Option(help="A folder that frugan encode --train wrote: start from what it says.")] = None,
    distance: Annotated[str, Option(help="lpips, lpips-alex, efficientnet, discriminator, pixels, or a sum such as efficientnet+0.5*pixels.")] = "auto",
    target: Annotated[float | None, Limits(above=0, at_most=1e6), Option(help="Leave an image alone once its distance is this or less.")] = None,
    mask: Annotated[Path | None, Option(help="An image of the generator's size: only its white part counts, the rest is filled in.")] = None,
    label: Annotated[str | None, Option("--class", help="Class of the images. \\[default: estimated]")] = None,
    steps_w: Annotated[int, Limits(at_least=1, at_most=1_000_000), Option(help="Steps of the W rung.")] = 300,
    steps: Annotated[int, Limits(at_least=1, at_most=1_000_000), Only("space", ("pn", "w+", "s")), Option(help="Steps of the PN, W+ or S rung.")] = 400,
    tune_steps: Annotated[int, Limits(at_least=1, at_most=1_000_000), Only("tune"), Option(help="Steps of --tune, at most.")] = 350,
    rank: Annotated[int | None, Limits(at_least=1, at_most=65536), Only("tune"), Option(help="--tune: keep weight differences of this rank. \\[default: whole, in half precision]")] = None,
    batch: Annotated[int, Limits(at_least=1, at_most=4096), Option(help="Images fitted at once.")] = 8,
    seed: Annotated[int, Limits(at_least=0, at_most=2**32 - 1), Option(help="Of the samples that tuning compares with.")] = 0,
    device: Device = "auto",
) -> None:  # fmt: skip
    """Find images in a generator: a code for each, which everything that takes seeds takes, and a sheet that compares.

    A projection that was stopped is resumed by the same command.
    """
    from frugan.files import discard
    from frugan.latent.fitting import open_distance
    from frugan.latent.fitting.distances import Setting
    from frugan.latent.projected import write_projection
    from frugan.latent.projection import ProjectionConfig
    from frugan.latent.statistics import statistics_of
    from frugan.latent.targets import check_apart, read_mask, read_targets
    from frugan.latent.tuning import TuningConfig, check_count

    config = ProjectionConfig(space, noise, start, steps_w=steps_w, steps=steps, target=target, seed=seed)
    if tune and space == "s":
        raise FruganError("--tune fits weights around ws: choose --space w, pn or w+")
    G, c = open_network(network, label, device, optional=True)
    home = _check_tuning(network) if tune else None
    check_apart(images, out)
    found = read_targets(images, G)
    if tune:
        check_count(len(found.names))
    keep = read_mask(mask, G) if mask else None
    setting = Setting(G.mapping.w_avg.device, _discriminator(network, distance))
    measure = open_distance(distance, setting)
    first = _encode(G, encoder, found.images) if encoder else None
    check_out(out)
    for note in found.notes:
        say(note)
    with bar("statistics of w") as progress:
        statistics = statistics_of(G, samples=SAMPLES, progress=progress)
    task = _Task(G, found, measure, statistics, keep, out)
    with resuming(task.states):
        made = _fit(task, config, labels=c, encoded=first, batch=batch)
        if home is not None:
            _tune(task, network, home, made, TuningConfig(steps=tune_steps, target=target, seed=seed), rank=rank)
        write_projection(out, made, made.codes(G, found.names), found.images, target, pixels=G.pixels)
    for file in (out / "progress.png", task.states):
        discard(file)
    _show(found.names, made, target, network)
    say(f"{counted(len(found.names), 'code')} in {out}; look at {out / 'sheet.png'} ({made.distance}: lower is closer)")
    tell_of_sheet(G)
    which = out / "tuned" if tune else network
    print_command(
        "Use them with", "edit", which, "--seeds", out / f"{found.names[0]}.safetensors", "--direction", "FOUND:0"
    )


def encode(
    network: Network,
    images: Annotated[list[str] | None, typer.Argument(help="Image files, or folders of them.")] = None,
    train: Annotated[bool, Option(help="Train an encoder on the generator's own samples, and write it into OUT.")] = False,
    encoder: Annotated[Path | None, Option(help="The folder that --train wrote.")] = None,
    out: Out = Path("encoder"),
    steps: Annotated[int, Limits(at_least=1, at_most=10_000_000), Only("train"), Option(help="--train: steps.")] = 2000,
    batch: Annotated[int, Limits(at_least=2, at_most=4096), Only("train"), Option(help="--train: images a step.")] = 16,
    seed: Annotated[int, Limits(at_least=0, at_most=2**32 - 1), Only("train"), Option(help="--train.")] = 0,
    device: Device = "auto",
) -> None:  # fmt: skip
    """Train an encoder for a generator, or write the codes that it finds for images at once."""
    from frugan.files import discard
    from frugan.latent.code import Code, save_code
    from frugan.latent.direction import Identity
    from frugan.latent.encoder import EncoderConfig, save_encoder, train_encoder
    from frugan.latent.targets import read_targets

    if train == bool(images):
        raise FruganError("give --train to train an encoder, or images and --encoder FOLDER to encode them")
    G, _ = open_network(network, None, device, optional=True)
    if train:
        config = EncoderConfig(steps=steps, batch=batch, seed=seed)
        check_out(out)
        with resuming(out / ".fit") as state:
            with bar("training the encoder") as progress:
                made, error = train_encoder(G, config, state=state, progress=progress)
            save_encoder(made, G, out, config, error)
        discard(state)
        say(f"encoder in {out}: it explains {1 - error:.0%} of the variance of w of samples that it has not seen")
        print_command("Use it with", "project", network, "IMAGES", "--encoder", out)
        return
    if encoder is None:
        raise FruganError(f"give --encoder FOLDER, which {command('encode', network, '--train')} wrote")
    found = read_targets(images or [], G)
    ws = _encode(G, encoder, found.images)
    check_out(out)
    identity = Identity.of(G)
    for name, one in zip(found.names, ws.cpu()):
        save_code(Code(name, one, identity, facts={"image": name, "space": "encoder"}), out / f"{name}.safetensors")
    for line in [*found.notes, f"{counted(len(found.names), 'code')} in {out}"]:
        say(line)


@dataclass(frozen=True)
class _Task:
    """Images to find in a generator: the distance that measures, statistics of w, a mask or None, the folder to write into."""

    G: Generator
    targets: Targets
    measure: Distance
    statistics: Statistics
    mask: Tensor | None
    out: Path

    @property
    def states(self) -> Path:
        """The folder of fits that were begun, from which the same command resumes."""
        return self.out / ".fits"


def _fit(
    task: _Task, config: ProjectionConfig, *, labels: Tensor | None, encoded: Tensor | None, batch: int
) -> Projection:
    """The rungs of all images, `batch` of them fitted at once; `encoded`: what an encoder says of each, to start from."""
    from frugan.latent.projected import joined
    from frugan.latent.projection import project as climb

    count = len(task.targets.names)
    parts = []
    for i in range(0, count, batch):
        rows = slice(i, i + batch)
        images = task.targets.images[rows]
        folder = task.states / f"{i:05d}"
        folder.mkdir(parents=True, exist_ok=True)
        with bar(f"images {i + 1} to {min(i + batch, count)} of {count}") as progress:
            parts.append(
                climb(
                    task.G, images, task.measure, task.statistics, config, labels=labels, mask=task.mask, states=folder,
                    encoded=None if encoded is None else encoded[rows], watch=_watch(progress, task.out, images),
                )
            )  # fmt: skip
    return joined(parts)


def _check_tuning(network: str) -> Path:
    from frugan.latent.tuning import check_home
    from frugan.run.load import generator_folder

    home = Path(network)
    home = home if home.is_file() else generator_folder(network)
    check_home(home)
    return home


def _discriminator(network: str, distance: str) -> Any:
    """The run's discriminator, where the distance asks for it (or may)."""
    if "discriminator" not in distance and distance != "auto":
        return None
    from frugan.run.load import read_source

    try:
        return read_source(network).discriminator
    except FruganError:
        return None


def _encode(G: Generator, folder: Path, images: Tensor) -> Tensor:
    from frugan.latent.encoder import load_encoder

    return load_encoder(folder, G).encode(images.to(G.mapping.w_avg.device))


def _watch(progress: Callable[[int, int], None], out: Path, targets: Tensor) -> Callable[[str, FitReport], None]:
    """Moves the bar, and writes progress.png: the targets, and what they have become so far."""
    import torch

    from frugan.images import save_image
    from frugan.latent.sheets import table

    def watch(rung: str, report: FitReport) -> None:
        progress(report.step, report.steps)
        if report.step % EVERY == 0 and report.images.numel():
            sheet = torch.stack([targets, report.images.clamp(-1, 1)], 1).flatten(0, 1)
            title = f"{rung}, step {report.step} of {report.steps}"
            save_image(table(sheet, 2, column_names=["target", "so far"], title=title), out / "progress.png")

    return watch


def _tune(task: _Task, network: str, home: Path, made: Projection, config: TuningConfig, *, rank: int | None) -> None:
    """Adds the rung "tuned" to `made`, and writes OUT/tuned beside the weights at `home`; `rank` of the differences kept."""
    import torch

    from frugan.latent.projection import Rung, Target
    from frugan.latent.tuning import save_tuned, tune
    from frugan.networks import load_generator
    from frugan.run.load import read_class_names

    G, out = task.G, task.out
    began = time.perf_counter()
    goal = Target(task.targets.images.to(made.last.ws.device), task.measure, task.mask)
    facts = f"{task.statistics.digest} {config} {made.distance} {float(made.last.ws.double().sum())!r}"
    with bar("tuning the weights") as progress:
        tuned, report = tune(
            G, goal, made.last.ws, task.statistics, config, noise=made.last.noise, state=task.states / "tuned.fit", facts=facts,
            watch=_watch(progress, out, task.targets.images),
        )  # fmt: skip
    seconds = time.perf_counter() - began
    names = read_class_names(network)
    save_tuned(tuned.cpu(), G.cpu(), home, out / "tuned", rank=rank, class_names=names)
    kept = load_generator(out / "tuned").to(made.last.ws.device)
    G.to(made.last.ws.device)
    with torch.no_grad():
        noise: Any = list(made.last.noise) or "const"
        images = torch.cat([kept.synthesis(ws[None], noise=_rows(noise, i)) for i, ws in enumerate(made.last.ws)])
        images = images.clamp(-1, 1)
        distance = goal.compare(images)
    psnr = goal.psnr(images).cpu()
    made.rungs.append(Rung("tuned", made.last.ws, made.last.noise, images, distance.cpu(), psnr, seconds, report.step))


def _rows(noise: Any, i: int) -> Any:
    return noise if noise == "const" else [n[i : i + 1] for n in noise]


def _show(names: Sequence[str], made: Projection, target: float | None, network: str) -> None:
    from rich.table import Table

    from frugan.cli.common import console
    from frugan.run.load import read_class_names

    classes = read_class_names(network) if made.labels is not None else None
    sheet = Table("image", *(r.name for r in made.rungs), "suffices", box=None, header_style="dim")
    for i, name in enumerate(names[:40]):
        cells = [f"{float(r.distance[i]):.3f} ({float(r.psnr[i]):.1f} dB)" for r in made.rungs]
        which = made.sufficient(i, target)
        label = ""
        if made.labels is not None and classes and len(classes) == made.labels.shape[1]:
            label = f" [{classes[int(made.labels[i].argmax())]}]"
        sheet.add_row(f"{name}{label}".replace("[", "\\["), *cells, which)
    console.print(sheet)
