"""Videos frame by frame, decoded by the ffmpeg that imageio-ffmpeg brings: one process a video, a few frames in memory at a time.

A video that is a list of other places (HLS, concat) is refused: only formats that hold the images themselves are opened.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from frugan.data.decode import Header
from frugan.data.decode.header import check_frames, check_size, cut_short
from frugan.data.decode.reel import Reel
from frugan.errors import shown

_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,ogg,asf,flv"
_SECONDS = 60  # without a frame, after which ffmpeg is ended
_COUNTING_SECONDS = 600
_LONGEST_HEADER = 4096
_FRAMES = re.compile(rb"frame=\s*(\d+)")


class Video:
    """The frames of a video, every `stride`-th, upright."""

    def __init__(self, place: Path, stride: int) -> None:
        self._place, self._stride = place, stride
        self._program = _program()
        first = next(self._decode(frames=1), None)
        if first is None:
            raise ValueError("a video without images")
        self._shape, self._type = first.shape, first.dtype
        count, self.lost = self._count()
        check_frames(-(-count // stride), first.shape[1], first.shape[0])
        self.numbers = range(0, count, stride)
        self._reel = Reel(self._decode)

    def header(self, number: int) -> Header:
        height, width, channels = self._shape
        depth = 8 if self._type == np.uint8 else 16
        alpha = "straight" if channels in (2, 4) else "none"
        return Header(height, width, channels, depth, "video", f"uint{depth} × {channels}", alpha=alpha)

    def pixels(self, number: int) -> np.ndarray:
        pixels = self._reel[number // self._stride]
        if pixels.shape != self._shape:
            raise ValueError(f"a frame of shape {pixels.shape} in a video of {self._shape}")
        return pixels

    def label(self, number: int) -> Any:
        return None

    @property
    def _input(self) -> list[str]:
        limits = ["-xerror", "-protocol_whitelist", "file", "-format_whitelist", _FORMATS, "-max_alloc", str(1 << 30)]
        return [
            "-hide_banner",
            "-nostdin",
            "-loglevel",
            "error",
            *limits,
            "-i",
            f"file:{self._place.absolute()}",
            "-map",
            "0:v:0",
        ]

    def _count(self) -> tuple[int, str]:
        """The number of frames, counted through the video without decoding it; and a sentence where it is seen to be cut short."""
        command = [self._program, *self._input, "-c", "copy", "-f", "null", "-stats", "-"]
        done = subprocess.run(command, capture_output=True, timeout=_COUNTING_SECONDS, check=False)
        found = _FRAMES.findall(done.stderr)
        if not found:
            raise ValueError(_reason(done.stderr))
        complaint = any(line.strip() and not line.startswith(b"frame=") for line in done.stderr.splitlines())
        return int(found[-1]), cut_short(int(found[-1])) if complaint else ""

    def _decode(self, frames: int | None = None) -> Iterator[np.ndarray]:
        """Frames uint8 or uint16 `[H, W, C]`, each with the channels and bits that the video has."""
        chosen = ["-vf", f"select=not(mod(n\\,{self._stride}))", "-fps_mode", "passthrough"]
        some = ["-frames:v", str(frames)] if frames else []
        command = [self._program, *self._input, *chosen, *some, "-f", "image2pipe", "-c:v", "pam", "-"]
        with tempfile.TemporaryFile() as errors, _running(command, errors) as read:
            while (frame := read()) is not None:
                yield frame
            errors.seek(0)
            if text := errors.read(_LONGEST_HEADER):
                raise ValueError(_reason(text))


@contextmanager
def _running(command: list[str], errors: Any) -> Iterator[Callable[[], np.ndarray | None]]:
    """A function that reads the next frame which a process writes; the process ends with the block, or with a minute's silence."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
    stream = cast(BinaryIO, process.stdout)

    def read() -> np.ndarray | None:
        timer = threading.Timer(_SECONDS, process.kill)
        timer.daemon = True
        timer.start()
        try:
            return _read_pam(stream)
        finally:
            timer.cancel()

    try:
        yield read
    finally:
        process.kill()
        process.wait()
        stream.close()


def _read_pam(stream: BinaryIO) -> np.ndarray | None:
    """The next image `[H, W, C]` of a stream, None at its end."""
    facts: dict[bytes, bytes] = {}
    while (line := stream.readline(_LONGEST_HEADER).strip()) != b"ENDHDR":
        if not line:
            return None
        key, _, value = line.partition(b" ")
        facts[key] = value
    width, height, channels, top = (int(facts[key]) for key in (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL"))
    bytes_per_sample = 1 if top < 256 else 2
    check_size(width, height, channels * bytes_per_sample)
    content = stream.read(width * height * channels * bytes_per_sample)
    if len(content) < width * height * channels * bytes_per_sample:
        return None
    if top == 1:  # black and white
        return np.frombuffer(content, np.uint8).reshape(height, width, channels) * np.uint8(255)
    samples = np.frombuffer(content, np.uint8 if bytes_per_sample == 1 else ">u2").reshape(height, width, channels)
    return samples if bytes_per_sample == 1 else samples.astype(np.uint16)


def _reason(text: bytes) -> str:
    """The last line that ffmpeg wrote, without the path."""
    lines = [line for line in text.decode("utf-8", "replace").splitlines() if line.strip()]
    return f"ffmpeg: {shown(lines[-1].rpartition('file:')[0] or lines[-1]) if lines else 'no frames'}"


def _program() -> str:
    try:
        import imageio_ffmpeg
    except ImportError:
        raise ValueError("videos need a decoder: pip install 'frugan[video]'") from None
    return imageio_ffmpeg.get_ffmpeg_exe()
