"""`frugan text`: say what you want. Train a small joint model, edit by words, adapt a generator, find seeds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer import Option

from frugan.checks import Limits, Only, Truncation, checked
from frugan.cli.common import (
    bar,
    check_image,
    check_out,
    class_option,
    counted,
    open_network,
    parse_points,
    parse_seeds,
    print_command,
    resuming,
    say,
    tell_of_sheet,
)
from frugan.cli.signature import Command, Destination, Device, Group, Network, Out
from frugan.errors import FruganError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

    from frugan.latent.code import Point
    from frugan.latent.direction import Direction
    from frugan.latent.statistics import Statistics
    from frugan.latent.text import JointModel, Prompt
    from frugan.networks import Generator

app = typer.Typer(
    cls=Group,
    help="Say what you want: edit images by words, adapt a generator to a text, find seeds.",
    no_args_is_help=True,
)

Model = Annotated[
    str,
    Option(
        help="captions:FOLDER, clip or clip:FOLDER, siglip or siglip:FOLDER, classes or classes:FILE, or package.module:callable."
    ),
]
Text = "a text, or @FILE or @FOLDER: what these images have in common"
Class = Annotated[str | None, Option("--class", help="Class of the samples. \\[default: all]")]
Psi = Annotated[Truncation, Option(help="ψ of samples.")]
SAMPLES = 20_000
_STEP = "step{:05d}"


def train(
    data: Annotated[str, typer.Argument(help="Labelled images: a folder, zip or tar with labels.csv.")],
    out: Out = Path("captions"),
    labels: Annotated[str, Option(help="auto, or a table of labels, for instance labels.csv:eyes,mouth.")] = "auto",
    subject: Annotated[str, Option(help="What the images show, for neutral prompts such as 'a critter'.")] = "image",
    steps: Annotated[int, Limits(at_least=1, at_most=1_000_000_000), Option(help="Steps.")] = 1500,
    batch: Annotated[int, Limits(at_least=4, at_most=4096), Option(help="Images a step.")] = 64,
    side: Annotated[int, Limits(at_least=16, at_most=512), Option(help="Pixels a side that the model sees.")] = 64,
    held_out: Annotated[float, Limits(at_least=0, at_most=1e9), Option(help="Images that it is measured on: a fraction, or a count.")] = 0.1,
    seed: Annotated[int, Limits(at_least=0, at_most=2**32 - 1), Option(help="Of weights and batches.")] = 0,
    device: Device = "auto",
) -> None:  # fmt: skip
    """Fit a small joint model of images and words to your own labelled images."""
    from frugan.device import choose_device
    from frugan.latent.text.attributes import read_attributes
    from frugan.latent.text.captions import CaptionConfig, attribute_accuracy, phrase, save_captioner, train_captioner

    found = read_attributes(data, labels, held_out)
    config = CaptionConfig(steps=steps, batch=batch, side=side, seed=seed, subject=subject)
    check_out(out)
    with bar("fitting captions to images") as progress:
        model = train_captioner(
            found.train, found.train_values, found.attributes, config, device=choose_device(device), progress=progress
        )
    facts = {}
    if len(found.test_values):
        facts["accuracy"] = attribute_accuracy(model, found.test_images(), found.test_values, found.attributes)
        for name, share in facts["accuracy"].items():
            say(f"{name}: {share:.0%} of held-out images are named right (of {len(found.attributes[name])} values)")
    save_captioner(model, out, found.attributes, **facts)
    say(f"the model in {out} knows {', '.join(found.attributes)}")
    attribute, values = next(iter(found.attributes.items()))
    print_command(
        "Use it with",
        "text",
        "edit",
        "NETWORK",
        "--model",
        f"captions:{out}",
        "--neutral",
        f"a {subject}",
        "--target",
        f"a {subject} {phrase(attribute, values[-1])}",
    )


def edit(
    network: Network,
    target: Annotated[str, Option(help=f"What images are to show: {Text}.")],
    model: Model,
    neutral: Annotated[str | None, Option(help="What they show as they are, for global: for instance 'a critter'.")] = None,
    method: Annotated[Literal["global", "shared", "optimise", "mapper"], Option(help="global and shared: a direction for all images; mapper: a small network for all images; optimise: each image by itself.")] = "global",
    out: Out = Path("said"),
    seeds: Annotated[str, Option(help="Seeds and codes that are shown (and, by optimise, edited).")] = "0-7",
    channels: Annotated[int, Limits(at_least=1, at_most=100_000), Only("method", ("global",)), Option(help="global: how many style channels it moves; few are local, many reach shape.")] = 30,
    relevance: Annotated[Literal["jacobian", "differences"], Only("method", ("global",)), Option(help="global: first-order, minutes; or the paper's finite differences, hours.")] = "jacobian",
    images: Annotated[int, Limits(at_least=1, at_most=10_000), Only("method", ("global",)), Option(help="global: samples that relevances are averaged over.")] = 16,
    levels: Annotated[str | None, Only("method", ("global",)), Option(help="global: levels by their size, for instance 8-32. \\[default: all]")] = None,
    groups: Annotated[str, Only("method", ("mapper",)), Option(help="mapper: some of coarse,middle,fine.")] = "coarse,middle,fine",
    steps: Annotated[int | None, Limits(at_least=1, at_most=1_000_000), Only("method", ("optimise", "mapper")), Option(help="optimise and mapper. \\[default: 150 and 300]")] = None,
    keep: Annotated[float | None, Limits(at_least=0, at_most=1e6), Only("method", ("optimise", "mapper")), Option(help="optimise and mapper: weight of staying close. \\[default: 1.5 and 0.05]")] = None,
    wanted: Annotated[float | None, Limits(above=0, at_most=2), Option(help="Strength by a wanted rise of the similarity (cosine).")] = None,
    kept: Annotated[float | None, Limits(above=0, at_most=10), Option(help="Strength by how far images may move, in distances between two samples. \\[default: 0.25]")] = None,
    mapper: Annotated[Path | None, Only("method", ("mapper",)), Option(help="mapper: one that was trained before, instead of training.")] = None,
    template: Annotated[list[str] | None, Option(help="A sentence with {} for the prompt; may be repeated. \\[default: the model's own]")] = None,
    label: Class = None,
    truncation: Psi = 0.7,
    seed: Annotated[int, Limits(at_least=0, at_most=2**32 - 1), Option(help="mapper: of its weights and samples.")] = 0,
    device: Device = "auto",
) -> None:  # fmt: skip
    """Edit images by words (StyleCLIP): a direction, a mapper, or each image by itself.

    A mapper or an optimisation that was stopped is resumed by the same command.
    """
    from frugan.files import discard
    from frugan.latent.code import file_stems
    from frugan.latent.edit import Truncation
    from frugan.latent.levels import parse_levels
    from frugan.latent.statistics import statistics_of
    from frugan.latent.text import change, open_model, prompt_vector

    if method == "global" and neutral is None:
        raise FruganError("--method global needs --neutral: what images show as they are, for instance 'a critter'")
    points = parse_points(seeds)
    G, c = open_network(network, label, device, optional=True)
    chosen = parse_levels(levels, G) if levels else None
    joint = open_model(model, G.mapping.w_avg.device)
    end = prompt_vector(joint, _prompt(target, G), template)
    way = change(joint, _prompt(neutral, G), _prompt(target, G), template) if neutral is not None else None
    _check_points(G, points, method, groups, mapper)
    check_out(out)
    with bar("statistics of w") as progress:
        statistics = statistics_of(G, samples=SAMPLES, labels=None if c is None else c[None], progress=progress)
    if method in ("global", "shared"):
        if method == "global":
            assert way is not None
            found = _global(G, joint, statistics, way, target, relevance, images, channels, chosen, truncation, c)
        else:
            found = _shared(G, joint, end, statistics, target, truncation, c)
        strength = _save_direction(
            G, found, joint, end if way is None else way, points, c, truncation, wanted, kept, out
        )
        to_edit = ("edit", network, "--direction", f"{out}:0", "--strengths", f"0:{strength:g}:5")
        print_command("Edit with", *to_edit, *class_option(G, label))
        return
    with resuming(out / ".fit") as state:
        ws = _edited(
            G, joint, statistics, end, points, c, Truncation(truncation), method, out, state, groups=groups, steps=steps, keep=keep,
            wanted=wanted, mapper=mapper, seed=seed, target=target,
        )  # fmt: skip
        _save_codes(G, joint, end, points, c, Truncation(truncation), ws, out, method, target)
    discard(state)
    print_command("Use them with", "generate", network, "--code", out / f"{file_stems(points)[0]}.safetensors")


def adapt(
    network: Network,
    model: Model,
    source: Annotated[str | None, Option(help="What images show now, for instance 'a photo'.")] = None,
    target: Annotated[str | None, Option(help="What they are to show, for instance 'a sketch'.")] = None,
    images: Annotated[list[str] | None, Option(help="Instead of texts: images, or folders of them, to become like; may be repeated.")] = None,
    out: Out = Path("adapted"),
    steps: Annotated[int, Limits(at_least=1, at_most=100_000), Option(help="Steps. Long runs overshoot: choose a snapshot.")] = 300,
    every: Annotated[int, Limits(at_least=1, at_most=100_000), Option(help="Steps between snapshots.")] = 50,
    batch: Annotated[int, Limits(at_least=1, at_most=1024), Option(help="Images a step.")] = 2,
    layers: Annotated[int | None, Limits(at_least=1, at_most=64), Option(help="How many ws choose the convolutions that a step trains: few for texture. \\[default: all]")] = None,
    lr: Annotated[float, Limits(above=0, at_most=1), Option(help="Learning rate.")] = 0.002,
    seeds: Annotated[str, Option(help="Seeds of the strip.")] = "0-5",
    template: Annotated[list[str] | None, Option(help="A sentence with {} for the prompt; may be repeated.")] = None,
    seed: Annotated[int, Limits(at_least=0, at_most=2**32 - 1), Option(help="Of the latents.")] = 0,
    device: Device = "auto",
) -> None:  # fmt: skip
    """Adapt a generator to a text, or to a few images, without a data set (StyleGAN-NADA): snapshots, and a strip to choose from.

    One that was stopped is resumed by the same command.
    """
    import torch

    from frugan.files import discard
    from frugan.images import save_image
    from frugan.latent.sheets import table
    from frugan.latent.targets import read_targets
    from frugan.latent.text import change, nada, open_model, prompt_vector
    from frugan.latent.tuning import check_home, save_tuned
    from frugan.run.load import generator_folder, read_class_names

    if bool(images) == (source is not None or target is not None) or (source is None) != (target is None):
        raise FruganError("give --source and --target, two texts, or --images of what the results are to be like")
    config = nada.AdaptConfig(steps=steps, batch=batch, lr=lr, layers=layers, seed=seed)
    home = Path(network) if Path(network).is_file() else generator_folder(network)
    check_home(home)
    numbers = parse_seeds(seeds)
    G, _ = open_network(network, None, device, optional=True)
    joint = open_model(model, G.mapping.w_avg.device)
    if images:
        way, end = nada.change_to_images(G, joint, read_targets(images, G).images.to(G.mapping.w_avg.device))
    else:
        way = change(joint, _prompt(source, G), _prompt(target, G), template)
        end = prompt_vector(joint, _prompt(target, G), template)
    check_out(out)
    shown, trained, folder = {"parent": _samples(G, numbers)}, dict[str, int](), out
    with resuming(out / ".fit") as state, bar("adapting") as progress:
        for snapshot in nada.adapt(G, joint, way, end, config, every=every, state=state, progress=progress):
            if not trained:  # the first, or, of one that was stopped and is resumed, the last before
                shown |= _samples_before(out, range(every, snapshot.step, every), numbers, device)
            folder = out / _STEP.format(snapshot.step)
            save_tuned(snapshot.child, G, home, folder, class_names=read_class_names(network))
            shown[str(snapshot.step)] = _samples(snapshot.child, numbers)
            trained = snapshot.chosen
    columns = torch.stack([*shown.values()], 1).flatten(0, 1)
    strip = table(columns, len(shown), column_names=[*shown], row_names=[str(n) for n in numbers])
    save_image(strip, out / "strip.png")
    discard(state)
    tell_of_sheet(G)
    top = sorted(trained.items(), key=lambda item: -item[1])
    say(f"convolutions trained most: {', '.join(f'{name} ({count})' for name, count in top[:5])}")
    say(f"{len(shown) - 1} snapshots in {out}; choose one by {out / 'strip.png'}")
    print_command("Go part of the way with", "blend", network, folder, "--interpolate", "0:1:5", *class_option(G, None))


def find(
    network: Network,
    text: Annotated[str, typer.Argument(help=f"What to look for: {Text}.")],
    model: Model,
    seeds: Annotated[str, Option(help="Seeds that are looked at.")] = "0-999",
    count: Annotated[int, Limits(at_least=1, at_most=10_000), Option(help="How many are shown.")] = 16,
    out: Annotated[Path, Destination(), Option("--out", "-o", help="The image to write.")] = Path("found.png"),
    template: Annotated[list[str] | None, Option(help="A sentence with {} for the prompt; may be repeated.")] = None,
    label: Class = None,
    truncation: Psi = 1.0,
    device: Device = "auto",
) -> None:  # fmt: skip
    """Find the seeds whose images fit a text best."""
    from frugan.images import save_image
    from frugan.latent.code import render_points
    from frugan.latent.edit import Truncation
    from frugan.latent.sheets import table
    from frugan.latent.text import open_model, prompt_vector
    from frugan.latent.text.search import find_seeds

    numbers = parse_seeds(seeds)
    G, c = open_network(network, label, device, optional=False)
    joint = open_model(model, G.mapping.w_avg.device)
    end = prompt_vector(joint, _prompt(text, G), template)
    check_image(out)
    psi = Truncation(truncation)
    with bar("looking at images") as progress:
        found = find_seeds(G, joint, end, numbers, c=c, truncation=psi, progress=progress)[:count]
    images = render_points(G, [f.seed for f in found], c, truncation=psi).cpu()
    columns = min(8, len(found))
    names = [f"{f.seed}: {f.similarity:.2f}" for f in found]
    sheet = table(images, columns, title=f"{text[:60]}; seeds from {names[0]} to {names[-1]}")
    save_image(sheet, out)
    tell_of_sheet(G)
    say("\n".join(names))
    again = (*class_option(G, label), *(("--truncation", f"{truncation:g}") if truncation != 1 else ()))
    print_command("Make them with", "generate", network, "--seeds", ",".join(str(f.seed) for f in found), *again)


for _command in (train, edit, adapt, find):
    app.command(cls=Command)(checked(_command))


def _global(
    G: Generator, joint: JointModel, statistics, way: Tensor, target: str, relevance: str, images: int, channels: int,
    levels: tuple[int, ...] | None, truncation: float, c: Tensor | None,
) -> Direction:  # fmt: skip
    """StyleCLIP's global direction."""
    import torch

    from frugan.latent.text import styleclip

    ws = styleclip.sample_ws(G, images, 1 << 29, truncation, c)
    with bar("relevance of style channels") as progress:
        if relevance == "jacobian":
            found = styleclip.relevance_by_jacobian(G, joint, statistics, ws, progress=progress)
        else:
            some = torch.nonzero(styleclip.convolution_channels(G)).flatten()
            kept = styleclip.relevance_by_differences(G, joint, statistics, ws, some, progress=progress)
            found = torch.zeros(len(statistics.style_mean), kept.shape[1], device=kept.device)
            found[some] = kept
    source = {"model": joint.name, "target": target, "relevance": relevance, "images": images}
    return styleclip.global_direction(
        G, statistics, found, way, channels=channels, name=_name(target), levels=levels, source=source
    )


