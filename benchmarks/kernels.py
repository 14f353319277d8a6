"""Compiles the Triton kernels for GPUs that need not be here: resources and instructions of each, by which kernels that are
bound by instructions can be improved without a device.

    python -m benchmarks.kernels [--target cuda:90] [--target hip:gfx942]

It needs Triton (`pip install triton`); CUDA's disassembler comes with that. For AMD GPUs the table has no instructions.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from frugan.ops import epilogue_triton, fir_triton, styles_triton, warp_triton
from frugan.ops.kernels import LAUNCH

DIVISIBLE = {"channels", "pixels", "total", "height", "width", "x_n", "x_h", "x_w"}
"""Numbers that Triton finds to be multiples of 16 at the usual sizes, besides all addresses."""


class Case(NamedTuple):
    """A kernel with values for its compile-time arguments, and the type of each address that it is given."""

    name: str
    kernel: Any
    constants: dict[str, Any]
    addresses: dict[str, str]
    outputs: int
    """Elements that one program writes (or reads, where it only sums)."""


def cases() -> Iterator[Case]:
    """As training at 256² uses them: bfloat16 (float16 before capability 8.0), channels-last; 64 and 512 channels where a tile
    holds all of them. Warps are of float32 images.
    """
    upfirdn, _, sums = fir_triton._kernel()
    fixed = {"taps_y": 4, "taps_x": 4, "rows": 4, "phase": 0, "last": True, "wide": False, "sums": sums, "x_c": 1}
    for label, up, down in (("filter", 1, 1), ("down 2", 1, 2), ("up 2", 2, 1)):
        factors = {"up_y": up, "up_x": up, "down_y": down, "down_x": down, "block": 1024}
        yield Case(f"FIR, {label}", upfirdn, fixed | factors, dict.fromkeys(("x", "weight", "y"), "*bf16"), 4096)
    wide = {"scale": "*fp32", "noise": "*fp32", "bias": "*fp32", "clamp": "fp32"}
    forward, backward, tangent = epilogue_triton._kernels()
    flags: dict[str, Any] = {"has_scale": True, "has_noise": True, "has_clamp": True}
    yield Case("epilogue", forward, flags | {"huge": False, "block": 1024}, wide | {"x": "*bf16", "y": "*bf16"}, 1024)
    maps = dict.fromkeys(("up", "x", "y", "for_x", "other", "result"), "*bf16")
    wide |= dict.fromkeys(("for_scale", "for_noise", "for_bias", "weight", "for_weight", "by"), "*fp32")
    yield Case("epilogue tangent", tangent, {"has_clamp": True, "huge": False, "block": 1024}, wide | maps, 1024)
    scaled, scaled_backward, projected, projected_backward = styles_triton._kernels()
    yield Case("scaled", scaled, {"huge": False, "block": 1024}, wide | maps, 1024)
    for channels in (64, 512):
        tile = {"wide": channels, "tall": 4096 // channels}
        flags = {"has_scale": True, "by_noise": True, "has_clamp": True, "tiles": 8}
        yield Case(f"epilogue backward, {channels}", backward, flags | tile, wide | maps, 8 * 4096)
        yield Case(f"scaled backward, {channels}", scaled_backward, {"tiles": 8} | tile, wide | maps, 8 * 4096)
        yield Case(f"projected, {channels}", projected, {"maps": 3} | tile, wide | maps | {"y": "*fp32"}, 4096)
        addresses = wide | maps | {"up": "*fp32"}
        yield Case(f"projected backward, {channels}", projected_backward, {"maps": 3} | tile, addresses, 4096)
    yield from warp_cases()


def warp_cases() -> Iterator[Case]:
    """The maps of the affine warp at 256², upsampling with its adjoint and downsampling, and the sampling positions."""
    *maps, positions = warp_triton._kernels()
    numbers = {f"{name}_{axis}": "fp32" for name in ("period", "start", "reach") for axis in "yx"}
    kinds = dict.fromkeys(("x", "y", "weights", "inverse", "grid"), "*fp32") | {"columns": "*i32"} | numbers
    for kernel, axis in zip(maps, (-1, -2)):
        tall, wide = warp_triton._TILES[axis]
        tile = {"tall": tall, "wide": wide} | ({"width": 256} if axis == -2 else {})
        for label, inputs, outputs, entries in (
            ("up", 256, 1021, 6),
            ("up, adjoint", 1021, 256, 25),
            ("down", 522, 256, 12),
        ):
            sizes = {"inputs": inputs, "outputs": outputs, "entries": entries}
            yield Case(f"warp, axis {axis}, {label}", kernel, sizes | tile, kinds, tall * wide)
    yield Case("warp, positions", positions, {"block": 1024}, kinds, 1024)


def compiled(case: Case, target: str) -> Any:
    """The compiled kernel.

    Args:
        case: the kernel.
        target: "cuda:90" (compute capability) or "hip:gfx942".
    """
    import triton  # pyright: ignore[reportMissingImports]
    from triton.backends.compiler import GPUTarget  # pyright: ignore[reportMissingImports]
    from triton.compiler import ASTSource  # pyright: ignore[reportMissingImports]

    backend, arch = target.split(":")
    names = case.kernel.arg_names
    signature = {name: "constexpr" if name in case.constants else case.addresses.get(name, "i32") for name in names}
    if backend == "cuda" and int(arch) < 80:  # training there is in float16
        signature = {name: kind.replace("bf16", "fp16") for name, kind in signature.items()}
    hinted = [i for i, name in enumerate(names) if signature[name].startswith("*") or name in DIVISIBLE]
    source = ASTSource(
        fn=case.kernel,
        signature=signature,
        constexprs={(names.index(name),): value for name, value in case.constants.items()},
        attrs={(i,): [["tt.divisibility", 16]] for i in hinted if signature[names[i]] != "constexpr"},
    )
    where = GPUTarget("cuda", int(arch), 32) if backend == "cuda" else GPUTarget("hip", arch, 64)
    return triton.compile(source, target=where, options=LAUNCH)


def instructions(kernel: Any) -> tuple[list[str], int]:
    """(the instructions of a kernel compiled for CUDA, registers of a thread)."""
    from triton.backends import nvidia  # pyright: ignore[reportMissingImports]

    tools = Path(nvidia.__path__[0]) / "bin"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(kernel.asm["cubin"])
        text = subprocess.run([tools / "nvdisasm", "-c", file], capture_output=True, text=True, check=True).stdout
        used = subprocess.run([tools / "cuobjdump", "-res-usage", file], capture_output=True, text=True, check=True)
    found = re.findall(r"^\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+ )?([A-Z][A-Z0-9_.]+)", text, re.M)
    registers = re.search(r"REG:(\d+)", used.stdout + used.stderr)
    assert registers
    return found, int(registers[1])


def row(case: Case, target: str) -> str:
    """A line of the table."""
    kernel = compiled(case, target)
    if not target.startswith("cuda"):
        return f"| {case.name} | {target} | | | | |"
    found, registers = instructions(kernel)
    each = case.outputs / (32 * kernel.metadata.num_warps * case.constants.get("tiles", 1))
    spilled = sum(name.startswith(("LDL", "STL")) for name in found)
    whole = sum(name.startswith(("LDG.E.128", "STG.E.128")) for name in found)
    memory = sum(name.startswith(("LDG", "STG")) for name in found)
    return f"| {case.name} | {target} | {len(found) / each:.0f} | {registers} | {spilled} | {whole} of {memory} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", action="append", help="cuda:CAPABILITY or hip:ARCHITECTURE; repeatable")
    args = parser.parse_args()
    print("| kernel | target | instructions an output | registers | spills | accesses of 16 bytes |")
    print("|---|---|--:|--:|--:|--:|")
    for target in args.target or ["cuda:90"]:
        for case in cases():
            print(row(case, target), flush=True)


if __name__ == "__main__":
    main()
