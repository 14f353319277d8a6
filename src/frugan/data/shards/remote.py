"""Files wherever they lie, through fsspec: found by pattern, identified, fetched, and asked for again when that fails."""

from __future__ import annotations

import errno
import hashlib
import itertools
import logging
import math
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from frugan.command_line import command
from frugan.errors import FruganError, fault, shown
from frugan.files import read_bytes

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

T = TypeVar("T")

ATTEMPTS = 6
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0  # doubled from one to the other, plus up to a second by chance
SILENCE_S = 60  # a server that says nothing for so long is asked again

EXTRAS = {"http": "remote", "https": "remote", "s3": "remote", "s3a": "remote", "gs": "gcs", "gcs": "gcs"}
CREDENTIALS = {
    "s3": "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; FSSPEC_S3_ANON=true for a public bucket",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS; FSSPEC_GS_TOKEN=anon for a public bucket",
}

_VERSION_FIELDS = ("size", "ETag", "etag", "md5Hash", "Last-Modified", "LastModified", "updated", "mtime")
_MOST_SHARDS = 100_000  # in a pattern or a list
_MOST_LIST = 64 << 20  # bytes of a list of shards

log = logging.getLogger(__name__)


def find(pattern: str) -> list[str]:
    """The tar files that a pattern names, as URLs in order.

    `{000..099}` counts, `{a,b}` lists, `*` and `?` match; a folder stands for all .tar in it, a .txt for the lines in it.
    Raises `FruganError` where there are none.
    """
    found: list[str] = []
    for part in expand_braces(pattern):
        found += _listed(part) if part.lower().endswith(".txt") else _matches(part)
    if not found:
        raise FruganError(f"{pattern} names no .tar files; check the path and the pattern")
    return list(dict.fromkeys(found))


def expand_braces(pattern: str) -> list[str]:
    """ "a{08..10}{x,y}" → ["a08x", "a08y", "a09x", …]: ranges keep their leading zeros."""
    pieces = re.split(r"\{([^{}]*)\}", pattern)
    choices = [[piece] if i % 2 == 0 else _choices(piece, pattern) for i, piece in enumerate(pieces)]
    _check_count(math.prod(map(len, choices)), pattern)
    return ["".join(parts) for parts in itertools.product(*choices)]


def _choices(inner: str, pattern: str) -> list[str]:
    if counted := re.fullmatch(r"(\d+)\.\.(\d+)", inner):
        first, last = counted.groups()
        if len(first + last) > 36 or not 0 <= int(last) - int(first) < _MOST_SHARDS:
            raise FruganError(
                f"{{{shown(inner)}}} in {shown(pattern)} counts down or too far; write {{first..last}}, such as {{000..099}}"
            )
        return [str(i).zfill(len(first)) for i in range(int(first), int(last) + 1)]
    return inner.split(",")


def _listed(url: str) -> list[str]:
    """The lines of a text file, relative to its folder where they are no URLs or absolute paths."""
    text = read(url, _MOST_LIST)
    if text is None:
        raise FruganError(f"there is no list of shards {url}; check the path")
    lines = [line.strip() for line in text.decode("utf-8-sig", "replace").splitlines()]
    names = [line for line in lines if line and not line.startswith("#")]
    _check_count(len(names), url)
    folder = parent(url)
    return [_url(name if "://" in name or Path(name).is_absolute() else f"{folder}/{name}") for name in names]


def _check_count(count: int, pattern: str) -> None:
    if count > _MOST_SHARDS:
        raise FruganError(
            f"{shown(pattern)} names {count:,} shards, the limit is {_MOST_SHARDS:,}; name fewer, or write larger ones with "
            f"{command('data', 'shard', '--per-shard')}"
        )


def _matches(url: str) -> list[str]:
    if not url.lower().endswith(".tar"):
        url = f"{url.removesuffix('/index.json').rstrip('/')}/*.tar"
    elif not any(c in url for c in "*?["):
        return [_url(url)]
    fs, path = filesystem(url)
    found = cast(list[str], _reached(lambda: fs.glob(path), url))
    return sorted(fs.unstrip_protocol(path) for path in found)