def _shared(
    G: Generator, model: JointModel, end: Tensor, statistics: Statistics, target: str, psi: float, c: Tensor | None
) -> Direction:
    from frugan.latent.text.styleclip import shared_direction

    with bar("looking for one direction") as progress:
        return shared_direction(G, model, end, statistics, name=_name(target), c=c, truncation=psi, progress=progress)


def _save_direction(
    G: Generator, found: Direction, joint: JointModel, text: Tensor, points: Sequence[Point], c: Tensor | None,
    truncation: float, wanted: float | None, kept: float | None, out: Path,
) -> float:  # fmt: skip
    """Writes the direction, its slider ending at the strength that is asked for and returned, and a sheet."""
    from dataclasses import replace

    import torch

    from frugan.images import save_image
    from frugan.latent.code import point_names, render_points
    from frugan.latent.direction import save_directions
    from frugan.latent.edit import Edit, Truncation
    from frugan.latent.scoring import labels_for
    from frugan.latent.sheets import table
    from frugan.latent.text.styleclip import sample_ws, strength_for

    ws = sample_ws(G, 8, 1 << 30, truncation, c)
    labels = labels_for(G, c, len(points))
    by = {"wanted": wanted} if wanted is not None else {"kept": 0.25 if kept is None else kept}
    strength = strength_for(G, found, ws, model=joint, text=text, **by)
    found = replace(found, slider=(-strength, strength))
    save_directions([found], out)
    psi = Truncation(truncation)
    strengths = [strength * share for share in (-1, -0.5, 0, 0.5, 1)]
    columns = [render_points(G, points, labels, [Edit(found, s)], psi) for s in strengths]
    with torch.no_grad():
        gain = float(((joint.images(columns[-1]) - joint.images(columns[2])) @ text).mean())
    sheet = table(
        torch.stack(columns, 1).flatten(0, 1).cpu(), len(strengths),
        column_names=[f"{s:+.3g}" for s in strengths], row_names=point_names(points), title=found.name,
    )  # fmt: skip
    save_image(sheet, out / f"{found.name}.png")
    tell_of_sheet(G)
    facts = f"{found.source.get('channels')} style channels"
    say(f"{facts}, strength {strength:g}: similarity to the text rises by {gain:.3f} over {len(points)} images")
    say(f"a direction in {out}; look at {out / f'{found.name}.png'}")
    return strength


