"""Videos from frames: MP4 by imageio-ffmpeg, which brings its own encoder; WebP, GIF and APNG by Pillow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from frugan.channels import colour_channels
from frugan.errors import FruganError
from frugan.files import check_writable, replacing
from frugan.images import pil_image, to_uint8

FORMATS = (".mp4", ".webp", ".gif", ".png")
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

    count, writer = 0, None
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
    finally:
        if writer is not None:
            writer.close()
    return count


def _write_pillow(file: Path, images: Iterator[Image.Image], fps: float, quality: int) -> int:
    first, *others = images  # Pillow goes through them more than once
    tick = 10 if file.suffix.lower() == ".gif" else 1  # milliseconds
    ends = [round(1000 / tick * (i + 1) / fps) * tick for i in range(1 + len(others))]
    durations = [end - start for start, end in zip([0, *ends], ends)]
    options = {"quality": quality * 10, "method": 4} if file.suffix.lower() == ".webp" else {}
    with open(file, "wb") as opened:
        first.save(
            opened,
            file.suffix[1:].upper(),
            save_all=True,
            append_images=others,
            duration=durations,
            loop=0,
            **options,
        )
    return 1 + len(others)


def _opaque(image: Image.Image) -> Image.Image:
    if image.mode in ("LA", "RGBA"):
        behind = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(behind, image.convert("RGBA"))
    return image.convert("RGB")


def _even(pixels: np.ndarray) -> np.ndarray:
    """Sides made even, which yuv420p needs, by repeating the last row or column."""
    h, w = pixels.shape[:2]
    return np.pad(pixels, ((0, h % 2), (0, w % 2), (0, 0)), mode="edge")
