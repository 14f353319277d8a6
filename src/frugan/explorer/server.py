"""Local web server of the explorer: serves the page, and computes with PyTorch what the page asks for.

It is for the person in front of this machine. Every address begins with a random token; requests whose Host or Origin is not
this server's are refused (DNS rebinding, other sites' scripts); bodies are bounded before they are read, numbers checked
before they are computed with, and only the networks and folders that were named when it started can be reached.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import secrets
import socket
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from torch import Tensor

from frugan.errors import FruganError
from frugan.explorer.copies import TrainingImages
from frugan.explorer.fitting import (
    FORGOTTEN,
    MOST_BYTES,
    Fit,
    read_upload,
    start_drag,
    start_projection,
    start_search,
    start_words,
)
from frugan.explorer.jobs import JobQueue, QueueFull, Superseded
from frugan.explorer.network import LARGEST_VALUE, Network, NoiseChoice
from frugan.explorer.page import MODULES, asset, server_page
from frugan.images import to_uint8
from frugan.latent.direction import Direction
from frugan.latent.projection import SPACES
from frugan.latent.text import JointModel
from frugan.networks.sampling import LARGEST_SEED

T = TypeVar("T")

MOST_IMAGES = 64
"""Images of one request."""
MOST_POINTS = 32
MOST_LETTERS = 300
"""Of a text."""
MOST_SEEDS = 10_000
"""Looked at for a text."""
MOST_CONNECTIONS = 64
PATIENCE = 20.0
"""Seconds within which a request's body must have come."""

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Place:
    """The server's address, and the secret that its paths begin with."""

    host: str
    port: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(18))

    @property
    def address(self) -> str:
        """The page's address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/{self.token}/"

    def is_own(self, authority: str) -> bool:
        """Whether "name:port" is this server as a browser may rightly call it: by number or as localhost, never by another name."""
        name, _, port = authority.rpartition(":")
        if port != str(self.port):
            return False
        name = name.strip("[]")
        if name in ("localhost", self.host):
            return True
        with suppress(ValueError):
            address, bound = ipaddress.ip_address(name), ipaddress.ip_address(self.host)
            return address.is_loopback or bound.is_unspecified
        return False


class Guard:
    """ASGI middleware: refuses what does not come from the page itself, and adds headers of safety to each answer."""

    def __init__(self, app: ASGIApp, place: Place) -> None:
        self.app, self.place = app, place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return None  # no web sockets
        if (refusal := self._refusal(scope)) is not None:
            return await refusal(scope, receive, send)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in HEADERS.items())]
            await send(message)

        return await self.app(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = {}
        for name, value in scope["headers"]:
            headers.setdefault(name, []).append(value.decode("latin-1"))
        hosts, origins = headers.get(b"host", []), headers.get(b"origin", [])
        if len(hosts) != 1 or not self.place.is_own(hosts[0]):
            return PlainTextResponse("wrong host", 403)
        if any(not origin.startswith("http://") or not self.place.is_own(origin[7:]) for origin in origins):
            return PlainTextResponse("wrong origin", 403)
        given = scope["path"].split("/")[1] if scope["path"].count("/") > 1 else ""
        if not secrets.compare_digest(given.encode("utf-8", "replace"), self.place.token.encode()):
            return PlainTextResponse("wrong address: open the one that was printed in the terminal", 404)
        return None


class Refused(Exception):
    """A user's choice that cannot be had, in a sentence for the page; not an error of the protocol, which a browser would log."""


class Answers(Protocol):
    """The content that is served."""

    def routes(self) -> list[Route]: ...

    def close(self) -> None:
        """Ends what is under way."""