def _check_points(G: Generator, points: Sequence[Point], method: str, groups: str, mapper: Path | None) -> None:
    """Raises `FruganError` for codes and mappers that the method cannot use."""
    from frugan.latent.code import Code, check_points, code_ws
    from frugan.latent.text import styleclip

    check_points(G, points)
    if method in ("optimise", "mapper"):
        for point in points:
            if isinstance(point, Code):
                code_ws(point)
    if method == "mapper":
        styleclip.check_groups(_groups(groups))
        if mapper is not None:
            styleclip.load_mapper(mapper, G)


def _groups(text: str) -> tuple[str, ...]:
    return tuple(text.replace(" ", "").split(","))


def _edited(
    G: Generator, joint: JointModel, statistics, end: Tensor, points: Sequence[Point], c: Tensor | None, truncation, method: str,
    out: Path, state: Path, *, groups: str, steps: int | None, keep: float | None, wanted: float | None, mapper: Path | None, seed: int, target: str,
) -> Tensor:  # fmt: skip
    """ws of the points, edited by optimisation or by a mapper."""
    import torch

    from frugan.latent.code import point_ws
    from frugan.latent.scoring import labels_for
    from frugan.latent.text import styleclip

    ws = point_ws(G, points, labels_for(G, c, len(points)), truncation)
    if method == "optimise":
        config = styleclip.OptimiseConfig(steps=steps or 150, keep=1.5 if keep is None else keep, wanted=wanted)
        with bar("optimising") as progress:
            return styleclip.optimise(G, joint, ws, end, statistics, config, state=state, progress=progress)[0]
    if mapper is not None:
        made = styleclip.load_mapper(mapper, G)
    else:
        config = styleclip.MapperConfig(
            steps=steps or 300,
            keep=0.05 if keep is None else keep,
            truncation=truncation.psi,
            groups=_groups(groups),
            seed=seed,
        )
        with bar("training the mapper") as progress:
            made = styleclip.train_mapper(G, joint, end, statistics, config, c=c, state=state, progress=progress)
        styleclip.save_mapper(made, G, out / "mapper", target=target, model=joint.name)
    with torch.no_grad():
        return made(ws)


