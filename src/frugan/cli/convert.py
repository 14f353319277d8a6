"""`frugan import` and `frugan export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer import Option

from frugan.checks import Only
from frugan.cli.common import print_command, say
from frugan.cli.signature import Destination
from frugan.errors import FruganError, counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from frugan.interop import ExportConfig


def import_(
    file: Annotated[Path, typer.Argument(help="A released .pkl, or a community .pt.")],
    out: Annotated[Path, Destination("either"), typer.Argument(help="Directory to make for the network.")],
) -> None:
    """Turn a StyleGAN2 checkpoint into safetensors and JSON. Nothing in the file is executed."""
    from frugan.interop import read_network, write_directory

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FruganError(f"{out} exists and is not an empty directory; choose another one")
    found = read_network(file)
    write_directory(out, found)
    G = found.generator
    count = sum(p.numel() for p in G.parameters())
    (h, w), labels = G.resolution, f", labels of size {G.label_size}" if G.label_size else ""
    say(f"generator of {h}x{w}, {counted(G.channels, 'channel')}, {count:,} parameters{labels}")
    others = {"raw generator": found.raw_generator, "discriminator": found.discriminator}
    if kept := " and ".join(name for name, network in others.items() if network is not None):
        say(f"kept beside it, to train on from: {kept}")
    for note in found.notes:
        say(note)
    print_command("Make images with", "generate", out, "--seeds", "0-15")


def export(
    source: Annotated[Path, typer.Argument(help="A run, one of its checkpoints, an import, a foreign .pkl or .pt, hf:user/name, or sample: the one that comes with frugan.")],
    out: Annotated[Path, Destination("either"), typer.Argument(help="The file to write; a directory for format pretrained.")],
    format: Annotated[Literal["onnx", "torch-export", "community", "pretrained", "page"], Option(help="onnx: .onnx; torch-export: .pt2; community: .pt of the MIT-licensed implementation; pretrained: a directory as the Hugging Face hub has them; page: the explorer as one .html that opens from disk, see frugan explore.")],
    part: Annotated[Literal["whole", "mapping", "synthesis", "styles", "render"], Option(help="onnx, torch-export: z to images; z to ws; ws to images; ws to styles; styles to images.")] = "whole",
    noise: Annotated[Literal["const", "input", "none"], Option(help="onnx, torch-export: the fine grain, a constant, inputs, or none.")] = "const",
    truncation: Annotated[float, Option(help="onnx, torch-export: ψ, becomes a constant of the file.")] = 1.0,
    truncation_cutoff: Annotated[int | None, Only("truncation"), Option(help="Truncate only this many of the first layers.")] = None,
    weights: Annotated[Literal["float16", "int8", "float32"], Option(help="page: how the weights are kept in it.")] = "float16",
    directions: Annotated[list[Path] | None, Option(help="page: a folder of directions; may be repeated. \\[default: as frugan explore]")] = None,
    licence: Annotated[str | None, Option(help="pretrained: the licence of the weights for the model card, as SPDX names it, for instance cc0-1.0.")] = None,
    beside: Annotated[Path | None, Option(help="page: another network, shown beside it on the same latents.")] = None,
    webgpu: Annotated[bool, Option(help="page: compute with WebGPU where a browser has it; 4 MB more.")] = False,
    runtime: Annotated[Path | None, Option(help="page: the .tgz of onnxruntime-web, or a folder with its files. \\[default: fetched once]")] = None,
) -> None:  # fmt: skip
    """Write a generator for other programs: ONNX, torch.export, the community's .pt, a hub directory, or an explorer to open."""
    from frugan.interop import ExportConfig

    config = ExportConfig(part, noise, truncation, truncation_cutoff)
    if out.exists():
        raise FruganError(f"{out} exists; choose another name")
    if format == "page":
        if config != ExportConfig():
            raise FruganError("format page decides part, noise and truncation itself: leave those options out")
        from frugan.cli.explore import write_page

        sources = [source] if beside is None else [source, beside]
        write_page(sources, out, directions or [], weights, runtime, webgpu=webgpu)
        return
    if licence and format != "pretrained":
        raise FruganError(f"--licence belongs to format pretrained, whose model card tells it, not to {format}")
    if (weights, directions, beside, runtime, webgpu) != ("float16", None, None, None, False):
        raise FruganError(
            f"--weights, --directions, --beside, --runtime and --webgpu belong to format page, not to {format}"
        )
    if format in ("onnx", "torch-export"):
        notes = _export_program(source, out, format, config)
    elif config != ExportConfig():
        raise FruganError(
            f"format {format} keeps whole networks: part, noise and truncation belong to onnx and torch-export"
        )
    else:
        notes = _export_pretrained(source, out, licence) if format == "pretrained" else _export_community(source, out)
    for note in notes:
        say(note)


def _export_program(source: Path, out: Path, format: str, config: ExportConfig) -> Sequence[str]:
    """Writes an ONNX or torch.export file and tells its inputs and output; returns notes on the source."""
    from frugan.interop import export_onnx, export_program
    from frugan.interop.export import OPSET
    from frugan.run.load import load_with_notes

    G, notes = load_with_notes(source)
    done = (export_onnx if format == "onnx" else export_program)(out, G, config)
    inputs = ", ".join(f"{name} {_shape(size)}" for name, size in done.inputs.items())
    opset = f"opset {OPSET}; " if format == "onnx" else ""
    say(f"{out}: {opset}{inputs} → {_shape(done.output)}")
    if done.difference is None:
        say("not checked: onnxruntime is not installed; pip install 'frugan[onnx]'")
    else:
        say(f"read back, its output differs by {done.difference:.1e} of its range")
    return notes


def _shape(sizes: Sequence[int]) -> str:
    """A batch of arrays of these sizes: (3, 8, 8) → "[batch, 3, 8, 8]"."""
    return f"[{', '.join(['batch', *map(str, sizes)])}]"


_PRIVACY = "{} is only for training on, and knows the training images best: leave it out where they are private"


def _export_pretrained(source: Path, out: Path, licence: str | None) -> Sequence[str]:
    """Writes a directory as the Hugging Face hub has them; returns notes on the source."""
    from frugan.interop import save_pretrained
    from frugan.run.load import read_class_names, read_source
    from frugan.run.provenance import provenance_of

    found = read_source(source)
    provenance = provenance_of(source, licence)
    save_pretrained(found, out, class_names=read_class_names(source), provenance=provenance)
    choose = "" if licence else "; its licence is yours to choose"
    say(f"{out}: read its model card, README.md, before you publish it{choose}")
    return [*found.notes, *([_PRIVACY.format("discriminator.safetensors")] if found.discriminator else [])]


def _export_community(source: Path, out: Path) -> Sequence[str]:
    """Writes the .pt of the MIT-licensed implementation; returns notes on the source, and on a discriminator that has no
    place there.
    """
    from frugan.interop import community_state, write_community
    from frugan.run.load import read_source

    found = read_source(source)
    D, notes = found.discriminator, list(found.notes)
    if D is not None:
        try:
            community_state(D)
        except FruganError as error:
            D = None
            notes.append(f"the discriminator was left out: {error}")
    write_community(out, found.generator, D, found.raw_generator)
    say(f"{out}: g_ema, g, latent_avg{', d' if D else ''}")
    return [*notes, *([_PRIVACY.format("d, the discriminator,")] if D else [])]
