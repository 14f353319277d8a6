"""Libraries that report their use to their makers are imported with that turned off, wherever frugan imports them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import frugan

EXPORT = """
import os
from frugan.interop.export import export_onnx
from frugan.networks import Generator, GeneratorConfig, SynthesisConfig

export_onnx("g.onnx", Generator(GeneratorConfig((8, 8), z_dim=4, w_dim=4, synthesis=SynthesisConfig(32, 4))))
assert "ORT_DISABLE_TELEMETRY" not in os.environ
"""
MLFLOW = """
import os
from pathlib import Path
from frugan.tracking.services import MLflow

try:
    MLflow(Path(), {}, None)
except ZeroDivisionError:
    assert "MLFLOW_DISABLE_TELEMETRY" not in os.environ
else:
    raise AssertionError
"""


def run(code: str, folder: Path, **environment: str) -> None:
    """A Python program in the folder, with no variable set that is known to turn telemetry off."""
    kept = {k: v for k, v in os.environ.items() if k not in ("CI", "ORT_DISABLE_TELEMETRY", "DO_NOT_TRACK")}
    surroundings = {**kept, "PYTHONPATH": str(Path(frugan.__file__).parents[1]), **environment}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=surroundings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_an_export_to_onnx_leaves_no_session_of_telemetry(tmp_path: Path) -> None:
    """onnxruntime keeps the number of such a session in a file of the temporary folder."""
    (temporary := tmp_path / "temporary").mkdir()
    run(EXPORT, tmp_path, TMPDIR=str(temporary))
    assert (tmp_path / "g.onnx").exists()
    assert not list(temporary.glob(".ses"))


def test_mlflow_is_imported_without(tmp_path: Path) -> None:
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "__init__.py").write_text(
        "import os\nassert os.environ['MLFLOW_DISABLE_TELEMETRY'] == 'true'"
    )
    (tmp_path / "mlflow" / "entities.py").write_text("Metric = Param = None\n1 / 0")
    run(MLFLOW, tmp_path)


def test_they_are_imported_in_no_other_way() -> None:
    for file in Path(frugan.__file__).parent.rglob("*.py"):
        text = file.read_text("utf-8")
        for line in re.finditer(r"^ *(import|from) (onnxruntime|mlflow)\b.*\n", text, re.MULTILINE):
            before = text[: line.start()].splitlines()
            while re.match(r" *(import|from) ", before[-1]):
                before.pop()
            assert before[-1].strip() == "with no_telemetry():", (file, line[0])
