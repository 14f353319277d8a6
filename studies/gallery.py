"""The images of the documentation that show the sample generator, each by the command that its page prints.

    python studies/gallery.py                  # a minute or two on one core
    python studies/gallery.py --only mix sweep

It writes docs/images/latent-*.webp, edit.webp and explorer*.png; screenshots of the explorer need Playwright and a Chromium of
the system. To be run again whenever the sample generator changes; look at what comes out, because the pages describe it.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from PIL import Image

from frugan.cli.app import app

HOME = Path(__file__).parent.parent / "docs" / "images"
EDIT = "edit sample --seeds 0-3 --direction sample:{0} --out {0}"
ONE_EYED = "78,446,605,1323,1432,1587,1814,1864,1884,1891,1938,1946"
"""Seeds whose images have one eye."""
COMMANDS = {
    "latent-samples": ("generate sample --seeds 0-29 --truncation 0.7 --grid --out samples", "samples/*.png"),
    "latent-wide": (EDIT.format("wide"), "wide/wide.png"),
    "latent-horns": (EDIT.format("horns"), "horns/horns.png"),
    "latent-warm-body": (EDIT.format("warm-body"), "warm-body/warm-body.png"),
    "latent-ganspace": ("directions sample --count 6 --out found", "found/all.png"),
    "latent-sefa": ("directions sample --method sefa --levels 4-8 --count 3 --out shape", "shape/all.png"),
    "latent-stylespace": (
        f"directions sample --method stylespace --seeds {ONE_EYED} --count 3 --out one-eyed",
        "one-eyed/all.png",
    ),
    "latent-difference": ("directions sample --method difference --seeds 3 --to-seeds 8 --out two", "two/all.png"),
    "latent-mix": ("mix sample --rows 0-3 --columns 10-15 --levels 4-8 --out mixed.png", "mixed.png"),
    "latent-sweep": ("sweep sample --seeds 0-5 --truncation 0:1:6 --out sweep.png", "sweep.png"),
    "latent-loop": (
        "video sample --loop --seeds 0-5 --grid 4x1 --scale 2 --seconds 4 --fps 12 --out loop.webp",
        "loop.webp",
    ),
    "edit": (
        "video sample --edit sample:wide --strengths -4:3 --seeds 0 --grid 6x1 --scale 2 --seconds 3 --fps 10 --out edit.webp",
        "edit.webp",
    ),
}
"""Image → its command, and which of the files that it writes."""


def short(name: str) -> str:
    """The image's name for `--only`."""
    return name.removeprefix("latent-")


def make(name: str) -> None:
    """Runs the command in the working directory; videos are taken as they are, other images become WebP."""
    command, made = COMMANDS[name]
    app(shlex.split(command), standalone_mode=False)
    (file,) = Path().glob(made)
    target = HOME / f"{name}.webp"
    if file.suffix == ".webp":
        target.write_bytes(file.read_bytes())
        return
    with Image.open(file) as image:
        image = image.convert("RGB")
        if max(image.size) < 600:
            image = image.resize((2 * image.width, 2 * image.height), Image.Resampling.NEAREST)
        image.save(target, quality=88, method=6)


SCREENS: dict[str, tuple[int, int, Literal["light", "dark"]]] = {
    "explorer": (1100, 800, "light"),
    "explorer-narrow": (380, 820, "dark"),
}
"""Image → width, height and colours of the window."""


def explorer(names: Sequence[str]) -> None:
    """Screenshots of the page of the sample generator, once it has made its images."""
    from playwright.sync_api import sync_playwright

    app(["export", "sample", "page.html", "--format", "page"], standalone_mode=False)
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name in names:
            width, height, colours = SCREENS[name]
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=colours)
            page.goto(Path("page.html").resolve().as_uri())
            page.locator("body[aria-busy=false]").wait_for(timeout=300_000)
            page.locator("#stage canvas:not([aria-label='not made yet'])").wait_for(timeout=300_000)
            page.wait_for_timeout(5000)
            page.screenshot(path="screen.png")
            with Image.open("screen.png") as image:
                image.convert("RGB").quantize(256).save(HOME / f"{name}.png", optimize=True)
        browser.close()


def main() -> None:
    """See the study's head."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[short(name) for name in [*COMMANDS, *SCREENS]])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name in COMMANDS:
            if args.only is None or short(name) in args.only:
                make(name)
                print(name, f"{(HOME / name).with_suffix('.webp').stat().st_size / 1024:.0f} KiB", flush=True)
        if screens := [name for name in SCREENS if args.only is None or name in args.only]:
            explorer(screens)


if __name__ == "__main__":
    main()
