"""`frugan import` and `frugan export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Option

from frugan.cli.common import print_command, say
from frugan.errors import FruganError


def import_(
    file: Annotated[Path, typer.Argument(help="A released .pkl, or a community .pt.")],
    out: Annotated[Path, typer.Argument(help="Directory to make for the network.")],
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
    say(f"generator of {h}x{w}, {G.channels} channels, {count:,} parameters{labels}")
    others = {"raw generator": found.raw_generator, "discriminator": found.discriminator}
    if kept := " and ".join(name for name, network in others.items() if network is not None):
        say(f"kept beside it, to train on from: {kept}")
    for note in found.notes:
        say(note)
    print_command("Make images with", "generate", out, "--seeds", "0-15")


def export(
    source: Annotated[Path, typer.Argument(help="A run, one of its checkpoints, an import, a foreign .pkl or .pt, hf:user/name, or sample: the one that comes with frugan.")],
    out: Annotated[Path, typer.Argument(help="The file to write; a directory for format pretrained.")],
    format: Annotated[Literal["onnx", "torch-export", "community", "pretrained", "page"], Option(help="onnx: .onnx; torch-export: .pt2; community: .pt of the MIT-licensed implementation; pretrained: a directory as the Hugging Face hub has them; page: the explorer as one .html that opens from disk, see frugan explore.")],
    part: Annotated[Literal["whole", "mapping", "synthesis", "styles", "render"], Option(help="onnx, torch-export: z to images; z to ws; ws to images; ws to styles; styles to images.")] = "whole",
    noise: Annotated[Literal["const", "input", "none"], Option(help="onnx, torch-export: the fine grain, a constant, inputs, or none.")] = "const",
    truncation: Annotated[float, Option(help="onnx, torch-export: ψ, becomes a constant of the file.")] = 1.0,
    truncation_cutoff: Annotated[int | None, Option(help="Truncate only this many of the first layers.")] = None,
    weights: Annotated[Literal["float16", "int8", "float32"], Option(help="page: how the weights are kept in it.")] = "float16",
    directions: Annotated[list[Path] | None, Option(help="page: a folder of directions; may be repeated. \\[default: as frugan explore]")] = None,
    licence: Annotated[str | None, Option(help="pretrained: the licence of the weights for the model card, as SPDX names it, for instance cc0-1.0.")] = None,
    webgpu: Annotated[bool, Option(help="page: compute with WebGPU where a browser has it; 4 MB more.")] = False,
    runtime: Annotated[Path | None, Option(help="page: the .tgz of onnxruntime-web, or a folder with its files. \\[default: fetched once]")] = None,
) -> None:  # fmt: skip
    """Write a generator for other programs: ONNX, torch.export, the community's .pt, a hub directory, or an explorer to open."""
    from frugan.interop import (
        ExportConfig,
        community_state,
        export_onnx,
        export_program,
        save_pretrained,
        write_community,
    )
    from frugan.interop.export import OPSET
    from frugan.run.load import load_with_notes, read_class_names, read_source
    from frugan.run.provenance import provenance_of

    config = ExportConfig(part, noise, truncation, truncation_cutoff)
    if out.exists():
        raise FruganError(f"{out} exists; choose another name")
    if format == "page":
        if config != ExportConfig():
            raise FruganError("format page decides part, noise and truncation itself: leave those options out")
        from frugan.cli.explore import write_page

        write_page(source, out, directions or [], weights, runtime, webgpu=webgpu)
        return
    if licence and format != "pretrained":
        raise FruganError(f"--licence belongs to format pretrained, whose model card tells it, not to {format}")
    if (weights, directions, runtime, webgpu) != ("float16", None, None, False):
        raise FruganError(f"--weights, --directions, --runtime and --webgpu belong to format page, not to {format}")
    if format in ("onnx", "torch-export"):
        G, notes = load_with_notes(source)
        done = (export_onnx if format == "onnx" else export_program)(out, G, config)
        sizes = ", ".join(f"{name} {['batch', *size]}" for name, size in done.inputs.items()).replace("'", "")
        say(f"{out}: {f'opset {OPSET}; ' if format == 'onnx' else ''}{sizes} → [batch, {str(done.output)[1:-1]}]")
        if done.difference is None:
            say("not checked: onnxruntime is not installed; pip install 'frugan[onnx]'")
        else:
            say(f"read back, its output differs by {done.difference:.1e} of its range")
        for note in notes:
            say(note)
        return
    if config != ExportConfig():
        raise FruganError(
            f"format {format} keeps whole networks: part, noise and truncation belong to onnx and torch-export"
        )
    found = read_source(source)
    D, notes = found.discriminator, found.notes
    if format == "pretrained":
        provenance = provenance_of(source, licence)
        save_pretrained(found, out, class_names=read_class_names(source), provenance=provenance)
        say(
            f"{out}: read its model card, README.md, before you publish it{'' if licence else '; its licence is yours to choose'}"
        )
    else:
        if D is not None:
            try:
                community_state(D)
            except FruganError as error:
                D, notes = None, [*notes, f"the discriminator was left out: {error}"]
        write_community(out, found.generator, D, found.raw_generator)
        say(f"{out}: g_ema, g, latent_avg{', d' if D else ''}")
    for note in notes:
        say(note)