def _save_codes(
    G: Generator, joint: JointModel, end: Tensor, points: Sequence[Point], c: Tensor | None, truncation, ws: Tensor, out: Path,
    method: str, target: str,
) -> None:  # fmt: skip
    """Codes, images and a sheet of before and after."""
    import torch

    from frugan.image_files import choose_output
    from frugan.images import save_image
    from frugan.latent.code import Code, file_stems, point_names, render_points, save_code
    from frugan.latent.direction import Identity
    from frugan.latent.scoring import labels_for
    from frugan.latent.sheets import table

    identity = Identity.of(G)
    codes = [
        Code(stem, one.cpu(), identity, *_kept(point), facts={"method": method, "target": target})
        for stem, point, one in zip(file_stems(points), points, ws)
    ]
    before = render_points(G, points, labels_for(G, c, len(points)), truncation=truncation)
    after = render_points(G, codes)
    with torch.no_grad():
        gain = float(((joint.images(after) - joint.images(before)) @ end).mean())
    for code in codes:
        save_code(code, out / f"{code.name}.safetensors")
    choose_output(G.pixels, G.channels).save(after, [out / code.name for code in codes])
    sheet = table(
        torch.stack([before, after], 1).flatten(0, 1).cpu(), 2, column_names=["before", "after"], row_names=point_names(points),
        title=target[:40],
    )  # fmt: skip
    save_image(sheet, out / "sheet.png")
    tell_of_sheet(G)
    say(f"similarity to the text rises by {gain:.3f} over {len(codes)} images")
    say(f"{counted(len(codes), 'code')} in {out}; look at {out / 'sheet.png'}")


