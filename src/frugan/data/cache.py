"""Images decoded once: a memory-mapped array per content and settings, built in parallel, shared between processes.

    <root>/<key>/pixels.npy   uint8, uint16 or float32 [N, H, W, C]
                 meta.json    names, what was skipped and why, the settings, hashes of the pixels; written last
    <root>/stamps/<stamp>     which content a path held when its files last had these sizes and times

An entry appears by one rename, so it is whole or not there. No locks: two processes that build the same entry both
finish, and the second throws its own away. A killed process leaves a scratch folder that the next build removes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import socket
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import cattrs
import numpy as np
import platformdirs

from frugan.channels import CHANNEL_NAMES, MaskChannel, has_alpha
from frugan.data.decode import Header, convert, resize
from frugan.data.sources.base import Source
from frugan.data.sources.crops import Crops
from frugan.data.sources.masks import Masked, even_steps
from frugan.data.stats import Histograms, SourceStats
from frugan.data.target import PixelConfig, Plan, make_plan, unusual_types
from frugan.data.values import is_counted, range_name, settle_range, stretch
from frugan.data.workers import Progress, in_threads
from frugan.errors import FruganError, fault
from frugan.files import located, read_json, write_text
from frugan.images import Pixels
from frugan.pixel_format import NumberType, Range, held_type, is_plain
from frugan.structure import converter

FORMAT = 7  # rises when the same images and settings come to mean other pixels, or more is known of them

STEPS = 3  # for each image: its hash, its header, its pixels

_BLOCK = 1 << 24  # bytes per hash
_BLOCKS_CHECKED = 64  # of a larger entry as many, evenly spread: opening must not read a huge set
_SCRATCH = ".building-"
_ABANDONED_AFTER_S = 86_400


@dataclass(frozen=True)
class CachedPixels:
    """Pixels `[N, H, W, C]`, read-only and memory-mapped, with each image's name and the images left out.

    `settings`: the configuration with what "auto" came to mean. `dtype`: the type of the stored numbers; `channel_names`: what
    the files call their channels, empty where they do not.
    """

    pixels: Pixels
    names: list[str]
    skipped: list[tuple[str, str]]
    alpha: bool
    digest: str
    folder: Path
    settings: PixelConfig
    stats: SourceStats
    dtype: NumberType = "uint8"
    channel_names: tuple[str, ...] = ()


def cache_root(cache_dir: str | Path | None = None) -> Path:
    """The folder that holds the cache: the argument, else `$FRUGAN_CACHE`, else the user's cache folder. Created."""
    chosen = cache_dir or os.environ.get("FRUGAN_CACHE") or platformdirs.user_cache_dir("frugan")
    root = Path(chosen).expanduser() / "data"
    try:
        (root / "stamps").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(root, error) from error
    return root


def cached_pixels(
    source: Source, config: PixelConfig, *, cache_dir: str | Path | None = None, progress: Progress = None
) -> CachedPixels:
    """The decoded images of a source, from the cache or, where it lacks them, decoded into it.

    Args:
        source: the images.
        config: size, channels and range of values.
        cache_dir: the cache's folder; None: the user's.
        progress: called with (done, total), `STEPS` for each image.
    """
    root = cache_root(cache_dir)
    count = len(source.names)
    stepped = _steps(progress, STEPS * count)
    content = content_of(source, root, stepped)
    for _ in range(3):  # once, unless another process removes an entry that it finds damaged just after it was built
        if (entry := _find_entry(root, content, config)) is not None:
            if progress:
                progress(STEPS * count, STEPS * count)
            return entry
        remove_abandoned(root)
        build_entry(_folder(root, content, config), source, config, stepped)
    raise FruganError(
        f"the cache entry {_folder(root, content, config)} stays damaged after building it anew; check that disk, or set "
        "FRUGAN_CACHE"
    )


