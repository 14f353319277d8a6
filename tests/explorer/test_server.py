# pyright: reportArgumentType=false
"""The server answers its own page and nobody else, within bounds, whatever comes."""

from __future__ import annotations

import asyncio
import http.client
import re
import resource
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frugan.errors import FruganError
from frugan.explorer import server as module
from frugan.explorer.jobs import JobQueue, QueueFull, Superseded
from frugan.explorer.network import Network
from frugan.explorer.server import Place, listen
from frugan.images import to_uint8


@pytest.fixture(scope="module")
def place(serving: Callable[..., Place], network: Network) -> Place:
    return serving([network])


def ask(
    place: Place, path: str, body: bytes | None = None, *, token: str | None = None, **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", place.port, timeout=240)
    try:
        connection.putrequest(
            "GET" if body is None else "POST", f"/{place.token if token is None else token}{path}", skip_host=True
        )
        connection.putheader("Host", headers.pop("Host", f"127.0.0.1:{place.port}"))
        for name, value in headers.items():
            connection.putheader(name, value)
        if body is not None and "Content-Length" not in headers:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.read(), {k.lower(): v for k, v in answer.getheaders()}
    finally:
        connection.close()


def floats(*tensors: torch.Tensor) -> bytes:
    return b"".join(t.contiguous().numpy().astype("<f4").tobytes() for t in tensors)


def test_a_page_and_what_it_asks_for(place: Place, network: Network) -> None:
    G = network.G
    status, html, headers = ask(place, "/")
    assert status == 200
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert not [name for name in headers if name.startswith("access-control")]
    for name in re.findall(r"\./assets/[\w.-]+", html.decode()):
        assert ask(place, name[1:])[0] == 200
    z, c = G.latents([1, 2]), torch.eye(3)[[0, 1]]
    status, content, _ = ask(place, "/map?n=2", floats(z, c))
    w = torch.from_numpy(np.frombuffer(content, "<f4").copy()).view(2, -1)
    assert torch.equal(w, G.mapping.features(z, c))
    ws = w[:, None].expand(-1, G.num_ws, -1)
    status, content, headers = ask(place, "/render?n=2&noise=const", floats(ws))
    assert headers["x-shape"] == "2,16,16,3"
    assert content == to_uint8(network.render(ws, None)).tobytes()
    status, content, _ = ask(place, "/render?n=2&noise=3&floats=1", floats(ws))
    assert np.array_equal(np.frombuffer(content, "<f4"), network.render(ws, None, 3).permute(0, 2, 3, 1).flatten())


ORIGIN = "http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    "status, token, headers",
    [
        (404, "wrong", {}),
        (404, "", {}),
        (404, "%00", {}),
        (404, "../../etc", {}),
        (403, None, {"Host": "evil.example"}),
        (403, None, {"Host": "evil.example:{port}"}),
        (403, None, {"Host": "127.0.0.1"}),
        (403, None, {"Host": "127.0.0.1.evil.example:{port}"}),
        (403, None, {"Host": "8.8.8.8:{port}"}),
        (403, None, {"Origin": "https://evil.example"}),
        (403, None, {"Origin": "http://evil.example:{port}"}),
        (403, None, {"Origin": "null"}),
        (403, None, {"Origin": "https://127.0.0.1:{port}"}),
        (200, None, {"Origin": ORIGIN}),
        (200, None, {"Host": "localhost:{port}", "Origin": "http://localhost:{port}"}),
        (200, None, {"Host": "[::1]:{port}"}),
    ],
)
def test_who_may_ask(place: Place, status: int, token: str | None, headers: dict[str, str]) -> None:
    given = {name: value.format(port=place.port) for name, value in headers.items()}
    for path in ("/", "/networks", "/assets/latent.js"):
        assert ask(place, path, token=token, **given)[0] == status


@pytest.mark.parametrize("name", [
    "../server.py", "..%2fserver.py", "%2e%2e/%2e%2e/cli/app.py", "explorer.css", "/etc/passwd", "%2fetc%2fpasswd",
    "latent.js%00", "..\\server.py", "",
])  # fmt: skip
def test_no_other_files(place: Place, name: str) -> None:
    status, content, _ = ask(place, f"/assets/{name}")
    assert status in (404, 405)
    assert b"import" not in content


