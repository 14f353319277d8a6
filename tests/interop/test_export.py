"""What is exported makes the same images when it is read back, by other programs' readers where there are some."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from conftest import GOLDEN, relative_error
from frugan.cli.app import app
from frugan.errors import FruganError
from frugan.interop import ExportConfig, Imported, export_onnx, export_program, read_network, write_directory
from frugan.interop import export as module
from frugan.interop.export import NOISES, OPSET, PARTS, TOLERANCE
from frugan.networks import Generator, GeneratorConfig, MappingConfig, SynthesisConfig

SHAPES: dict[str, dict[str, Any]] = {
    "square": {"resolution": (16, 16)},
    "labelled 12x16 RGBA": {"resolution": (12, 16), "channels": 4, "label_size": 3},
    "grey resnet": {"resolution": (8, 8), "channels": 1, "synthesis": {"architecture": "resnet", "clamp": 256}},
    "tiled 12x16": {"resolution": (12, 16), "synthesis": {"tile": "xy"}},
    "tiled resnet": {"resolution": (8, 8), "synthesis": {"tile": "x", "architecture": "resnet"}},
    "no noise": {"resolution": (8, 8), "synthesis": {"use_noise": False}},
}
CASES = [
    ("square", ExportConfig()),
    ("labelled 12x16 RGBA", ExportConfig(noise="input", truncation=0.6, truncation_cutoff=2)),
    ("labelled 12x16 RGBA", ExportConfig(part="mapping", truncation=0.6)),
    ("grey resnet", ExportConfig(part="synthesis", noise="none")),
    ("no noise", ExportConfig()),
    ("labelled 12x16 RGBA", ExportConfig(part="styles")),
    ("labelled 12x16 RGBA", ExportConfig(part="render", noise="input")),
    ("grey resnet", ExportConfig(part="render")),
    ("tiled 12x16", ExportConfig()),
    ("tiled resnet", ExportConfig(part="synthesis")),
]


def small(name: str) -> Generator:
    shape = SHAPES[name]
    torch.manual_seed(0)
    synthesis = SynthesisConfig(**{"channel_base": 64, "channel_max": 8, **shape.get("synthesis", {})})
    config = {"z_dim": 6, "w_dim": 8, "mapping": MappingConfig(num_layers=2), **shape, "synthesis": synthesis}
    G = Generator(GeneratorConfig(**config)).eval().requires_grad_(False)
    for parameter in G.parameters():
        if parameter.ndim < 2:
            torch.nn.init.normal_(parameter, 0.3, 0.5)
    torch.nn.init.normal_(G.mapping.w_avg)
    return G


def drawn(G: Generator, config: ExportConfig, n: int) -> tuple[dict[str, Any], torch.Tensor]:
    """Inputs for n images, and what the generator itself makes of them."""
    rng = torch.Generator().manual_seed(10 + n)
    given: dict[str, Any] = {}
    noise = given["noise"] = G.synthesis.draw_noise(n, rng) if config.noise == "input" else config.noise
    z, c = torch.randn(n, G.z_dim, generator=rng), torch.eye(3)[torch.arange(n) % 3] if G.label_size else None
    ws = G.mapping(z, c, truncation=config.truncation, truncation_cutoff=config.truncation_cutoff)
    styles = torch.cat(G.synthesis.styles(ws), dim=1)
    from_z = {"z": z} if c is None else {"z": z, "c": c}
    given |= {"synthesis": {"ws": ws}, "styles": {"ws": ws}, "render": {"styles": styles}}.get(config.part, from_z)
    if config.noise != "input":
        del given["noise"]
    made = {"mapping": ws, "styles": styles}.get(config.part)
    return given, G.synthesis(ws, noise=noise) if made is None else made


@pytest.mark.parametrize("shape, config", CASES, ids=str)
def test_onnx(shape: str, config: ExportConfig, tmp_path: Path) -> None:
    onnx, ort = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    G = small(shape)
    done = export_onnx(tmp_path / "new" / "x.onnx", G, config)
    assert done.difference is not None
    assert done.difference < TOLERANCE
    assert [p.name for p in done.path.parent.iterdir()] == ["x.onnx"]  # weights included
    written = onnx.load(done.path)
    onnx.checker.check_model(written, full_check=True)
    assert [(o.domain, o.version) for o in written.opset_import] == [("", OPSET)]
    assert str(Path(module.__file__).parent).encode() not in done.path.read_bytes()
    facts = json.loads(next(m.value for m in written.metadata_props if m.key == "frugan"))
    assert facts["generator"]["channels"] == G.channels
    session = ort.InferenceSession(done.path, providers=["CPUExecutionProvider"])
    assert {i.name: i.shape for i in session.get_inputs()} == {k: ["batch", *v] for k, v in done.inputs.items()}
    for n in (1, 4):
        given, expected = drawn(G, config, n)
        noise = {f"noise_{i}": layer for i, layer in enumerate(given.pop("noise", []))}
        (found,) = session.run(None, {k: v.numpy() for k, v in (given | noise).items()})
        assert found.shape == (n, *done.output)
        assert relative_error(torch.from_numpy(found), expected) < TOLERANCE


@pytest.mark.parametrize("shape, config", CASES, ids=str)
def test_torch_export(shape: str, config: ExportConfig, tmp_path: Path) -> None:
    G = small(shape)
    done = export_program(tmp_path / "x.pt2", G, config)
    assert done.difference is not None
    assert done.difference < TOLERANCE
    assert str(Path(module.__file__).parent).encode() not in done.path.read_bytes()
    program = torch.export.load(done.path).module()
    for n in (1, 4):
        given, expected = drawn(G, config, n)
        assert relative_error(program(**given), expected) < TOLERANCE


def test_the_tables_are_covered() -> None:
    assert {config.part for _, config in CASES} == set(PARTS)
    assert {config.noise for _, config in CASES} == set(NOISES)
    assert {shape for shape, _ in CASES} == set(SHAPES)


@pytest.mark.parametrize("write, name", [(export_program, "x.pt2"), (export_onnx, "x.onnx")])
def test_a_file_that_differs_is_not_kept(
    write: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare = module._compare

    def late(path: Path, part: module.ExportedPart, run: Any) -> Any:
        torch.nn.init.ones_(part.get_submodule("synthesis.b16.torgb").bias)  # now it is another one than was written  # pyright: ignore[reportArgumentType]
        return compare(path, part, run)

    monkeypatch.setattr(module, "_compare", late)
    with pytest.raises(FruganError, match="was not kept"):
        write(tmp_path / name, small("square"))
    assert not list(tmp_path.iterdir())


def test_the_generator_stays_as_it_was(tmp_path: Path) -> None:
    G = small("square").train().requires_grad_(True)
    export_program(tmp_path / "x.pt2", G)
    assert G.training
    assert all(p.requires_grad for p in G.parameters())


@pytest.mark.parametrize(
    "options, says",
    [
        ({"part": "head"}, "part 'head'"),
        ({"noise": "random"}, "noise 'random'"),
        ({"part": "mapping", "noise": "none"}, "synthesis network"),
        ({"part": "synthesis", "truncation": 0.5}, "mapping network"),
    ],
)
def test_combinations_that_mean_nothing(options: dict[str, Any], says: str) -> None:
    with pytest.raises(FruganError, match=says):
        ExportConfig(**options)


def test_what_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FruganError, match=r"ends in \.onnx"):
        export_onnx(tmp_path / "x.pt2", small("square"))
    with pytest.raises(FruganError, match="no noise to take"):
        export_program(tmp_path / "x.pt2", small("no noise"), ExportConfig(noise="input"))
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(FruganError, match=r"need onnxscript: pip install 'frugan\[onnx\]'"):
        export_onnx(tmp_path / "x.onnx", small("square"))
    assert not list(tmp_path.iterdir())


def run(*arguments: object) -> str:
    """What `frugan` prints."""
    done = CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "300"}, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return re.sub(r"\s+", " ", done.output)


def test_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each format, from an import that has all networks; the two of our own kind are read by `frugan` again."""
    golden = GOLDEN / "nvidia_pytorch.pkl"
    original = read_network(golden)
    z = torch.randn(2, original.generator.z_dim)
    expected = original.generator(z, noise="const")
    run("import", golden, tmp_path / "network")
    source = tmp_path / "network"

    assert "g_ema, g, latent_avg, d" in run("export", source, tmp_path / "x.pt", "--format", "community")
    assert "licence" in run("export", source, tmp_path / "hub", "--format", "pretrained")
    for out in ("x.pt", "hub"):
        found = read_network(tmp_path / out)
        assert found.raw_generator is not None
        assert original.raw_generator is not None
        assert found.discriminator is not None
        assert torch.equal(found.generator(z, noise="const"), expected)
        with torch.no_grad():
            assert torch.equal(found.raw_generator(z, noise="const"), original.raw_generator(z, noise="const"))

    said = run("export", source, tmp_path / "x.pt2", "--format", "torch-export", "--truncation", 0.7)
    assert "z [batch, 32] → [batch, 3, 32, 32]" in said
    program = torch.export.load(tmp_path / "x.pt2").module()
    assert relative_error(program(z=z), original.generator(z, noise="const", truncation=0.7)) < TOLERANCE

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    spec = module.find_spec
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "onnxruntime" else spec(name))
    said = run("export", source, tmp_path / "x.onnx", "--format", "onnx", "--part", "mapping")
    assert f"opset {OPSET}; z [batch, 32] → [batch, 8, 32] not checked: onnxruntime is not installed" in said