def _find_entry(root: Path, content: str, config: PixelConfig) -> CachedPixels | None:
    """The entry of this configuration, or one that was asked for as "auto" or "full" and came to mean the same."""
    for channels in dict.fromkeys((config.channels, "auto")):
        for value_range in dict.fromkeys((config.value_range, "auto", "full")):
            asked = replace(config, channels=channels, value_range=value_range)
            entry = load_entry(_folder(root, content, asked))
            if entry is not None and config in (asked, entry.settings):
                return entry
    return None


def _folder(root: Path, content: str, config: PixelConfig) -> Path:
    return root / hashlib.sha256(json.dumps([FORMAT, content, config.to_dict()]).encode()).hexdigest()[:32]


def content_of(source: Source, root: Path, step: Callable[[int], None]) -> str:
    """A hash of the names and contents of all images.

    Args:
        source: the images.
        root: the cache, which remembers the hash; contents are read again only where a size or a time has changed.
        step: called with the number of images read.
    """
    memo = root / "stamps" / source.stamp()
    with contextlib.suppress(OSError):
        if len(known := memo.read_text()) == 64:
            return known
    total = hashlib.sha256()
    for done, (name, digest) in enumerate(zip(source.names, digests(source)), 1):
        total.update(json.dumps([name, digest.hex() if digest else None]).encode())
        step(done)
    total.update(json.dumps(source.unreadable).encode())
    with contextlib.suppress(OSError):  # a cache that is only read serves as well
        write_text(memo, total.hexdigest(), durable=False)
    return total.hexdigest()


def digests(source: Source) -> Iterator[bytes | None]:
    """Each image's content hash in order, None where it cannot even be read."""

    def digest(index: int) -> bytes | None:
        try:
            return source.digest(index)
        except Exception:
            return None  # `headers` says why

    return in_threads(digest, range(len(source.names)))


def headers(source: Source, step: Callable[[int], None] = lambda done: None) -> list[Header | str]:
    """Each image's header, or the reason why it has none."""

    def header(index: int) -> Header | str:
        try:
            return source.header(index)
        except Exception as error:  # a decoder given a broken file raises anything at all
            return _reason(error)

    found = []
    for item in in_threads(header, range(len(source.names))):
        found.append(item)
        step(len(found))
    return found


def refuse_skipped(skipped: Sequence[tuple[str, str]], count: int) -> None:
    """Raises `FruganError` where anything was skipped, for `--strict`."""
    if skipped:
        name, reason = skipped[0]
        raise FruganError(
            f"{len(skipped)} of {count + len(skipped)} images cannot be read, the first is {name} ({reason}); "
            "fix or remove them, or leave out --strict to skip them"
        )


class NothingReadable(FruganError):
    """A source that holds images, none of which can be decoded."""