class Service:
    """The explorer's answers: facts of the networks, w of latents, images of ws.

    Args:
        networks: the generators that can be explored.
        text_model: joins images and texts, for edits by words; None: there are none.
        queue: does work that takes long; None: one of its own.
    """

    def __init__(
        self, networks: Sequence[Network], *, text_model: JointModel | None = None, queue: JobQueue | None = None
    ) -> None:
        self.networks, self.text_model = list(networks), text_model
        self.queue = queue or JobQueue()
        self._facts: list[dict[str, Any]] | None = None
        self._device = threading.Lock()
        self._fit: Fit | None = None
        self._begun = 0
        self._training: dict[int, TrainingImages] = {}

    def routes(self) -> list[Route]:
        return [
            Route("/", self.page),
            Route("/assets/{name}", self.file),
            Route("/networks", self.facts),
            Route("/map", self.map, methods=["POST"]),
            Route("/render", self.render, methods=["POST"]),
            Route("/nearest", self.nearest, methods=["POST"]),
            Route("/project", self.project, methods=["POST"]),
            Route("/drag", self.drag, methods=["POST"]),
            Route("/words", self.words, methods=["POST"]),
            Route("/fit/{what}", self.fit, methods=["POST"]),
        ]

    async def page(self, request: Request) -> Response:
        html, policy = server_page()
        return Response(html, media_type="text/html", headers={"Content-Security-Policy": policy})

    async def file(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in MODULES:
            raise HTTPException(404, "no such file")
        return Response(asset(name), media_type="text/javascript")

    async def facts(self, request: Request) -> Response:
        if self._facts is None:
            self._facts = await self._job(request, lambda: [self._told(n) for n in self.networks])
        return JSONResponse(self._facts)

    async def map(self, request: Request) -> Response:
        """z `[n, z_dim]` and labels `[n, K]` one after the other → w `[n, w_dim]`, all little-endian float32."""
        network, n = self._network(request), _count(request)
        G = network.G
        values = await _floats(request, n * (G.z_dim + G.label_size))
        z = values[: n * G.z_dim].view(n, G.z_dim)
        c = values[n * G.z_dim :].view(n, G.label_size) if G.label_size else None
        w = await self._job(request, lambda: network.map(z, c))
        return Response(w.numpy().astype("<f4").tobytes(), media_type="application/octet-stream")

    async def render(self, request: Request) -> Response:
        """ws `[n, num_ws, w_dim]` and, with `offset=1`, offsets `[n, ΣC]` → images uint8, or with `floats=1` float32 in [-1, 1],
        `[n, H, W, C]`; their shape is in the headers."""
        network, n = self._network(request), _count(request)
        G, query = network.G, request.query_params
        each, styles = G.num_ws * G.w_dim, sum(layer.width for layer in G.synthesis.style_layers)
        with_offset = query.get("offset") == "1"
        values = await _floats(request, n * (each + (styles if with_offset else 0)))
        ws, offset = values[: n * each].view(n, G.num_ws, G.w_dim), None
        if with_offset:
            offset = values[n * each :].view(n, styles)
        noise, side = _noise(query.get("noise", "const")), _whole(query.get("side"), "side", 1, 65536)
        images = await self._job(request, lambda: network.render(ws, offset, noise, side))
        return _images(images, floats=query.get("floats") == "1")

    async def nearest(self, request: Request) -> Response:
        """An image, float32 `[H, W, C]` in [-1, 1] → the nearest training images, as JSON."""
        network = self._network(request)
        G, training_images = network.G, network.training_images
        if training_images is None:
            raise HTTPException(404, "this network's training images are not known here")
        image = (await _floats(request, G.channels * G.resolution[0] * G.resolution[1])).view(*G.resolution, G.channels)

        def find() -> dict[str, Any]:
            at = self.networks.index(network)
            if at not in self._training:
                self._training[at] = training_images()
            return self._training[at].nearest(image.permute(2, 0, 1))

        return JSONResponse(await self._job(request, find))

    async def project(self, request: Request) -> Response:
        """An image file → its projection begins, in place of one that has ended."""
        network, space = self._network(request), request.query_params.get("space", "pn")
        if space not in SPACES:
            raise HTTPException(400, f"space: choose one of {', '.join(SPACES)}")
        content = await read_body(request, MOST_BYTES)
        self._check_free()
        found = await self._job(request, lambda: read_upload(content, network.G))
        return self._begin(start_projection(network.G, found, space, self._device))  # pyright: ignore[reportArgumentType]

    async def drag(self, request: Request) -> Response:
        """ws `[num_ws, w_dim]`, then handles and targets `[points, 2]` as (x, y) in pixels → dragging begins."""
        network = self._network(request)
        G, count = network.G, _whole(request.query_params.get("points"), "points", 1, MOST_POINTS) or 1
        values = await _floats(request, G.num_ws * G.w_dim + 4 * count)
        ws = values[: G.num_ws * G.w_dim].view(1, G.num_ws, G.w_dim)
        points = values[G.num_ws * G.w_dim :].view(2, count, 2).tolist()
        handles, targets = ([(x, y) for x, y in some] for some in points)
        self._check_free()
        return self._begin(await self._job(request, lambda: start_drag(G, ws, handles, targets, self._device)))

    async def words(self, request: Request) -> Response:
        """A label `[K]` → with `seeds=N` the seeds from `first` on that fit `text` are looked for, else a direction towards it."""
        network, query, model = self._network(request), request.query_params, self.text_model
        text, G = query.get("text", ""), network.G
        if model is None:
            raise HTTPException(404, "edits by words need a model of images and texts: start with --text-model")
        if len(text) > MOST_LETTERS:
            raise HTTPException(400, f"text: give at most {MOST_LETTERS} letters")
        seeds = _whole(query.get("seeds"), "seeds", 1, MOST_SEEDS)
        first = _whole(query.get("first", "0"), "first", 0, LARGEST_SEED - MOST_SEEDS) or 0
        psi = _real(query.get("psi", "0.7"), "psi", -1, 1.5)
        label = await _floats(request, G.label_size) if G.label_size else None
        self._check_free()
        if seeds:
            return self._begin(start_search(G, model, text, range(first, first + seeds), label, psi, self._device))
        return self._begin(start_words(G, model, text, self._device, partial(self._added, network)))

    def _added(self, network: Network, direction: Direction) -> dict[str, Any]:
        """Takes a direction up, for pages that are opened from now on too."""
        added = network.add(direction)
        self._facts = None
        return network.slider(added)

    async def fit(self, request: Request) -> Response:
        """How the fit stands; its image, its code (ws, then an offset of styles) or other result; or pauses, resumes or ends it.

        `fit`: its number; one that another page has begun meanwhile is not taken for it.
        """
        going, what, number = self._fit, request.path_params["what"], request.query_params.get("fit")
        if number is not None and number != str(self._begun):
            raise Refused("another fit was begun on another page meanwhile: start this one again after it")
        if going is None or what not in ("state", "image", "code", "result", "pause", "resume", "cancel"):
            raise HTTPException(404, "nothing is being fitted")
        if what == "image":
            return _images(going.image[None])
        if what == "code":
            content = b"".join(part.numpy().astype("<f4").tobytes() for part in (going.ws, going.offset))
            return Response(content, media_type="application/octet-stream")
        if what == "result":
            return JSONResponse(going.result)
        if what != "state":
            getattr(going, what)()
        return self._standing(going)

    def _check_free(self) -> None:
        if self._fit and self._fit.is_going:
            raise Refused(
                "one fit at a time: another one is under way; stop that first, on this page or another one. "
                f"Where its page was closed, it ends within {FORGOTTEN:.0f} seconds"
            )

    def _begin(self, fit: Fit) -> Response:
        self._fit = fit
        self._begun += 1
        return self._standing(fit)

    def _standing(self, fit: Fit) -> Response:
        return JSONResponse({**fit.told(), "number": self._begun})

    def close(self) -> None:
        """Ends what is under way."""
        if self._fit:
            self._fit.cancel()
            self._fit.join()
        self.queue.close()

    def _told(self, network: Network) -> dict[str, Any]:
        can = {
            "project": network.G.channels <= 4,
            "upload": MOST_BYTES,
            "drag": True,
            "nearest": network.training_images is not None,
            "words": self.text_model is not None,
        }
        return {**network.facts(), "can": can}

    def _network(self, request: Request) -> Network:
        last = len(self.networks) - 1
        return self.networks[_whole(request.query_params.get("network", "0"), "network", 0, last) or 0]

    async def _job(self, request: Request, work: Callable[[], T]) -> T:
        """Runs `work` in its turn, unless the page has gone or has asked for something newer meanwhile."""

        def on_device() -> T:
            with self._device:
                return work()

        try:
            return await _unless_gone(request, self.queue.run(_lane(request), on_device))
        except Superseded:
            raise HTTPException(409, "superseded") from None
        except QueueFull:
            raise HTTPException(503, "too many requests at once", {"Retry-After": "1"}) from None
        except FruganError as error:
            raise Refused(str(error)) from None


def make_app(service: Answers, place: Place) -> ASGIApp:
    """The whole application, guarded."""
    app = Starlette(
        routes=[Mount(f"/{place.token}", routes=service.routes())],
        exception_handlers={ClientDisconnect: _gone_away, Refused: _refused},
    )
    return Guard(app, place)


async def _gone_away(request: Request, error: Exception) -> Response:
    return PlainTextResponse("", 499)


async def _refused(request: Request, error: Exception) -> Response:
    return PlainTextResponse(str(error), headers={"X-Refused": "1"})


async def _unless_gone(request: Request, job: Coroutine[Any, Any, T]) -> T:
    """The job's result; it is cancelled where the client hangs up. Call it when the body was read."""

    async def hung_up() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.ensure_future(job), asyncio.ensure_future(hung_up())
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


async def read_body(request: Request, most: int) -> bytes:
    """The body, of at most `most` bytes; more is refused before it is kept, and so is what does not come in time."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise HTTPException(413, f"more than {most:,} bytes")
    content = bytearray()

    async def read() -> None:
        async for chunk in request.stream():
            content.extend(chunk)
            if len(content) > most:
                raise HTTPException(413, f"more than {most:,} bytes")

    try:
        await asyncio.wait_for(read(), PATIENCE)
    except TimeoutError:
        raise HTTPException(408, "the request did not come whole") from None
    return bytes(content)


async def _floats(request: Request, count: int) -> Tensor:
    """A body of exactly `count` little-endian float32, finite and at most `LARGEST_VALUE` in magnitude."""
    content = await read_body(request, 4 * count)
    if len(content) != 4 * count:
        raise HTTPException(400, f"{len(content)} bytes instead of {4 * count}")
    values = torch.frombuffer(bytearray(content), dtype=torch.float32)
    if not (values.abs() <= LARGEST_VALUE).all():
        raise HTTPException(400, f"a number that is not finite, or larger than {LARGEST_VALUE:g}")
    return values


def _images(images: Tensor, *, floats: bool = False) -> Response:
    """float32 `[n, C, H, W]` in [-1, 1] → uint8 or float32 `[n, H, W, C]`, the shape in a header."""
    content = images.permute(0, 2, 3, 1).contiguous().numpy().astype("<f4") if floats else to_uint8(images)
    n, channels, h, w = images.shape
    headers = {"X-Shape": f"{n},{h},{w},{channels}"}
    return Response(content.tobytes(), media_type="application/octet-stream", headers=headers)


def _count(request: Request) -> int:
    return _whole(request.query_params.get("n", "1"), "n", 1, MOST_IMAGES) or 1


def _whole(text: str | None, name: str, low: int, high: int) -> int | None:
    if text is None:
        return None
    if not text.isascii() or not text.isdecimal() or len(text) > 10 or not low <= int(text) <= high:
        raise HTTPException(400, f"{name}: give a whole number from {low} to {high}")
    return int(text)


def _real(text: str, name: str, low: float, high: float) -> float:
    try:
        value = float(text[:20])
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise HTTPException(400, f"{name}: give a number from {low:g} to {high:g}")
    return value


def _noise(text: str) -> NoiseChoice:
    if text == "const" or text == "none":
        return text
    return _whole(text, "noise", 0, LARGEST_SEED) or 0


def _lane(request: Request) -> str:
    """The page's own name and that of its part, as it gives them; without them nothing is superseded."""
    page, part = (request.query_params.get(name, "")[:40] for name in ("page", "lane"))
    return f"{page}/{part}" if page else secrets.token_hex(8)


def listen(host: str, port: int) -> tuple[socket.socket, Place]:
    """A listening socket; port 0 takes any that is free. Raises `FruganError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(128)  # from here on a browser that connects is waited for, not refused
    except OSError as error:
        bound.close()
        raise FruganError(f"--host {host} --port {port}: {error.strerror or error}; choose others, or port 0") from None
    return bound, Place(host, bound.getsockname()[1])


def make_config(service: Answers, place: Place) -> uvicorn.Config:
    """The server's settings: no access log (addresses hold the token), bounded connections."""
    return uvicorn.Config(
        make_app(service, place),
        log_level="warning",
        access_log=False,
        ws="none",
        lifespan="off",
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=2,
    )


def serve(service: Answers, bound: socket.socket, place: Place) -> None:
    """Answers requests until Ctrl-C or SIGTERM.

    Args:
        service: what answers.
        bound: a socket that is bound already.
        place: host, port and token.
    """
    try:
        uvicorn.Server(make_config(service, place)).run(sockets=[bound])
    finally:
        service.close()
