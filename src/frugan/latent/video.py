"""Videos from frames: MP4 by imageio-ffmpeg, which brings its own encoder; WebP, GIF and APNG by Pillow."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from frugan.channels import colour_channels
from frugan.errors import FruganError
from frugan.files import check_writable, replacing
from frugan.images import pil_image, to_uint8

FORMATS = (".mp4", ".webp", ".gif", ".png")
HELD = {".gif": 2, ".webp": 6, ".png": 8}
"""Bytes for each pixel of a frame that Pillow keeps until all are there, as measured."""
MOST_HELD = 2 << 30
MOST_GIF_FPS = 50
"""A GIF counts hundredths of a second, and viewers take less than two of them for ten."""


def check_video(file: Path, fps: float = 1) -> None:
    """Raises `FruganError` where a video of this name cannot be written, before any frame is made."""
    if file.suffix.lower() not in FORMATS:
        raise FruganError(f"--out {file}: name a video that ends in {', '.join(FORMATS)}")
    if file.suffix.lower() == ".gif" and fps > MOST_GIF_FPS:
        raise FruganError(
            f"--fps {fps:g}: viewers show no more than {MOST_GIF_FPS} frames of a GIF in a second; give that or fewer, or name "
            "a .webp, .png or .mp4"
        )
    check_writable(file)
    if file.suffix.lower() == ".mp4":
        try:
            import imageio_ffmpeg
        except ImportError:
            raise FruganError(
                "MP4 needs an encoder: pip install 'frugan[video]', or name a .webp, .gif or .png"
            ) from None
        imageio_ffmpeg.get_ffmpeg_exe()


def check_frames(file: Path, frames: int, size: tuple[int, int]) -> None:
    """Raises `FruganError` for a kind of video whose encoder would keep too many frames in memory.

    Args:
        file: the video.
        frames: their number.
        size: (width, height) of one in pixels.
    """
    kind = file.suffix.lower()
    if kind in HELD and (held := frames * size[0] * size[1] * HELD[kind]) > MOST_HELD:
        raise FruganError(
            f"{file}: the encoder of {kind} files would keep {held / 2**30:,.1f} GiB of frames in memory, more than "
            f"{MOST_HELD >> 30} GiB; name an .mp4, whose frames are written as they come, or make fewer (--seconds, --fps) or "
            "smaller ones (--scale, --grid)"
        )


def tiled(tracks: Iterable[Iterator[Tensor]], columns: int, scale: int = 1) -> Iterator[Tensor]:
    """Frames of several tracks as one frame, row by row; free cells are black (−1).

    Args:
        tracks: iterators of frames `[C, H, W]` of one size.
        columns: number of columns.
        scale: side of the square that each pixel becomes.
    """
    for frames in zip(*tracks):
        h, w = frames[0].shape[1:]
        rows = -(-len(frames) // columns)
        sheet = frames[0].new_full((frames[0].shape[0], rows * h, columns * w), -1.0)
        for i, frame in enumerate(frames):
            y, x = i // columns * h, i % columns * w
            sheet[:, y : y + h, x : x + w] = frame
        yield sheet.repeat_interleave(scale, 1).repeat_interleave(scale, 2)


def write_video(
    file: str | Path, frames: Iterable[Tensor], *, fps: float = 30, quality: int = 8, alpha: bool = True
) -> int:
    """Writes a video, whole or not at all. MP4 is H.264 in yuv420p, where transparent frames lie on white.

    Args:
        file: ends in .mp4, .webp, .gif or .png (animated).
        frames: `[C, H, W]` in [-1, 1].
        fps: frames in a second.
        quality: 1 to 10, of MP4 and WebP.
        alpha: whether the last of two or four channels is opacity; otherwise it is not shown.

    Returns:
        The number of frames.
    """
    file = Path(file)
    check_video(file, fps)
    file.parent.mkdir(parents=True, exist_ok=True)
    shown = (frame if alpha else frame[: colour_channels(len(frame)) or None] for frame in frames)
    images = (pil_image(to_uint8(frame[None])[0]) for frame in shown)
    write = _write_mp4 if file.suffix.lower() == ".mp4" else _write_pillow
    with replacing(file) as unfinished:
        return write(unfinished, images, fps, quality)


def _write_mp4(file: Path, images: Iterator[Image.Image], fps: float, quality: int) -> int:
    import imageio_ffmpeg

    count, kept, writer = 0, 0, None
    try:
        for image in images:
            pixels = _even(np.asarray(_opaque(image)))
            if writer is None:
                size = (pixels.shape[1], pixels.shape[0])
                writer = imageio_ffmpeg.write_frames(
                    str(file),
                    size,
                    fps=fps,  # pyright: ignore[reportArgumentType]
                    quality=quality,
                    macro_block_size=2,
                    pix_fmt_out="yuv420p",
                    ffmpeg_log_level="error",
                )
                writer.send(None)
            writer.send(np.ascontiguousarray(pixels))
            count += 1
    except OSError as error:
        if error.errno is not None:  # else the encoder has ended, and told why
            raise
    finally:
        if writer is not None:
            writer.close()
    with suppress(RuntimeError):  # the writer does not tell of an encoder that failed
        kept, _ = imageio_ffmpeg.count_frames_and_secs(str(file))
    if kept != count:
        raise OSError(errno.EIO, f"the encoder kept {kept} of {count} frames")
    return count


def _write_pillow(file: Path, images: Iterator[Image.Image], fps: float, quality: int) -> int:
    """Pillow writes no frame before it has seen them all; of a GIF it keeps no more than palette indices meanwhile."""
    kind, count = file.suffix.lower(), 0
    tick = 10 if kind == ".gif" else 1  # milliseconds

    def timed() -> Iterator[Image.Image]:
        nonlocal count
        for image in images:
            start, end = (round(1000 / tick * i / fps) * tick for i in (count, count + 1))
            count += 1
            check_frames(file, count, image.size)
            image.info["duration"] = end - start
            yield image

    frames = timed()
    first = next(frames)
    others = frames if kind == ".gif" else list(frames)
    options: dict[str, Any] = {"quality": quality * 10, "method": 4} if kind == ".webp" else {}
    if kind != ".gif":
        options["duration"] = [frame.info["duration"] for frame in (first, *others)]
    with open(file, "wb") as opened:
        first.save(opened, kind[1:].upper(), save_all=True, append_images=others, loop=0, **options)
    return count


def _opaque(image: Image.Image) -> Image.Image:
    if image.mode in ("LA", "RGBA"):
        behind = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(behind, image.convert("RGBA"))
    return image.convert("RGB")


def _even(pixels: np.ndarray) -> np.ndarray:
    """Sides made even, which yuv420p needs, by repeating the last row or column."""
    h, w = pixels.shape[:2]
    return np.pad(pixels, ((0, h % 2), (0, w % 2), (0, 0)), mode="edge")