def test_mistakes_on_the_command_line(tmp_path: Path) -> None:
    write_directory(tmp_path / "network", Imported(small("labelled 12x16 RGBA")))
    for arguments, says in (
        (["x.pt", "--format", "community"], "community layout has no place for 12x16"),
        (["network", "--format", "onnx"], "exists; choose another"),
        (["x", "--format", "pretrained", "--truncation", "0.5"], "belong to onnx"),
        (["x.pt2", "--format", "onnx"], r"ends in \.onnx"),
    ):
        command = ["export", str(tmp_path / "network"), str(tmp_path / arguments[0]), *arguments[1:]]
        with pytest.raises(FruganError, match=says):
            CliRunner().invoke(app, command, catch_exceptions=False)


def test_noise_of_the_graph_is_noise(tmp_path: Path) -> None:
    """Inputs that are noise change the image, and constants are the generator's own."""
    G = small("square")
    export_program(tmp_path / "x.pt2", G, ExportConfig(noise="input"))
    program = torch.export.load(tmp_path / "x.pt2").module()
    z = torch.randn(1, G.z_dim)
    constants = [v[None, None] for k, v in G.state_dict().items() if k.endswith("noise_const")]
    assert relative_error(program(z=z, noise=constants), G(z, noise="const")) < TOLERANCE
    other = program(z=z, noise=[torch.zeros_like(v) for v in constants])
    assert relative_error(other, G(z, noise="const")) > 0.01
