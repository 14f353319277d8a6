"""The house keeps its layers, its public names, and starts quickly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import frugan

ROOT = Path(__file__).parent.parent


def test_layers() -> None:
    result = subprocess.run([Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_public_names_are_there() -> None:
    for name in frugan.__all__:
        assert getattr(frugan, name) is not None
    assert not hasattr(frugan, "nonsense")


def test_help_imports_no_torch() -> None:
    code = "import sys, frugan.cli, frugan.cli.train; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
