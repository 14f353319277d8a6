"""A server of files with faults, asked again at once."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from data.shards.served import Server
from frugan.data.shards import remote


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FIRST_WAIT_S", 0.01)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    state = Server("")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            state.gets[name] += 1
            fault = state.faults[name].pop(0) if state.faults.get(name) else ""
            if fault.isdecimal():
                return self.send_error(int(fault))
            if fault == "drop":
                return self.connection.close()
            if fault == "held":
                state.released.wait(240)
                return self.connection.close()
            if fault == "cut":
                content = Path(self.translate_path(self.path)).read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2])
                return self.connection.close()
            if fault == "short":
                content = Path(self.translate_path(self.path)).read_bytes()
                self.protocol_version = "HTTP/1.1"
                self.send_response(200)
                self.send_header("Content-Length", str(len(content) // 3))
                self.end_headers()
                self.wfile.write(content)
                return None
            if fault == "long":
                content = Path(self.translate_path(self.path)).read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content) + 1))
                self.end_headers()
                self.wfile.write(content)
                state.released.wait(240)  # and no more comes
                return None
            if fault == "garbage":
                self.wfile.write(b"\0" * 100)
                return self.connection.close()
            if fault == "endless":
                self.send_response(200)
                self.end_headers()
                while True:  # until the client hangs up
                    state.sent += self.connection.send(b"\0" * (1 << 20))
            return super().do_GET()

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:  # clients that hung up
            pass

    served = tmp_path / "served"
    served.mkdir()
    with Quiet(("127.0.0.1", 0), functools.partial(Handler, directory=str(served))) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        state.url = f"http://127.0.0.1:{running.server_port}"
        yield state
        state.released.set()
        running.shutdown()
