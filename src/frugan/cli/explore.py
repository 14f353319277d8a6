"""`frugan explore`: a trained generator in the browser."""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from frugan.checks import Limits
from frugan.cli.common import bar, say
from frugan.cli.signature import Device
from frugan.errors import FruganError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from frugan.explorer.copies import TrainingImages
    from frugan.explorer.network import Network
    from frugan.explorer.weights import Weights
    from frugan.latent.direction import Direction
    from frugan.latent.text import JointModel
    from frugan.networks import Generator

Host = Annotated[str, Option(help="The address to listen on; another than this machine's own needs --share too.")]
Share = Annotated[bool, Option(help="Let other machines connect, with --host.")]
Browser = Annotated[bool, Option(help="Open the page; without, its address is only printed.")]

_FOUND_BY_ITSELF, _SAMPLES = 10, 20_000


def explore(
    networks: Annotated[list[str], typer.Argument(help="A run, one of its checkpoints, an import, a .pkl or .pt, hf:user/name, or sample; a second one is shown beside it.")],
    directions: Annotated[list[Path] | None, Option(help="A folder of directions; may be repeated. \\[default: those in the run's folder directions, else the ten that GANSpace finds]")] = None,
    text_model: Annotated[str | None, Option(help="Edit by words and find seeds by them, with captions:FOLDER, clip, siglip, classes, or package.module:callable, as frugan text does.")] = None,
    port: Annotated[int, Limits(at_least=0, at_most=65535), Option(help="0: any that is free.")] = 0,
    host: Host = "127.0.0.1",
    share: Share = False,
    browser: Browser = True,
    device: Device = "auto",
) -> None:  # fmt: skip
    """Look at what a generator makes, in the browser: sliders, mixing, breeding, key frames. Needs the extra frugan\\[explorer]."""

    def service() -> object:
        from frugan.explorer.server import Service

        model = open_text_model(text_model, device) if text_model else None
        return Service(open_networks(networks, directions or [], device), text_model=model)

    offer(service, host, port, share=share, browser=browser)


def offer(make: Callable[[], Any], host: str, port: int, *, share: bool, browser: bool) -> None:
    """Serves what `make` gives until Ctrl-C, having printed its address and opened it in a browser."""
    from importlib.util import find_spec

    if missing := [name for name in ("starlette", "uvicorn") if find_spec(name) is None]:
        raise FruganError(f"this page needs {' and '.join(missing)}: pip install 'frugan[explorer]'")
    from frugan.explorer.server import listen, serve

    check_host(host, share)
    bound, place = listen(host, port)
    try:
        service = make()
    except BaseException:
        bound.close()
        raise
    say(f"{place.address}\nOpen it in a browser on this machine; Ctrl-C ends it.")
    if not is_loopback(host):
        say(f"{host} is reachable from other machines: whoever has the address above can use this page and this device")
    if browser:
        import webbrowser

        webbrowser.open(place.address)
    serve(service, bound, place)


def write_page(
    sources: Sequence[Path], out: Path, directions: list[Path], weights: Weights, runtime: Path | None, *, webgpu: bool
) -> None:
    """`frugan export --format page`."""
    from importlib.util import find_spec

    from frugan.explorer.export import check_name, export_page
    from frugan.explorer.runtime import read_runtime

    if missing := [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]:
        raise FruganError(f"format page needs {' and '.join(missing)}: pip install 'frugan[onnx]'")
    check_name(out)
    with bar("fetching onnxruntime-web"):
        files = read_runtime(runtime, webgpu=webgpu)
    networks = open_networks([str(source) for source in sources], directions, "cpu")
    done = export_page(out, networks, files, weights)
    say(f"{done.page}: {done.size / 1e6:.1f} MB; open it in a browser, it needs no network")
    say(
        f"its images are {done.mean_distance:.2f} steps of 8 bits from the network's on average, {done.largest_distance:.0f} at most"
    )
    for warning in (text for network in networks for text in network.warnings):
        say(warning)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def check_host(host: str, share: bool) -> None:
    """Raises `FruganError` where the server would be reachable from other machines without --share."""
    if not is_loopback(host) and not share:
        raise FruganError(
            f"--host {host}: other machines could connect and use this page and device; add --share if that is wanted"
        )


def open_text_model(text: str, device: str) -> JointModel:
    """A joint model of images and texts on a device."""
    from frugan.device import choose_device
    from frugan.latent.text import open_model

    return open_model(text, choose_device(device))


def open_networks(sources: Sequence[str], folders: list[Path], device: str) -> list[Network]:
    """Generators as the page shows them; the directions of `folders` are the first one's, and those of others that they belong to."""
    return [open_network(source, folders, device, is_first=i == 0) for i, source in enumerate(sources)]


def open_network(source: str, folders: list[Path], device: str, *, is_first: bool = True) -> Network:
    """A generator with its directions; those of `folders` that are not its own are refused, or left out where it is not the first."""
    from frugan.device import choose_device
    from frugan.explorer.network import Network
    from frugan.run.load import load_with_notes, read_class_names

    G, notes = load_with_notes(source)
    G = G.without_masks().to(choose_device(device))
    return Network(
        network_name(source),
        G,
        _directions(G, source, folders, is_first=is_first),
        read_class_names(source),
        notes,
        _training_images(source, device),
    )


def network_name(source: str) -> str:
    """The page's name of a network: its file or directory, with the run where that is one of a run's checkpoints."""
    path = Path(source)
    if not path.exists():
        return path.name
    path = path.resolve()
    return f"{path.parent.parent.name}/{path.name}" if path.parent.name == "checkpoints" else path.name


def _training_images(source: str, device: str) -> Callable[[], TrainingImages] | None:
    """Opens the training images of a run, or of the run that a checkpoint belongs to; None where there is no run."""
    from frugan.run.directory import RunDirectory

    homes = [Path(source), Path(source).resolve().parent.parent]
    home = next((folder for folder in homes if (folder / "config.yaml").is_file()), None)
    if home is None:
        return None

    def opened() -> TrainingImages:
        from frugan.device import choose_device
        from frugan.explorer.copies import TrainingImages

        return TrainingImages(RunDirectory(home).open_data(), choose_device(device))

    return opened


def _directions(G: Generator, source: str, folders: list[Path], *, is_first: bool) -> list[Direction]:
    from frugan.latent.direction import FACTS, load_directions
    from frugan.latent.explore import Request, find
    from frugan.shipped import resolve_shipped

    home = resolve_shipped(source)
    own = home if (home / FACTS).is_file() else home / "directions"
    if not folders and home.is_dir():
        folders = [own] if (own / FACTS).is_file() else [f.parent for f in sorted(own.glob(f"*/{FACTS}"))]
    if not folders:
        with bar("looking for directions (ganspace)") as progress:
            return find(G, Request(count=_FOUND_BY_ITSELF, samples=_SAMPLES), progress)
    found: dict[str, Direction] = {}
    for folder in folders:
        for direction in load_directions(folder):
            if not is_first:
                try:
                    direction.check(G)
                except FruganError:
                    continue
            name = direction.name if direction.name not in found else f"{folder.name}/{direction.name}"
            found[name] = direction
    return _named(found)


def _named(found: dict[str, Direction]) -> list[Direction]:
    """Each under a name of its own."""
    from dataclasses import replace

    return [replace(direction, name=name) for name, direction in found.items()]
