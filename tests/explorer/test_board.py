"""The board of runs: what the directories hold, live, and no more."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn

from frugan.cli.status import status
from frugan.config.schema import save_config
from frugan.errors import FruganError
from frugan.explorer import board as module
from frugan.explorer.board import Board, card_tables, curves, find_runs, run_names, stop_run, training_process
from frugan.explorer.server import Place, listen, make_config
from frugan.files import write_json
from frugan.images import save_image
from frugan.metrics import EvaluationCard
from frugan.tracking import JsonLines
from tests.data.sources.test_own import CONFIG
from tests.explorer.conftest import HOSTILE
from tests.explorer.test_server import ask


def make_run(
    home: Path, *, seed: int = 0, kimg: float = 2, warning: str = "mind the gap", status: str = "finished"
) -> Path:
    home.mkdir(parents=True)
    save_config(dataclasses.replace(CONFIG, kimg=10.0 + seed), home / "config.yaml")
    write_json(home / "run.json", {"status": status, "kimg": kimg, "total_kimg": 4, "warnings": [warning]})
    log = JsonLines(home / "stats.jsonl")
    for i in range(1, int(kimg) + 1):
        log.log({"kimg": float(i), "images": 1000 * i, "p": 0.1 * i, "r_t": None, "loss/generator": 1.0 / i})
    log.close()
    for label in ("init", f"{kimg:08.3f}"):
        save_image(np.full((8, 8, 3), 40 * seed, np.uint8), home / "samples" / f"samples-{label}.png")
    return home


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for i, name in enumerate(("first", "second & third")):
        status = ("stopped", "finished")[i]
        make_run(tmp_path / "runs" / name, seed=i, kimg=2 + i, warning=HOSTILE, status=status)
    return tmp_path / "runs"


@pytest.fixture
def open_board(runs: Path) -> Iterator[Callable[..., Place]]:
    running = []

    def start(**options: Any) -> Place:
        bound, place = listen("127.0.0.1", 0)
        board = Board([runs], **options)
        server = uvicorn.Server(make_config(board, place))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        running.append((board, server, thread, bound))
        return place

    yield start
    for board, server, thread, bound in running:
        server.should_exit = True
        thread.join(120)
        bound.close()
        board.close()


def test_finding_runs(runs: Path, tmp_path: Path) -> None:
    first, second = runs / "first", runs / "second & third"
    assert find_runs([runs]) == [first, second]
    assert find_runs([second, runs]) == [second, first]
    (tmp_path / "empty").mkdir()
    with pytest.raises(FruganError, match="holds no runs"):
        find_runs([tmp_path / "empty"])
    with pytest.raises(FruganError, match=r"did you mean .*runs"):
        find_runs([tmp_path / "run"])


def test_status_takes_what_a_board_takes(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status([runs])
    told = capsys.readouterr().out
    assert all(f"{home}: " in told for home in find_runs([runs]))
    with pytest.raises(FruganError, match="is not a run"):
        status([runs.parent / "none"])


def test_what_the_page_is_told(open_board: Callable[..., Place], runs: Path) -> None:
    file = runs / "first" / "config.yaml"  # as of a run from before a change of names
    file.write_text(file.read_text().replace("latent_consistency_", "near_"))
    place = open_board()
    told = json.loads(ask(place, "/runs")[1])
    first, second = told["runs"]
    assert {k for k in first["settings"] if first["settings"][k] != second["settings"].get(k)} == {"kimg"}
    assert first["name"] == "first"
    assert (first["status"], first["kimg"], first["total_kimg"]) == ("stopped", 2, 4)
    assert first["curves"] == {"p": [[1.0, 2.0], [0.1, 0.2]], "loss/generator": [[1.0, 2.0], [1.0, 0.5]]}
    assert [s["kimg"] for s in second["samples"]] == [-1, 3]
    assert (first["settings"]["kimg"], second["settings"]["kimg"]) == ("10.0", "11.0")
    assert first["disk"] == sum(f.stat().st_size for f in (runs / "first").rglob("*") if f.is_file())
    log = JsonLines(runs / "first" / "stats.jsonl")  # training goes on
    log.log({"kimg": 3.0, "p": 0.5})
    log.close()
    make_run(runs / "zzz")
    told = json.loads(ask(place, "/runs")[1])
    assert told["runs"][0]["curves"]["p"][1][-1] == 0.5
    assert [run["name"] for run in told["runs"]] == ["first", "second & third", "zzz"]
    (runs / "first" / "config.yaml").write_text("kimg: [")
    told = json.loads(ask(place, "/runs")[1])
    assert told["runs"][0]["status"] == "unreadable"


def test_a_run_keeps_its_number(open_board: Callable[..., Place], runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A button pressed on a page that has not heard of a newer run yet stops the run that it names."""
    place, stopped = open_board(control=True), []
    monkeypatch.setattr("frugan.explorer.board.stop_run", stopped.append)
    numbers = {run["name"]: run["id"] for run in json.loads(ask(place, "/runs")[1])["runs"]}
    make_run(runs / "a newer one")
    after = {run["name"]: run["id"] for run in json.loads(ask(place, "/runs")[1])["runs"]}
    assert [*after] == ["a newer one", "first", "second & third"]
    assert {name: after[name] for name in numbers} == numbers
    ask(place, f"/runs/{numbers['first']}/stop", b"")
    assert stopped == [runs / "first"]


