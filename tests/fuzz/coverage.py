"""Coverage-guided fuzzing (Atheris) of what parses foreign bytes in Python: pickles, labels, configurations.

    pip install atheris
    python -m tests.fuzz.coverage pickles -max_total_time=300        # or labels, config; further flags are libFuzzer's

It ends with the input that was let through to a traceback, or that ran something.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import atheris  # pyright: ignore[reportMissingImports]

with atheris.instrument_imports(include=["frugan"]):  # pyright: ignore[reportAttributeAccessIssue]
    from frugan.config.schema import load_config
    from frugan.data.labels.read import read_labels
    from frugan.errors import FruganError
    from frugan.interop import read_pickle

FORBIDDEN = {
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "subprocess.Popen",
    "socket.connect",
    "os.remove",
    "os.rename",
}
NAMES = ["a.png", "b.png", "c.png"]


def _labels(path: Path) -> None:
    read_labels(mock.Mock(path=path, text=lambda name: None), str(path), NAMES)


TARGETS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "pickles": ("network.pkl", read_pickle),
    "labels": ("labels.csv", _labels),
    "json-labels": ("dataset.json", _labels),
    "config": ("config.yaml", load_config),
}


def main() -> None:
    name, parse = TARGETS[sys.argv.pop(1)]
    path = Path(tempfile.mkdtemp()) / name

    def forbid(event: str, arguments: tuple[object, ...]) -> None:
        if event in FORBIDDEN:
            raise AssertionError(f"{event} {arguments}")

    def once(data: bytes) -> None:
        path.write_bytes(data)
        with contextlib.suppress(FruganError):
            parse(path)

    sys.addaudithook(forbid)
    atheris.Setup(sys.argv, once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
