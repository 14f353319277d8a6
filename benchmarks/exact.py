"""Whether training by the fast operations is training by their definitions: both in float64, where rounding decides nothing.

    python -m benchmarks.exact [--steps 200] [--resolution 32] [--channel-max 128]

In float32 two such runs part within a few steps, whatever the operations: Adam takes steps of full length along gradients
that are nothing but rounding. Prints the largest relative difference of each loss, penalty and gradient norm in any step.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

ARMS = ("fast", "definitions")


def double_precision() -> None:
    """From here on float32 means float64, in what is imported later too."""
    torch.set_default_dtype(torch.float64)
    torch.float32, torch.Tensor.float, np.float32 = torch.float64, torch.Tensor.double, np.float64


def losses(definitions: bool, data: Path, out: Path, channel_max: int, steps: int) -> list[dict[str, float]]:
    """Every loss, penalty and gradient norm of each step of a new run."""
    double_precision()
    import frugan
    from benchmarks import reference

    if definitions:
        reference.specification()
    times: dict[str, Any] = {"kimg": steps * 0.016, "tick_kimg": 0.016, "samples_kimg": 1e3, "checkpoint_kimg": 1e3}
    networks: dict[str, Any] = {
        "preset": "tiny",
        "channel_max": channel_max,
        "path_length_weight": 2.0,
        "style_mixing": 0.9,
    }
    training: dict[str, Any] = {"batch": 16, "augment": "fixed", "p": 0.5, "precision": "fp32", "device": "cpu"}
    records = frugan.train(data, out, **networks, **training, **times)
    return [{k: v for k, v in r.items() if k.startswith(("loss/", "penalty/", "grad_norm/"))} for r in records]


def differences(channel_max: int, resolution: int, steps: int) -> dict[str, float]:
    """The largest relative difference between the arms in any step, by figure."""
    with tempfile.TemporaryDirectory() as folder:
        data, found = Path(folder) / "noise.npy", []
        pixels = np.random.default_rng(0).integers(0, 256, (64, resolution, resolution, 3), dtype=np.uint8)
        np.save(data, pixels)
        for arm in ARMS:
            job = [arm, str(data), str(Path(folder) / arm), str(channel_max), str(steps)]
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.exact", "--job", *job], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise SystemExit(done.stderr)
            found.append(json.loads(done.stdout.splitlines()[-1]))
    names = dict.fromkeys(name for record in found[0] for name in record)
    pairs = list(zip(*found, strict=True))
    return {
        name: max(abs(fast[name] / slow[name] - 1) for fast, slow in pairs if fast.get(name) is not None)
        for name in names
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--channel-max", type=int, default=128)
    parser.add_argument("--job", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        arm, data, out, *numbers = args.job
        print(json.dumps(losses(arm == "definitions", Path(data), Path(out), *map(int, numbers))))
        return
    print("| figure | largest relative difference |\n|---|--:|")
    for name, difference in differences(args.channel_max, args.resolution, args.steps).items():
        print(f"| {name} | {difference:.2g} |")


if __name__ == "__main__":
    main()
