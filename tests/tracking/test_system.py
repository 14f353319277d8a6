"""environment.json and memory."""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime

import numpy as np
import torch

from frugan.tracking import environment, memory


def test_environment() -> None:
    facts = environment()
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert facts["packages"]["numpy"] == np.__version__
    assert facts["packages"]["frugan"]
    assert facts["command"] == sys.argv
    assert facts["threads"] == torch.get_num_threads()
    assert 1 <= facts["usable_cores"] <= facts["cores"] == os.cpu_count()
    assert facts["cpu"]
    assert len(facts["gpus"]) == torch.cuda.device_count()
    started = datetime.fromisoformat(facts["started"])
    assert abs((datetime.now().astimezone() - started).total_seconds()) < 60


def test_memory_grows_with_what_is_held(device: torch.device) -> None:
    before = memory(device)
    key = "memory_bytes" if device.type == "cuda" else "host_memory_bytes"
    held = torch.ones(before[key] // 4 + 2**24, device=device)  # four bytes each: more than the peak so far
    assert memory(device)[key] > before[key]
    assert ("memory_bytes" in before) == (device.type in ("cuda", "mps"))
    del held