def test_a_folder_that_goes(open_board: Callable[..., Place], runs: Path) -> None:
    place = open_board()
    runs.rename(runs.with_name("elsewhere"))
    status, content, headers = ask(place, "/runs")
    assert (status, headers.get("x-refused")) == (200, "1")
    assert b"no such directory" in content


def test_names_of_runs(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is named even where it is the working directory, and runs of one name are told apart."""
    make_run(tmp_path / "others" / "first")
    monkeypatch.chdir(runs / "first")
    assert [*run_names(find_runs([Path(".")])).values()] == ["first"]
    names = run_names(find_runs([runs, tmp_path / "others", Path(".")]))
    assert [*names.values()] == [str(runs / "first"), "second & third", str(tmp_path / "others" / "first")]


@pytest.mark.parametrize("name", ["../run.json", "..%2frun.json", "samples-00000001.png", "%2fetc%2fpasswd", "x.png"])
def test_only_sample_grids_are_served(open_board: Callable[..., Place], runs: Path, name: str) -> None:
    (runs / "first" / "samples" / "x.png").write_bytes(b"secret")
    place = open_board()
    assert ask(place, f"/runs/0/samples/{name}")[0] == 404
    assert ask(place, "/runs/9/samples/samples-init.png")[0] == 404
    status, content, headers = ask(place, "/runs/1/samples/samples-init.png")
    assert (status, headers["content-type"]) == (200, "image/png")
    assert content == (runs / "second & third" / "samples" / "samples-init.png").read_bytes()
    assert ask(place, "/runs/0/samples/samples-init.png", token="no")[0] == 404


def test_cards_in_tables_of_those_measured_alike(runs: Path) -> None:
    protocols = [{"samples": 100}, {"samples": 100}, {"samples": 200}]
    homes = find_runs([runs])
    for i, (home, protocol) in enumerate(zip([homes[0], homes[1], homes[1]], protocols)):
        EvaluationCard({"kid": i / 3}, protocol).save(home / "evaluations" / f"{i}.json")
    (homes[0] / "evaluations" / "broken.json").write_text("{")
    alike, other = card_tables(run_names(homes))
    assert [(row["run"], row["values"]) for row in alike["rows"]] == [
        ("first", {"kid": 0.0}),
        ("second & third", {"kid": 0.33333}),
    ]
    assert alike["differs"] == ""
    assert "samples is 100 and 200" in other["differs"]


def test_curves_are_thinned_out() -> None:
    records = [{"kimg": float(i), "p": i % 7, "odd": "text", "logits/real": {"mean": 1}} for i in range(5000)]
    found = curves(records)
    assert [*found] == ["p"]
    assert 100 < len(found["p"][0]) < 1000
    assert found["p"][0][-1] == 4999


def test_control_only_where_it_was_asked_for(open_board: Callable[..., Place], monkeypatch: pytest.MonkeyPatch) -> None:
    place = open_board()
    assert ask(place, "/runs/0/stop", b"")[0] == 403
    assert ask(place, "/runs/0/resume", b"")[0] == 403
    place = open_board(control=True)
    status, content, headers = ask(place, "/runs/0/stop", b"")
    assert (status, headers.get("x-refused")) == (200, "1")
    assert b"no process on this machine" in content
    assert ask(place, "/runs/0/remove", b"")[0] == 404
    started: list[list[str]] = []

    class Failing:
        def __init__(self, command: list[str], stderr: Any, **_: Any) -> None:
            started.append(command)
            stderr.write(b"frugan: no images\n")

        def poll(self) -> int:
            return 2

    monkeypatch.setattr(module.subprocess, "Popen", Failing)
    for _ in range(2):  # again: what the first one said goes
        assert ask(place, "/runs/1/resume", b"")[0] == 200
    assert len(started) == 2
    assert started[0][1:4] == ["-m", "frugan", "resume"]
    assert started[0][4].endswith("second & third")
    told = json.loads(ask(place, "/runs")[1])["runs"]
    assert [run["warnings"][0] for run in told] == [HOSTILE, "could not be resumed: frugan: no images"]
    monkeypatch.setattr(Failing, "poll", lambda _: None)  # it goes on
    told = json.loads(ask(place, "/runs")[1])["runs"]
    assert (told[1]["status"], told[1]["sentence"]) == ("pending", "its process is starting or ending")
    assert not any("resumed" in warning for warning in told[1]["warnings"])
    assert b"wait a moment" in ask(place, "/runs/1/resume", b"")[1]
    assert len(started) == 2


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="this system does not tell who holds a lock")
def test_the_process_that_trains_is_asked_to_stop(tmp_path: Path) -> None:
    code = "import filelock, sys, time; l = filelock.FileLock(sys.argv[1]); l.acquire(); print('held', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / ".lock")], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        assert training_process(tmp_path) == process.pid
        stop_run(tmp_path)
        assert process.wait(120) == -signal.SIGTERM
    assert training_process(tmp_path) is None
    with pytest.raises(FruganError, match="stop it where it runs"):
        stop_run(tmp_path)


def test_in_a_browser(browser: Any, open_board: Callable[..., Place], runs: Path) -> None:
    """Runs can be hidden, curves searched, samples followed over kimg; names and warnings are text."""
    for i, home in enumerate(find_runs([runs])):
        EvaluationCard({"kid": i / 3}, {"samples": 100 + i}).save(home / "evaluations" / "one.json")
    place = open_board(control=True)
    page, wrong = browser.new_page(viewport={"width": 380, "height": 800}), []
    page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: wrong.append(str(e)))
    page.goto(place.address)
    page.get_by_text(HOSTILE).first.wait_for()
    assert page.locator("#samples img").count() == 2
    assert page.locator("#curves figure").count() == 2
    assert page.get_by_role("cell", name="second & third").first.is_visible()
    assert "Not measured as those above" in page.inner_text("#cards")
    assert page.locator("#settings th", has_text="kimg").count() == 1
    page.get_by_label("Show first").uncheck()
    assert page.locator("#samples img").count() == 1
    page.get_by_label("Search").fill("gener")
    assert page.locator("#curves figcaption").all_inner_texts() == ["loss/generator"]
    page.locator("#kimg").fill("0")
    assert "before training" in page.inner_text("#samples")
    page.locator("#kimg").fill("1000")
    assert "3 kimg" in page.inner_text("#samples")
    assert page.get_by_role("button", name="Resume first").is_visible()
    assert page.get_by_role("button", name="Resume second").count() == 0  # it has finished
    assert "MB" in page.locator("#runs tbody tr").first.inner_text()
    assert page.locator("#curves canvas").count() == 1
    page.get_by_label("Show first").check()
    assert page.locator("#curves .u-legend .u-label").all_text_contents()[1:] == [
        "first",
        "second & third",
    ]  # laid over each other
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert not page.evaluate("window.hurt || document.querySelector('body img[onerror]')")
    page.goto(open_board().address)
    page.get_by_text(HOSTILE).first.wait_for()
    assert page.get_by_role("button").count() == 0  # nothing to stop or resume without control
    page.close()
    assert wrong == []