def _url(path: str) -> str:
    fs, path = filesystem(path)
    return fs.unstrip_protocol(path)


def parent(url: str) -> str:
    return url.rpartition("/")[0] or ("." if "/" not in url else "/")


def filesystem(url: str) -> tuple[AbstractFileSystem, str]:
    """fsspec's file system for a URL or path, and the path in it. Raises `FruganError` where its package is missing."""
    import fsspec

    protocol = url.split("://")[0] if "://" in url else "file"
    options: dict[str, Any] = {}
    try:
        if protocol in ("http", "https"):
            import aiohttp

            timeout = aiohttp.ClientTimeout(total=None, sock_connect=SILENCE_S, sock_read=SILENCE_S)
            options = {"client_kwargs": {"timeout": timeout}}
        return fsspec.url_to_fs(url, **options)
    except ImportError as error:
        extra = EXTRAS.get(protocol)
        remedy = f"pip install 'frugan[{extra}]'" if extra else f"the fsspec package that serves {protocol}://"
        raise FruganError(
            f"{url} needs a package that is not installed ({error}); install it with: {remedy}"
        ) from error
    except ValueError as error:
        raise FruganError(
            f"{url} has an address that cannot be read ({error}); use https://, s3://, gs:// or a path"
        ) from error


def is_local(url: str) -> bool:
    return "://" not in url or url.startswith("file://")


def version(url: str) -> dict[str, Any]:
    """A text that changes when the file does, as far as its server tells: size, entity tag, times. It retries as `persistently`."""
    fs, path = filesystem(url)
    info = persistently(lambda: fs.info(path), url)
    return {key: info[key] if key == "size" else str(info[key]) for key in _VERSION_FIELDS if info.get(key) is not None}


def read(url: str, most: int) -> bytes | None:
    """A file of at most `most` bytes, or None where there is none. Raises `FruganError` where that cannot be told."""
    fs, path = filesystem(url)

    def content() -> bytes | None:
        try:
            if is_local(url):
                return read_bytes(Path(path), most)
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "file"
                _download(fs, path, file, most)
                return file.read_bytes()
        except _Endless:
            raise FruganError(f"{url} has more than {most:,} bytes, which is the limit; check the address") from None
        except Exception as error:
            if (isinstance(error, FileNotFoundError) and _final(error)) or _status(error) in (403, 404):
                return None  # S3 denies what is not there to those who may not list
            raise

    return _reached(content, url)


class _Endless(OSError):
    """More bytes came than were to come."""


def _download(fs: AbstractFileSystem, path: str, file: Path, most: int) -> None:
    """Streams a file to this disk. Raises `_Endless` as soon as there are more than `most` bytes; servers need not stop."""
    from fsspec.callbacks import Callback

    class Limit(Callback):
        def set_size(self, size: int | None) -> None:
            super().set_size(size)
            if size is not None and size > most:
                raise _Endless(f"{size:,} bytes are to come, more than {most:,}")

        def relative_update(self, inc: int = 1) -> None:
            super().relative_update(inc)
            if self.value > most:
                raise _Endless(f"more than {most:,} bytes came")

    fs.get_file(path, str(file), callback=Limit())  # pyright: ignore[reportArgumentType]


def _reached(work: Callable[[], T], url: str) -> T:
    try:
        return persistently(work, url)
    except FruganError:
        raise
    except Exception as error:
        raise FruganError(f"{url} cannot be read: {reason(error, url)}; check the address and the network") from error


