"""Shards found by pattern, list, folder and index, here and on a server."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from data.shards.served import Server, check, foreign, patterns
from frugan.data import DataConfig, open_dataset
from frugan.data.shards import remote
from frugan.data.shards.remote import expand_braces
from frugan.errors import FruganError

BRACES = {
    "a.tar": ["a.tar"],
    "a-{008..011}.tar": ["a-008.tar", "a-009.tar", "a-010.tar", "a-011.tar"],
    "{a,b}/{1..2}.tar": ["a/1.tar", "a/2.tar", "b/1.tar", "b/2.tar"],
    "s3://b/{x}.tar": ["s3://b/x.tar"],
}


@pytest.mark.parametrize("pattern", BRACES)
def test_braces(pattern: str) -> None:
    assert expand_braces(pattern) == BRACES[pattern]


FAR = ["{000..999}" * 3, "{0..99999999}", "{a,b}" * 40, "{0.." + "9" * 5000 + "}", "{" + "9" * 5000 + "..1}"]


@pytest.mark.parametrize("pattern", [f"{braces}.tar" for braces in FAR] + ["shards.txt"])
def test_more_shards_than_there_can_be_are_refused_at_once(pattern: str, tmp_path: Path) -> None:
    (tmp_path / "shards.txt").write_text("x.tar\n" * 100_001)
    started = time.process_time()
    with pytest.raises(FruganError, match=r"the limit is 100,000|down or too far") as error:
        remote.find(f"{tmp_path}/{pattern}")
    assert time.process_time() - started < 5
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("how", patterns(""))
@pytest.mark.parametrize("where", ["here", "http"])
def test_all_ways_to_name_shards(how: str, where: str, tmp_path: Path, server: Server) -> None:
    foreign(tmp_path / "served" / "sub")
    (tmp_path / "served/sub/shards.txt").write_text(
        "# in order\nset-000.tar\n\nset-001.tar\nset-002.tar\nset-003.tar\n"
    )
    folder = str(tmp_path / "served/sub") if where == "here" else f"{server.url}/sub"
    if how == "folder":
        os.remove(tmp_path / "served/sub/shards.txt")
    data = open_dataset(DataConfig(patterns(folder)[how], labels="auto"))
    check(data, list(range(20)))
    assert data.skipped == []
    assert data.config.without == ()