def _samples_before(out: Path, steps: Iterable[int], numbers: Sequence[int], device: str) -> dict[str, Tensor]:
    """By step, the samples of those snapshots that an adaptation wrote before it was stopped."""
    folders = {str(step): folder for step in steps if (folder := out / _STEP.format(step)).is_dir()}
    return {
        step: _samples(open_network(str(folder), None, device, optional=True)[0], numbers)
        for step, folder in folders.items()
    }


def _samples(G: Generator, numbers: Sequence[int]) -> Tensor:
    from frugan.latent.code import render_points
    from frugan.latent.edit import Truncation
    from frugan.latent.scoring import labels_for

    return render_points(G, list(numbers), labels_for(G, None, len(numbers)), truncation=Truncation(0.7)).cpu()


def _prompt(text: str | None, G: Generator) -> Prompt:
    """A text; "@FILE" or "@FOLDER" are images."""
    from frugan.latent.targets import read_targets

    assert text is not None
    return read_targets([text[1:]], G).images.to(G.mapping.w_avg.device) if text.startswith("@") else text


def _kept(point: Point) -> tuple[tuple[Tensor, ...], Tensor | None]:
    """The noise maps and the label of a code, which an edit of its ws leaves as they are."""
    return ((), None) if isinstance(point, int) else (point.noise, point.c)


def _name(text: str) -> str:
    """A text as part of a file's name."""
    import re

    return re.sub(r"[^\w.+-]+", "-", text.lower()).strip("-.")[:40] or "text"