@contextmanager
def local_copy(url: str, scratch: Path, *, size: int | None, sha256: str | None) -> Iterator[tuple[Path, str]]:
    """Context in which a shard is a file on this disk; yields its path and SHA-256. A file that is local already is
    used in place.

    Otherwise it is streamed into `scratch`, a few MiB in memory at a time. The transfer is broken off when more comes
    than its size or, where that is unknown, than half of the free disk. A copy of another size or hash than expected
    counts as a failure, and is fetched again.

    Args:
        url: of the shard.
        scratch: a folder.
        size: in bytes, if known.
        sha256: if known.
    """
    fs, path = filesystem(url)
    file = Path(path) if is_local(url) else scratch / "shard.tar"

    def fetch() -> str:
        if not is_local(url):
            _download(fs, path, file, size if size is not None else shutil.disk_usage(scratch).free // 2)
        if size is not None and file.stat().st_size != size:
            raise OSError(f"{file.stat().st_size:,} bytes came of {size:,}")
        with open(file, "rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if sha256 is not None and found != sha256:
            raise OSError(f"its SHA-256 is {found[:12]}…, not {sha256[:12]}… as index.json says")
        return found

    try:
        yield file, persistently(fetch, url)
    finally:
        if not is_local(url):
            file.unlink(missing_ok=True)


def persistently(work: Callable[[], T], url: str) -> T:
    """Calls `work` until it succeeds, at most `ATTEMPTS` times; waits longer each time, and logs why. On this disk: once.

    What trying again cannot fix (not found, not allowed, no credentials) is raised at once, anything else at the end.
    """
    if is_local(url):
        return work()
    try:
        import tenacity
    except ImportError as error:
        raise FruganError(
            "reading from the network needs tenacity; install it with: pip install 'frugan[remote]'"
        ) from error

    def told(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        wait = state.next_action.sleep if state.next_action else 0
        log.warning(
            "%s: %s; trying again in %.1f s (%d of %d)", url, reason(error, url), wait, state.attempt_number, ATTEMPTS
        )

    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=tenacity.wait_exponential(FIRST_WAIT_S, LONGEST_WAIT_S) + tenacity.wait_random(0, min(FIRST_WAIT_S, 1)),
        retry=tenacity.retry_if_exception(lambda error: isinstance(error, Exception) and not _final(error)),
        before_sleep=told,
        reraise=True,
    )
    return retrying(work)


def reason(error: BaseException | None, url: str) -> str:
    """The reason why a file could not be fetched, in a few words."""
    status = _status(error)
    if isinstance(error, PermissionError) or status in (401, 403) or _no_credentials(error):
        protocol = url.split("://")[0]
        remedy = CREDENTIALS.get({"s3a": "s3", "gcs": "gs"}.get(protocol, protocol))
        return "access denied" + (f"; {remedy}" if remedy else "")
    if status == 404 or (status is None and isinstance(error, FileNotFoundError)):
        return "not found"
    if status is not None:
        return f"the server answers {status}"
    if _damaged_reply(error):
        return f"damaged reply: {shown(error)}"
    if isinstance(error, _Endless):
        return shown(error)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return fault(error, "it cannot be reached") if error else "it cannot be reached"


def _final(error: BaseException) -> bool:
    """Whether trying again is of no use."""
    status = _status(error)
    if status is not None:
        return 400 <= status < 500 and status not in (408, 425, 429)
    if isinstance(error, FileNotFoundError):  # fsspec reports every failure to look at a URL so, with its cause
        return error.__cause__ is None
    return (
        isinstance(error, (PermissionError, IsADirectoryError, FruganError))
        or _no_credentials(error)
        or disk_full(error)
    )


def _status(error: BaseException | None) -> int | None:
    """The HTTP status behind an error of aiohttp or botocore, or behind what fsspec made of it."""
    if _damaged_reply(error):
        return None
    for found in (error, getattr(error, "__cause__", None)):
        response = getattr(found, "response", None)
        metadata = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
        status = getattr(found, "status", None) or metadata.get("HTTPStatusCode")
        if isinstance(status, int):
            return status
    return None


def _damaged_reply(error: BaseException | None) -> bool:
    """Whether aiohttp could not read the reply: it reports that as a status, 400, which the server never sent."""
    try:
        from aiohttp.http_exceptions import HttpProcessingError
    except ImportError:
        return False
    while error is not None and not isinstance(error, HttpProcessingError):
        error = error.__cause__
    return error is not None


def _no_credentials(error: BaseException | None) -> bool:
    return "Credentials" in type(error).__name__


def disk_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
