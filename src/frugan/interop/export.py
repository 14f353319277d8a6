"""Generators for other programs: as ONNX, and as programs of `torch.export`.

Both are traced from one graph in float32 whose batch is free, and are read back and compared after writing.
"""

from __future__ import annotations

import copy
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import cattrs
import torch
from torch import Tensor, nn

from frugan.checks import Limits, Truncation, as_option, check_fields
from frugan.errors import FruganError
from frugan.files import replacing
from frugan.networks import Generator, typical_labels
from frugan.telemetry import import_onnxruntime

Part = Literal["whole", "mapping", "synthesis", "styles", "render"]
PARTS: tuple[Part, ...] = ("whole", "mapping", "synthesis", "styles", "render")
"""z → images; z → ws; ws → images; ws → styles; styles → images. Styles are those of all layers side by side, `[N, ΣC]`."""
_TAKES = {"whole": "z", "mapping": "z", "synthesis": "ws", "styles": "ws", "render": "styles"}
ExportNoise = Literal["const", "input", "none"]
NOISES: tuple[ExportNoise, ...] = ("const", "input", "none")
Inputs = dict[str, Any]  # tensors by name; "noise" is a list of them

ABOUT = "frugan.json"
"""The file inside a `torch.export` program that tells the network's configuration; in ONNX it is the metadata "frugan"."""
OPSET = 18
TOLERANCE = 1e-4
"""Largest difference that a written file may show, as a fraction of the largest magnitude in its output."""


@dataclass(frozen=True)
class ExportConfig:
    """`part` of the generator; `noise`: its constants, inputs, or none; `truncation` (and its cut-off) becomes a constant."""

    part: Part = "whole"
    noise: ExportNoise = "const"
    truncation: Truncation = 1.0
    truncation_cutoff: Annotated[int, Limits(at_least=0, at_most=64)] | None = None

    def __post_init__(self) -> None:
        check_fields(self, as_option)
        if self.part in ("mapping", "styles") and self.noise != "const":
            raise FruganError(
                "noise is added by the synthesis network: export part whole, synthesis or render to choose it"
            )
        if _TAKES[self.part] != "z" and (self.truncation != 1 or self.truncation_cutoff is not None):
            raise FruganError("truncation acts in the mapping network: export part whole or mapping to choose it")


@dataclass(frozen=True)
class Exported:
    """A written file: the sizes of its inputs and output without the batch, and its difference from the generator.

    The difference is that of the output when read back, as a fraction of the output's range; None if it could not be
    run here.
    """

    path: Path
    inputs: dict[str, tuple[int, ...]]
    output: tuple[int, ...]
    difference: float | None


class ExportedPart(nn.Module):
    """A part of a generator with everything decided but tensors: z (and labels c), ws or styles, and noise where it is an input."""

    def __init__(self, G: Generator, config: ExportConfig) -> None:
        super().__init__()
        if config.noise == "input" and not G.synthesis.use_noise:
            raise FruganError("this generator has no noise to take as an input; export it with noise const")
        G = copy.deepcopy(G).cpu()
        self.config, self.network = config, G.config
        self.draw_noise = G.synthesis.draw_noise
        self.num_ws = G.num_ws
        self.style_widths = [layer.width for layer in G.synthesis.style_layers]
        self.mapping = G.mapping if _TAKES[config.part] == "z" else None
        self.synthesis = None if config.part == "mapping" else G.synthesis
        self.truncation = {"truncation": config.truncation, "truncation_cutoff": config.truncation_cutoff}
        self.eval().requires_grad_(False)

    def forward(
        self,
        z: Tensor | None = None,
        c: Tensor | None = None,
        ws: Tensor | None = None,
        styles: Tensor | None = None,
        noise: list[Tensor] | None = None,
    ) -> Tensor:
        if self.mapping is not None:
            ws = self.mapping(z, c, **self.truncation)
        if self.synthesis is None:
            assert ws is not None
            return ws
        if styles is None:
            assert ws is not None
            each = self.synthesis.styles(ws)
        else:
            each = list(styles.split(self.style_widths, dim=1))
        if self.config.part == "styles":
            return torch.cat(each, dim=1)
        constant = "const" if self.config.noise == "input" else self.config.noise  # input: given
        return self.synthesis.render(each, noise=noise or constant)

    def example(self, n: int) -> Inputs:
        """Random inputs for n images."""
        rng = torch.Generator().manual_seed(n)
        inputs: Inputs = {}
        takes = _TAKES[self.config.part]
        if takes == "styles":
            inputs["styles"] = 1 + torch.randn(n, sum(self.style_widths), generator=rng)
        elif takes == "ws":
            inputs["ws"] = torch.randn(n, self.num_ws, self.network.w_dim, generator=rng)
        else:
            inputs["z"] = torch.randn(n, self.network.z_dim, generator=rng)
            if size := self.network.label_size:
                labels = typical_labels(size, self.network.measured)
                inputs["c"] = labels[torch.randint(len(labels), (n,), generator=rng)]
        if self.config.noise == "input":
            inputs["noise"] = self.draw_noise(n, rng)
        return inputs