@pytest.mark.parametrize(
    "path, size",
    [
        ("/render?n=1", 0),
        ("/render?n=1", 7),
        ("/render?n=2", "one"),
        ("/render?n=0", "one"),
        ("/render?n=65", "one"),
        ("/render?n=-1", "one"),
        ("/render?n=1e9", "one"),
        ("/render?n=999999999999999999999", "one"),
        ("/render?n=1&network=1", "one"),
        ("/render?n=1&noise=4294967296", "one"),
        ("/render?n=1&noise=evil", "one"),
        ("/render?n=1&side=0", "one"),
        ("/render?n=1&offset=1", "one"),
        ("/map?n=1", "one"),
    ],
)
def test_requests_that_make_no_sense(place: Place, network: Network, path: str, size: int | str) -> None:
    one = 4 * network.G.num_ws * network.G.w_dim
    status, content, _ = ask(place, path, bytes(one if size == "one" else int(size)))
    assert status in (400, 413)
    assert len(content) < 200


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_numbers_beyond_reason(place: Place, network: Network, value: float) -> None:
    ws = torch.zeros(1, network.G.num_ws, network.G.w_dim)
    ws[0, 1, 2] = value
    assert ask(place, "/render?n=1", floats(ws))[0] == 400


def test_too_large_a_body_is_not_kept(place: Place) -> None:
    """Neither one that says so nor one in endless pieces; memory stays where it was."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert ask(place, "/render?n=1", b"", **{"Content-Length": str(10**12)})[0] == 413
    with socket.create_connection(("127.0.0.1", place.port)) as raw:
        raw.sendall(
            f"POST /{place.token}/render?n=1 HTTP/1.1\r\nHost: 127.0.0.1:{place.port}\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        piece = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
        try:
            for _ in range(200):
                raw.sendall(piece)
            answer = raw.recv(100)
        except OSError:
            answer = b" 413 "  # it was hung up on
    assert b" 413 " in answer
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10
    assert ask(place, "/")[0] == 200


def test_half_an_upload(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    head = f"POST /{place.token}/render?n=1 HTTP/1.1\r\nHost: 127.0.0.1:{place.port}\r\nContent-Length: 288\r\n\r\n"
    with socket.create_connection(("127.0.0.1", place.port)) as raw:
        raw.sendall(head.encode() + bytes(100))
        assert b" 408 " in raw.recv(100)
    with socket.create_connection(("127.0.0.1", place.port)) as raw:
        raw.sendall(head.encode() + bytes(100))
    assert ask(place, "/")[0] == 200


@given(st.binary(max_size=400))
@settings(max_examples=40)
def test_bytes_that_are_no_request(place: Place, garbage: bytes) -> None:
    with socket.create_connection(("127.0.0.1", place.port)) as raw:
        raw.sendall(garbage + b"\r\n\r\n")
    assert ask(place, "/")[0] == 200


def test_two_hundred_requests_at_once(place: Place, network: Network) -> None:
    """Some are served, the others refused; the queue is bounded, and the server answers afterwards."""
    body = floats(torch.zeros(64, network.G.num_ws, network.G.w_dim))
    with ThreadPoolExecutor(40) as pool:
        found = list(pool.map(lambda _: ask(place, "/render?n=64", body)[0], range(200)))
    assert set(found) <= {200, 503}
    assert found.count(200) > 10
    assert ask(place, "/")[0] == 200


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Returns when so many jobs, the one at work included, have come to the queue and not left it."""
    inside: list[str] = []
    run = JobQueue.run

    async def counted(queue: JobQueue, lane: str, work: Callable[[], Any]) -> Any:
        inside.append(lane)
        try:
            return await run(queue, lane, work)
        finally:
            inside.remove(lane)

    def wait(count: int) -> None:
        until = time.monotonic() + 120
        while len(inside) != count:
            assert time.monotonic() < until
            time.sleep(0.01)

    monkeypatch.setattr(JobQueue, "run", counted)
    return wait