def build_entry(
    folder: Path, source: Source, config: PixelConfig, step: Callable[[int], None], plan: Plan | None = None
) -> None:
    """Decodes all images into a scratch folder beside `folder`, and renames it.

    Args:
        folder: the new entry of the cache.
        source: the images.
        config: size, channels and range of values.
        step: called with the number of steps done.
        plan: the target format; None: it follows from config and headers.

    Raises `FruganError` where no image can be read.
    """
    count = len(source.names)
    images = _readable(source, lambda done: step(count + done))
    alpha = source.alpha and not any(map(_has_two_or_four_bands, images.heads))
    opaque = plan is None and alpha and _is_opaque(source, images.rows, images.heads, config)
    plan = plan or make_plan(config, images.names, images.heads, alpha=alpha, opaque=opaque)
    if not is_counted(config.value_range):
        _refuse_uneven(settle_range(config.value_range, plan.dtype, None), images.heads)
    masks = source.learn(images.rows) if isinstance(source, Masked | Crops) else ()
    with scratch_folder(folder.parent) as scratch:
        file = scratch / "pixels.npy"
        decoded, value_range = _write_pixels(
            file, source, images, plan, config, alpha, lambda done: step(2 * count + done)
        )
        kept = [i for i, reason in enumerate(decoded.reasons) if not reason]
        if len(kept) < len(images.rows):
            _keep_rows(file, kept)
        size = file.stat().st_size
        settings = _settled(config, plan, value_range)
        heads = [images.heads[i] for i in kept]
        meta = {
            "format": FORMAT,
            "source": str(source.path),
            "settings": asdict(replace(settings, channels=CHANNEL_NAMES[plan.channels]) if opaque else settings),
            "stats": _stats(decoded.counts, heads, value_range, plan, opaque=opaque, masks=masks).to_dict(),
            "alpha": plan.alpha,
            "dtype": plan.dtype,
            "channel_names": list(plan.channel_names),
            "names": [images.names[i] for i in kept],
            "skipped": sorted([*images.lost, *_with_reasons(images.names, decoded.reasons)]),
            "bytes": size,
            "blocks": [_block_hash(file, i) for i in range(-(-size // _BLOCK))],
        }
        (scratch / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
        _publish(scratch, folder)


class _Readable(NamedTuple):
    """The images of a source whose headers could be read, by row, and the others' names with the reason why not."""

    rows: list[int]
    names: list[str]
    heads: list[Header]
    lost: list[tuple[str, str]]


def _readable(source: Source, step: Callable[[int], None]) -> _Readable:
    """Raises `NothingReadable` where no header can be read. `step` is called with the number of headers read."""
    found = headers(source, step)
    rows = [i for i, head in enumerate(found) if isinstance(head, Header)]
    for i, reason in unusual_types([head for head in found if isinstance(head, Header)]).items():
        found[rows[i]] = reason
    read = [(i, head) for i, head in enumerate(found) if isinstance(head, Header)]
    lost = [(source.names[i], head) for i, head in enumerate(found) if isinstance(head, str)]
    rows = [i for i, _ in read]
    images = _Readable(rows, [source.names[i] for i in rows], [head for _, head in read], source.unreadable + lost)
    if not rows:
        raise _nothing_readable(source, images.lost)
    return images


def _has_two_or_four_bands(head: Header) -> bool:
    """Whether an image has as many channels as one with alpha, none of which is alpha."""
    return has_alpha(head.channels) and head.alpha == "none"


def _write_pixels(
    file: Path,
    source: Source,
    images: _Readable,
    plan: Plan,
    config: PixelConfig,
    alpha: bool,
    step: Callable[[int], None],
) -> tuple[_Decoded, Range | None]:
    """Writes all pixels to the file. A range of values that follows from the images' own is known only when all have been
    decoded; they are then decoded once more, and stretched before they are resized.
    """
    counted = is_counted(config.value_range)
    count_first = counted and not is_plain(plan.dtype)  # there is nothing to write before the range is known
    decoded = _decode(None if count_first else file, source, images.rows, plan, config, alpha, step)
    if all(decoded.reasons):
        raise _nothing_readable(source, [*images.lost, *zip(images.names, decoded.reasons)])
    value_range = settle_range(config.value_range, plan.dtype, decoded.counts)
    _refuse_uneven(value_range, images.heads)
    if count_first or (counted and value_range):
        settings = _settled(config, plan, value_range)
        decoded = _decode(file, source, images.rows, plan, settings, alpha, lambda done: None)
    return decoded, value_range


def _settled(config: PixelConfig, plan: Plan, value_range: Range | None) -> PixelConfig:
    """The settings with the range of values that was found."""
    plain = plan.depth == 8 and config.value_range in ("auto", "full")
    return config if plain else replace(config, value_range=range_name(value_range))


def _with_reasons(names: Sequence[str], reasons: Sequence[str]) -> list[tuple[str, str]]:
    """Names of images that could not be decoded, with the reason."""
    return [(name, reason) for name, reason in zip(names, reasons) if reason]


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A folder for the block, which a later build removes if this process is killed."""
    scratch = parent / f"{_SCRATCH}{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    try:
        scratch.mkdir(parents=True)
    except OSError as error:
        raise _not_writable(parent, error) from error
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _is_opaque(source: Source, rows: Sequence[int], heads: Sequence[Header], config: PixelConfig) -> bool:
    """Whether channels are "auto", some images have alpha, and no pixel of theirs is transparent."""
    with_alpha = [row for row, head in zip(rows, heads) if has_alpha(head.channels)]
    if config.channels != "auto" or not with_alpha:
        return False

    return all(in_threads(lambda row: has_full_opacity(source, row), with_alpha))


def has_full_opacity(source: Source, row: int) -> bool:
    """Whether no pixel of an image, whose last channel is opacity, is transparent; also where it cannot be decoded, which is told
    when it should be."""
    try:
        alpha = source.pixels(row)[..., -1]
    except Exception:  # a decoder given a broken file raises anything at all
        return True
    return bool((alpha == np.iinfo(alpha.dtype).max).all())


def _stats(
    counts: Histograms,
    heads: Sequence[Header],
    value_range: Range | None,
    plan: Plan,
    *,
    opaque: bool,
    masks: Sequence[MaskChannel],
) -> SourceStats:
    return SourceStats(
        values=counts.values(),
        value_range=value_range,
        clipped=counts.share_outside(value_range, plan.depth) if value_range else 0.0,
        sizes=dict(Counter(f"{head.height}x{head.width}" for head in heads).most_common()),
        frames=sum(head.frames - 1 for head in heads),
        animated=sum(head.frames > 1 for head in heads),
        opaque=opaque,
        crisp=plan.alpha and counts.is_crisp,
        masks=list(masks),
    )


def _refuse_uneven(value_range: Range | None, heads: Sequence[Header]) -> None:
    """Raises `FruganError` where each channel has a range of its own, and the images are not all of so many."""
    if value_range and len(value_range) > 1:
        kinds = {head.channels for head in heads}
        if len(kinds) > 1 or len(value_range) not in (max(kinds), max(kinds) - 1):
            held = " or ".join(map(str, sorted(kinds)))
            raise FruganError(
                f"a value range for each of {len(value_range)} channels, but the images have {held}; give one pair LOW,HIGH for all"
            )


class _Decoded(NamedTuple):
    """The reason why each image could not be decoded, or ""; and how often every stored value occurs."""

    reasons: list[str]
    counts: Histograms


def _decode(
    file: Path | None,
    source: Source,
    rows: Sequence[int],
    plan: Plan,
    config: PixelConfig,
    alpha: bool,
    step: Callable[[int], None],
) -> _Decoded:
    """Decodes all images and counts their values. Where there is a file, it takes their pixels, in order."""
    pixels, masks = None if file is None else _empty_array(file, len(rows), plan, config), _masks_of(source)
    counts = Histograms(
        alpha=alpha or config.channels != "auto",
        images=len(rows),
        each="each" in config.value_range or ";" in config.value_range,
        names=plan.channel_names,
    )

    def decode(slot: int) -> str:
        try:
            stored = source.pixels(rows[slot])
            if not is_plain(plan.dtype):
                stored = stored.astype(plan.dtype, copy=False)
            if stored.dtype.kind == "f" and (lost := int((~np.isfinite(stored)).sum())):
                return f"{lost:,} of its {stored.size:,} values are not finite (NaN or infinite); fill them in first"
            if pixels is not None:
                pixels[slot] = _fitted(stored, plan, config, masks)
        except Exception as error:  # as in `headers`
            return _reason(error)
        counts.add(stored[..., : stored.shape[-1] - config.masks])
        return ""

    reasons = []
    for reason in in_threads(decode, range(len(rows))):
        reasons.append(reason)
        step(len(reasons))
    if pixels is not None:
        pixels.flush()
    return _Decoded(reasons, counts)


def _empty_array(file: Path, count: int, plan: Plan, config: PixelConfig) -> np.memmap:
    """A new file for the pixels of so many images as planned. Raises `FruganError` where the disk has no room for it."""
    shape = (count, *plan.resolution, plan.channels + config.masks)
    value_range = None if is_counted(config.value_range) else settle_range(config.value_range, plan.dtype, None)
    dtype = np.dtype(held_type(plan.dtype, value_range))
    _require_space(file.parent, int(np.prod(shape)) * dtype.itemsize)
    return _reserved(file, dtype, shape)


def _reserved(file: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.memmap:
    """A new array file that has its room on the disk: a write into a file with holes, where the disk has filled meanwhile, would
    end the process (SIGBUS)."""
    array = np.lib.format.open_memmap(file, "w+", dtype, shape)
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as opened:
            try:
                os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # file systems that cannot
                    located(error, file)
                    raise
    return array


def _masks_of(source: Source) -> tuple[MaskChannel, ...]:
    """The masks behind the images of a source, after it has learnt them."""
    source = source.source if isinstance(source, Crops) else source
    return source.channels if isinstance(source, Masked) else ()


def _fitted(pixels: np.ndarray, plan: Plan, config: PixelConfig, masks: Sequence[MaskChannel]) -> np.ndarray:
    """`[h, w, C']` → `[H, W, C]` as planned; masks behind the image become of its size and depth, and nothing else."""
    if not config.masks:
        return _fitted_image(pixels, plan, config)
    image = _fitted_image(pixels[..., : -config.masks], plan, config)
    planes = pixels[..., -config.masks :]
    if not is_plain(planes.dtype):  # places in the order of the values
        steps = [even_steps(len(mask.values), image.dtype) for mask in masks]
        planes = np.stack([known[planes[..., i].astype(np.intp)] for i, known in enumerate(steps)], -1)
    elif plan.depth == 16 and planes.dtype == np.uint8:
        planes = planes.astype(np.uint16) * 257
    filter = "nearest" if config.mask_filter == "nearest" else config.filter
    return np.concatenate(
        [image, resize(planes, plan.resolution, fit=config.fit, filter=filter, background="black")], -1
    )


def _fitted_image(pixels: np.ndarray, plan: Plan, config: PixelConfig) -> np.ndarray:
    if plan.dtype == "uint16" and pixels.dtype == np.uint8:
        pixels = pixels.astype(np.uint16) * 257
    opacity = has_alpha(pixels.shape[-1]) and (plan.alpha or pixels.shape[-1] != plan.channels)
    value_range = None if is_counted(config.value_range) else settle_range(config.value_range, plan.dtype, None)
    pixels = stretch(pixels, value_range, alpha=opacity)
    if plan.alpha and pixels.shape[-1] in (1, 3):  # before resizing, so that added borders are transparent
        pixels = convert(pixels, plan.channels)
    alpha = plan.alpha or (pixels.shape[-1] != plan.channels and has_alpha(pixels.shape[-1]))
    pixels = resize(
        pixels, plan.resolution, fit=config.fit, filter=config.filter, background=config.background, alpha=alpha
    )
    return convert(pixels, plan.channels, config.background)  # after, where there are fewer pixels


def _keep_rows(file: Path, rows: Sequence[int]) -> None:
    pixels = np.load(file, mmap_mode="r")
    shorter = file.with_name("shorter.npy")
    kept = _reserved(shorter, pixels.dtype, (len(rows), *pixels.shape[1:]))
    for target, row in enumerate(rows):
        kept[target] = pixels[row]
    kept.flush()
    del pixels, kept  # closed, so that the file can be replaced
    os.replace(shorter, file)


def load_entry(folder: Path, blocks_checked: int = _BLOCKS_CHECKED) -> CachedPixels | None:
    """The entry, or None where there is none or it is damaged."""
    try:
        meta = _converter.structure(read_json(folder / "meta.json", _MOST_META), _Meta)
        file = folder / "pixels.npy"
        checked = np.unique(np.linspace(0, len(meta.blocks) - 1, blocks_checked).round().astype(int))
        if file.stat().st_size != meta.bytes or any(_block_hash(file, i) != meta.blocks[i] for i in checked):
            return None
        pixels = np.load(file, mmap_mode="r", allow_pickle=False)
        if len(pixels) != len(meta.names):
            return None
        digest = hashlib.sha256(json.dumps(meta.blocks).encode()).hexdigest()
        return CachedPixels(
            pixels,
            meta.names,
            meta.skipped,
            meta.alpha,
            digest,
            folder,
            meta.settings,
            meta.stats,
            meta.dtype,
            meta.channel_names,
        )
    except (OSError, ValueError, IndexError, TypeError, AttributeError, cattrs.BaseValidationError):
        return None


@dataclass(frozen=True)
class _Meta:
    """The content of meta.json."""

    format: int
    source: str
    settings: PixelConfig
    stats: SourceStats
    alpha: bool
    dtype: NumberType
    channel_names: tuple[str, ...]
    names: list[str]
    skipped: list[tuple[str, str]]
    bytes: int
    blocks: list[str]


_converter = converter()
_MOST_META = 256 << 20  # bytes: names of some five million images


def _block_hash(file: Path, index: int) -> str:
    with open(file, "rb") as stream:
        stream.seek(index * _BLOCK)
        return hashlib.sha256(stream.read(_BLOCK)).hexdigest()


def _publish(scratch: Path, folder: Path) -> None:
    for attempt in range(3):
        try:
            os.rename(scratch, folder)
            return
        except OSError:
            if load_entry(folder) is not None:
                return  # another process was first: same content, same settings, same pixels
            if attempt == 2:
                raise
            with contextlib.suppress(OSError):  # damaged: out of the way in one step, then away
                aside = folder.with_name(f"{scratch.name}-damaged")
                os.rename(folder, aside)
                shutil.rmtree(aside, ignore_errors=True)


def remove_abandoned(root: Path) -> None:
    for scratch in root.glob(f"{_SCRATCH}*"):
        if _abandoned(scratch):
            shutil.rmtree(scratch, ignore_errors=True)


def _abandoned(scratch: Path) -> bool:
    """Its process is gone (where that can be known), or nothing in it has changed for a day."""
    with contextlib.suppress(OSError, ValueError):
        host, pid = scratch.name.removeprefix(_SCRATCH).split("-damaged")[0].rsplit("-", 2)[:2]
        if os.name == "posix" and host == socket.gethostname() and not _alive(int(pid)):
            return True
        newest = max(path.stat().st_mtime for path in [scratch, *scratch.iterdir()])
        return time.time() - newest > _ABANDONED_AFTER_S
    return False


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _require_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise FruganError(
            f"the decoded images need {-(-size // 10**6):,} MB but {folder.parent} has {free // 10**6:,} MB free; "
            "make room, set FRUGAN_CACHE to another disk, or choose a smaller --resolution"
        )


def _not_writable(root: Path, error: OSError) -> FruganError:
    return FruganError(
        f"the cache folder {root} cannot be written to ({fault(error)}); set FRUGAN_CACHE to another one"
    )


def _nothing_readable(source: Source, lost: Sequence[tuple[str, str]]) -> NothingReadable:
    name, reason = lost[0]
    if [name] == [source.path.name]:
        return NothingReadable(f"{source.path} cannot be read: {reason}")
    return NothingReadable(
        f"none of the {len(lost)} images in {source.path} can be read, the first is {name} ({reason}); "
        "check that they open elsewhere"
    )


def _reason(error: Exception) -> str:
    if isinstance(error, MemoryError):
        raise error  # says nothing about the file, so it must not be remembered as its fault
    return str(error) if isinstance(error, FruganError) else fault(error)


def _steps(progress: Progress, total: int) -> Callable[[int], None]:
    return (lambda done: progress(done, total)) if progress else (lambda done: None)
