"""`frugan explore` and `frugan export --format page` from the command line."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

from frugan.cli import explore as module
from frugan.cli.app import app
from frugan.cli.explore import network_name, open_networks
from frugan.errors import FruganError
from frugan.interop import Imported, write_directory
from frugan.latent.direction import load_directions, save_directions
from tests.explorer.conftest import make_directions, make_network
from tests.program import foreground


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("networks") / "small"
    G = make_network().G
    write_directory(folder, Imported(G))
    save_directions(make_directions(G), folder / "directions")
    return folder


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def test_explore_prints_an_address_that_answers(source: Path) -> None:
    command = [sys.executable, "-m", "frugan", "explore", str(source), str(source), "--no-browser"]
    with (
        foreground(),
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running,
    ):
        try:
            assert running.stdout
            address = running.stdout.readline().strip()
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{24}/", address)
            with urllib.request.urlopen(f"{address}networks", timeout=240) as answer:
                told = answer.read().decode()
            assert told.count('"name":"small"') == 2
            assert told.count('"name":"smile"') == 2
            running.send_signal(signal.SIGINT)
            running.communicate(timeout=240)
            assert running.returncode in (0, 130)
        finally:
            running.kill()


def test_directions_that_are_named_are_those_of_the_first_network(source: Path, tmp_path: Path) -> None:
    """The second shows those of them that belong to it; where none does to the first, that is said."""
    write_directory(tmp_path / "other", Imported(make_network(seed=3).G))
    sources, folders = [str(source), str(tmp_path / "other")], [source / "directions"]
    first, other = open_networks(sources, folders, "cpu")
    assert [d.name for d in first.directions] == [d.name for d in make_directions(first.G)]
    assert other.directions == []
    with pytest.raises(FruganError, match="another generator"):
        open_networks(sources[::-1], folders, "cpu")


def test_the_sample_generator_comes_with_sliders_of_its_own() -> None:
    (network,) = open_networks(["sample"], [], "cpu")
    assert [d.name for d in network.directions] == [d.name for d in load_directions("sample")]


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.1", "example.org", "::"])
def test_other_machines_are_let_in_only_where_that_is_said_twice(source: Path, host: str) -> None:
    with pytest.raises(FruganError, match="--share"):
        run("explore", source, "--host", host)


def test_what_cannot_be_had_is_refused_before_networks_are_opened(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "open_networks", lambda *_: pytest.fail("the networks were opened"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(FruganError, match=f"--port {port}"):
            run("explore", source, "--port", port, "--no-browser")
    with pytest.raises(FruganError, match=r"ends in \.html"):
        run("export", source, tmp_path / "page", "--format", "page")


def test_a_port_is_free_again_where_no_network_could_be_opened(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    for _ in range(2):
        with pytest.raises(FruganError, match="nowhere"):
            run("explore", tmp_path / "nowhere", "--port", port, "--no-browser")


def test_names_of_networks(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never empty, and checkpoints of two runs are told apart."""
    checkpoint = tmp_path / "photos" / "checkpoints" / "00000200"
    checkpoint.mkdir(parents=True)
    assert network_name(str(checkpoint)) == "photos/00000200"
    assert network_name("hf:user/name") == "name"
    monkeypatch.chdir(source)
    assert network_name(".") == "small"


def test_export_refuses_what_does_not_belong_together(source: Path, tmp_path: Path) -> None:
    with pytest.raises(FruganError, match="format page decides"):
        run("export", source, tmp_path / "x.html", "--format", "page", "--noise", "none")
    with pytest.raises(FruganError, match="belong to format page"):
        run("export", source, tmp_path / "x.onnx", "--format", "onnx", "--weights", "int8")
    with pytest.raises(FruganError, match="belong to format page"):
        run("export", source, tmp_path / "x.onnx", "--format", "onnx", "--beside", source)
    with pytest.raises(FruganError, match="no such file"):
        run("export", source, tmp_path / "x.html", "--format", "page", "--runtime", tmp_path / "none.tgz")
    assert not [*tmp_path.iterdir()]