def test_the_newest_of_a_lane_wins(
    serving: Callable[..., Place], network: Network, waiting: Callable[[int], None]
) -> None:
    """While one is rendered, later ones of the same page take each other's place; other pages' stay."""
    going, done = threading.Event(), threading.Event()
    slow = Network("slow", network.G)
    rendered: list[float] = []

    def render(ws: torch.Tensor, *_: Any) -> torch.Tensor:
        rendered.append(float(ws[0, 0, 0]))
        going.set()
        assert done.wait(120)
        return network.render(ws, None)

    slow.render = render  # pyright: ignore[reportAttributeAccessIssue]
    place = serving([slow])
    with ThreadPoolExecutor(8) as pool:

        def send(value: float, page: str) -> Any:
            body = floats(torch.full((1, network.G.num_ws, network.G.w_dim), value))
            return pool.submit(lambda: ask(place, f"/render?n=1&page={page}&lane=image", body)[0])

        first = send(0, "a")
        assert going.wait(120)
        later = [send(1, "a")]
        waiting(2)
        for value in (2, 3):
            later.append(send(value, "a"))
            later[-2].result()  # it has been replaced
        other = send(9, "b")
        waiting(3)
        done.set()
        assert [f.result() for f in (first, *later, other)] == [200, 409, 409, 200, 200]
    assert rendered == [0, 3, 9]


def test_jobs_of_a_page_that_went_are_not_done(
    serving: Callable[..., Place], network: Network, waiting: Callable[[int], None]
) -> None:
    going, done = threading.Event(), threading.Event()
    rendered: list[float] = []
    slow = Network("slow", network.G)

    def render(ws: torch.Tensor, *_: Any) -> torch.Tensor:
        rendered.append(float(ws[0, 0, 0]))
        going.set()
        assert done.wait(120)
        return network.render(ws, None)

    slow.render = render  # pyright: ignore[reportAttributeAccessIssue]
    place = serving([slow])
    body = floats(torch.ones(1, network.G.num_ws, network.G.w_dim))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(
            lambda: ask(place, "/render?n=1", floats(torch.zeros(1, network.G.num_ws, network.G.w_dim)))
        )
        assert going.wait(120)
        with socket.create_connection(("127.0.0.1", place.port)) as raw:
            head = f"POST /{place.token}/render?n=1 HTTP/1.1\r\nHost: 127.0.0.1:{place.port}\r\nContent-Length: {len(body)}\r\n\r\n"
            raw.sendall(head.encode() + body)
            waiting(2)
        waiting(1)
        done.set()
        assert first.result()[0] == 200
    assert ask(place, "/networks")[0] == 200
    assert rendered == [0]


def test_the_queue_is_bounded() -> None:
    async def check() -> None:
        queue, gate = JobQueue(2), threading.Event()
        jobs = [asyncio.ensure_future(queue.run(f"{i}", gate.wait)) for i in range(4)]
        await asyncio.sleep(0)  # all have come
        gate.set()
        results = await asyncio.gather(*jobs, return_exceptions=True)
        assert [type(r) for r in results] == [bool, bool, bool, QueueFull]
        assert await queue.run("x", lambda: 5) == 5
        with pytest.raises(ZeroDivisionError):
            await queue.run("x", lambda: 1 // 0)
        assert await queue.run("x", lambda: 6) == 6
        queue.close()

    asyncio.run(check())


def test_jobs_run_one_at_a_time_and_waiting_ones_can_be_cancelled() -> None:
    running, most, ran = 0, 0, []

    def work(name: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.02)
        running -= 1
        ran.append(name)
        return name

    async def check() -> None:
        queue = JobQueue()
        jobs = [asyncio.ensure_future(queue.run(f"{i % 4}", lambda i=i: work(i))) for i in range(8)]
        await asyncio.sleep(0)  # all have come
        jobs[7].cancel()
        results = await asyncio.gather(*jobs, return_exceptions=True)
        kinds = [type(r) for r in results]
        assert kinds == [int, Superseded, Superseded, Superseded, int, int, int, asyncio.CancelledError]
        queue.close()

    asyncio.run(check())
    assert most == 1
    assert ran == [0, 4, 5, 6]


def test_an_address_can_be_opened_as_soon_as_it_is_known() -> None:
    bound, place = listen("127.0.0.1", 0)
    with bound, socket.create_connection(("127.0.0.1", place.port), timeout=5):
        pass


def test_a_port_that_is_taken() -> None:
    bound, place = listen("127.0.0.1", 0)
    with bound, pytest.raises(FruganError, match=rf"--port {place.port}: .*choose others"):
        listen("127.0.0.1", place.port)


def test_tokens_differ() -> None:
    assert len({Place("127.0.0.1", 1).token for _ in range(100)}) == 100
    assert len(Place("127.0.0.1", 1).token) >= 24
