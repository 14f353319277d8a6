"""What the processes of `python -m tests.mutants` do: pytest on a copy of the package."""

from __future__ import annotations

import os
import sys
import tempfile

from .table import ROOT

OPTIONS = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=line"]
OPTIONS += ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]
OFFSET = 100
"""Tells a test that failed from a process that did."""


def run_pytest(source: str, scratch: str, tests: list[str]) -> None:
    """In a process of its own: pytest on `tests` with the package of `source`; ends with pytest's exit code plus `OFFSET`."""
    output = os.open(f"{scratch}/output.txt", os.O_CREAT | os.O_WRONLY)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.setsid()
    os.chdir(ROOT)
    os.environ |= {"PYTHONPATH": source, "OMP_NUM_THREADS": "1", "TMPDIR": scratch}
    tempfile.tempdir = scratch
    sys.path.insert(0, source)
    import pytest

    code = pytest.main([*OPTIONS, f"--basetemp={scratch}/pytest", *tests])
    import frugan

    assert frugan.__file__.startswith(source)
    os._exit(OFFSET + int(code))