def export_program(path: str | Path, G: Generator, config: ExportConfig = ExportConfig()) -> Exported:
    """Writes a `torch.export` program, to be used as `torch.export.load(path).module()(z=z)` → images.

    Args:
        path: ends in .pt2.
        G: the generator.
        config: which part of it, and its inputs.

    Raises `FruganError` where that is impossible.
    """
    path, module = _target(path, ".pt2"), ExportedPart(G, config)
    program = torch.export.export(module, (), **_traced(module))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # lines of our source, by their place on this machine
    content = io.BytesIO()  # PyTorch hides why a file cannot be written
    torch.export.save(program, content, extra_files={ABOUT: _about(G, config)})
    with replacing(path, durable=True) as unfinished:
        unfinished.write_bytes(content.getbuffer())
        with _quiet():
            read = torch.export.load(unfinished).module()
            return _compare(path, module, lambda inputs: read(**inputs))


def export_onnx(path: str | Path, G: Generator, config: ExportConfig = ExportConfig()) -> Exported:
    """Writes an ONNX file of opset `OPSET`; it is read back for comparison where onnxruntime is installed.

    Its inputs are those of the part: z, c, ws, noise_0, …; its output is images, ws or styles.

    Args:
        path: ends in .onnx.
        G: the generator.
        config: which part of it, and its inputs.

    Raises `FruganError` where that is impossible.
    """
    if missing := [name for name in ("onnx", "onnxscript") if find_spec(name) is None]:
        raise FruganError(f"ONNX files need {' and '.join(missing)}: pip install 'frugan[onnx]'")
    path, module = _target(path, ".onnx"), ExportedPart(G, config)
    output = {"mapping": "ws", "styles": "styles"}.get(config.part, "images")
    with _quiet():
        written = torch.onnx.export(
            module, **_traced(module), dynamo=True, opset_version=OPSET, output_names=[output], verbose=False
        )
    assert written is not None
    for node in written.model.graph:
        node.metadata_props.clear()  # as above
    written.model.metadata_props["frugan"] = _about(G, config)
    with replacing(path, durable=True) as unfinished:
        written.save(unfinished)
        if find_spec("onnxruntime") is None:
            return _compare(path, module, None)
        session = import_onnxruntime().InferenceSession(unfinished, providers=["CPUExecutionProvider"])
        return _compare(
            path,
            module,
            lambda inputs: torch.from_numpy(session.run([output], {k: v.numpy() for k, v in _flat(inputs).items()})[0]),
        )


def _about(G: Generator, config: ExportConfig) -> str:
    """The file's description of itself: the network's configuration, its data's pixel format among it, as JSON."""
    return json.dumps(cattrs.unstructure({"generator": G.config, "export": config}))


def _target(path: str | Path, suffix: str) -> Path:
    path = Path(path)
    if path.suffix != suffix:
        raise FruganError(f"{path}: give a file name that ends in {suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _traced(module: ExportedPart) -> dict[str, Any]:
    """The arguments of an exporter: inputs of two images, and that their first axis is free."""
    batch = torch.export.Dim("batch")
    inputs = module.example(2)
    free = {k: [{0: batch} for _ in v] if isinstance(v, list) else {0: batch} for k, v in inputs.items()}
    return {"kwargs": inputs, "dynamic_shapes": free}


def _flat(inputs: Inputs) -> dict[str, Tensor]:
    """Every tensor by the name that the exported graph gives it."""
    noise = {f"noise_{i}": layer for i, layer in enumerate(inputs.get("noise", []))}
    return {k: v for k, v in inputs.items() if k != "noise"} | noise


def _compare(path: Path, module: ExportedPart, run: Callable[[Inputs], Tensor] | None) -> Exported:
    """Runs what was read back on other batches than it was traced with. Raises `FruganError` where it differs."""
    batches = [module.example(n) for n in (1, 3)]
    outputs = [module(**inputs) for inputs in batches]
    difference = None
    if run:
        apart = [(run(x) - y).abs().max() / y.abs().max() for x, y in zip(batches, outputs)]
        difference = float(torch.stack(apart).max())  # nan, if there is one
        if not difference <= TOLERANCE:
            raise FruganError(
                f"{path} was not kept: read back, its output differs by {difference:.1e} of its range, above {TOLERANCE:.0e}"
            )
    sizes = {k: tuple(v.shape[1:]) for k, v in _flat(batches[0]).items()}
    return Exported(path, sizes, tuple(outputs[0].shape[1:]), difference)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter talks about packages that it does not need, names of axes, and what is deprecated in PyTorch."""
    log = logging.getLogger("torch.onnx")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for category in (FutureWarning, UserWarning):
                warnings.simplefilter("ignore", category)
            yield
    finally:
        log.setLevel(before)
