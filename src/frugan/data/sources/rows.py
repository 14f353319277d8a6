"""Tables of encoded images, read by pyarrow: Parquet files, and what Hugging Face datasets saves to disk (Arrow).

An image is a column of `{bytes, path}` or of bytes; the path of a row without bytes is not followed.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import numpy as np

from frugan.data.decode import Header, read_header, read_pixels
from frugan.data.decode.reel import Reel
from frugan.data.sources.parts import MOST, NoImages
from frugan.data.sources.stacks import LABEL_KEYS
from frugan.errors import abbreviated, shown
from frugan.files import parse_json

if TYPE_CHECKING:
    import pyarrow

_IMAGE_NAMES = ("image", "images", "img", "jpg", "png", "bytes")
_LABEL_NAMES = (*LABEL_KEYS, "class", "category")
_LARGEST_BLOCK = 1 << 30  # bytes of the images in a group of rows
_BLOCKS_KEPT = 2
_AT_ONCE = 8  # rows
_LARGEST_METADATA = 1 << 24
_RATIO = 200


class _Table(Protocol):
    """Rows in blocks, each of which is read from its first row on."""

    schema: pyarrow.Schema
    sizes: list[int]  # rows of each block

    def cells(self, block: int, column: str) -> Iterator[Any]: ...


class Rows:
    """The images of a table."""

    lost = ""

    def __init__(self, file: BinaryIO, suffix: str) -> None:
        try:
            import pyarrow
        except ImportError:
            raise ValueError("Parquet and Arrow need a reader: pip install 'frugan[parquet]'") from None
        self._table: _Table = _Parquet(file) if suffix == ".parquet" else _Arrow(file)
        image = _image_column(self._table.schema)
        label = next((name for name in _LABEL_NAMES if name in self._table.schema.names and name != image), None)
        self._image, self._column = image, label
        self._classes = _class_names(self._table.schema, label) if label else None
        self._nested = pyarrow.types.is_struct(self._table.schema.field(image).type)
        self._starts = np.cumsum([0, *self._table.sizes])
        self.numbers = range(min(int(self._starts[-1]), MOST + 1))
        self._blocks: OrderedDict[int, Reel] = OrderedDict()
        self._labels: list[Any] | None = None
        self._lock = threading.Lock()

    def header(self, number: int) -> Header:
        return read_header(io.BytesIO(self._bytes(number)))

    def pixels(self, number: int) -> np.ndarray:
        return read_pixels(io.BytesIO(self._bytes(number)))

    def label(self, number: int) -> Any:
        if self._column is None:
            return None
        with self._lock:
            if self._labels is None:
                blocks = range(len(self._table.sizes))
                self._labels = [label for i in blocks for label in self._table.cells(i, self._column)]
        label = self._labels[number]
        if self._classes and isinstance(label, int):
            return self._classes[label] if 0 <= label < len(self._classes) else None  # -1: not told
        return label

    def _bytes(self, number: int) -> bytes:
        block = int(np.searchsorted(self._starts, number, "right")) - 1
        with self._lock:
            if block not in self._blocks:
                while len(self._blocks) >= _BLOCKS_KEPT:
                    self._blocks.popitem(last=False)
                self._blocks[block] = Reel(partial(self._images, block))
            reel = self._blocks[block]
        content = reel[number - int(self._starts[block])].tobytes()
        if not content:
            raise ValueError("holds a path instead of an image, or nothing; save the images within the table")
        return content

    def _images(self, block: int) -> Iterator[np.ndarray]:
        """The encoded images of a block, empty where there is none. Raises `ValueError` where there are fewer than it tells of."""
        count = 0
        for cell in self._table.cells(block, self._image):
            count += 1
            content = cell.get("bytes") if self._nested and cell is not None else cell
            yield np.frombuffer(content if isinstance(content, bytes) else b"", np.uint8)
        if count < self._table.sizes[block]:
            raise ValueError(f"the table tells of {self._table.sizes[block]:,} rows and holds {count:,}; write it anew")


class _Parquet:
    def __init__(self, file: BinaryIO) -> None:
        from pyarrow import parquet

        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        self._file = parquet.ParquetFile(
            file, thrift_string_size_limit=_LARGEST_METADATA, thrift_container_size_limit=_LARGEST_METADATA
        )
        self.schema = self._file.schema_arrow
        facts = self._file.metadata
        groups = [facts.row_group(i) for i in range(facts.num_row_groups)]
        most = max(_LARGEST_BLOCK >> 4, min(_LARGEST_BLOCK, _RATIO * size))
        if any(group.total_byte_size > most for group in groups):
            raise ValueError(f"a group of rows unpacks to more than {most:,} bytes; write smaller groups")
        self.sizes = [group.num_rows for group in groups]
        if any(size < 0 for size in self.sizes):
            raise ValueError("groups of fewer than no rows")

    def cells(self, block: int, column: str) -> Iterator[Any]:
        """A few rows at a time: an image that a dictionary holds once may stand in all of them."""
        batches = self._file.iter_batches(_AT_ONCE, row_groups=[block], columns=[column], use_threads=False)
        return (cell for batch in batches for cell in batch.column(0).to_pylist())


class _Arrow:
    """A stream of record batches, as datasets writes it, or an Arrow file (Feather)."""

    def __init__(self, file: BinaryIO) -> None:
        import pyarrow

        start = file.read(6)
        file.seek(0)
        try:
            source: Any = pyarrow.memory_map(file.name) if isinstance(file.name, str) else file
        except AttributeError:  # within an archive
            source = pyarrow.BufferReader(file.read())
        if start == b"ARROW1":
            reader = pyarrow.ipc.open_file(source)
            self._batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        else:
            reader = pyarrow.ipc.open_stream(source)
            self._batches = list(reader)
        self.schema = reader.schema
        for batch in self._batches:
            batch.validate(full=True)  # offsets that leave the buffers would read other memory
        self.sizes = [len(batch) for batch in self._batches]

    def cells(self, block: int, column: str) -> Iterator[Any]:
        return (cell.as_py() for cell in self._batches[block].column(column))


def _image_column(schema: pyarrow.Schema) -> str:
    """The column that Hugging Face's metadata calls an image, else one that may hold some; `NoImages` where there is none."""
    import pyarrow

    def holds_bytes(kind: pyarrow.DataType) -> bool:
        if pyarrow.types.is_struct(kind):
            return any(field.name == "bytes" and holds_bytes(field.type) for field in kind)
        return pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)

    may_be = [field.name for field in schema if holds_bytes(field.type)]
    features = _features(schema)
    declared = [
        name for name in may_be if isinstance(features.get(name), dict) and features[name].get("_type") == "Image"
    ]
    structs = [name for name in may_be if pyarrow.types.is_struct(schema.field(name).type)]
    named = [name for name in _IMAGE_NAMES if name in may_be]
    for found in (declared, named, structs, may_be):
        if found:
            return found[0]
    raise NoImages(
        f"its columns are {abbreviated([shown(f'{field.name}: {field.type}') for field in schema], 5)}; store the bytes of PNG or "
        "other files in a column"
    )


def _features(schema: pyarrow.Schema) -> dict[str, Any]:
    """The columns as the datasets library describes them in the schema's metadata."""
    try:
        text = (schema.metadata or {}).get(b"huggingface", b"{}")
        features = parse_json(text)["info"]["features"]
        return features if isinstance(features, dict) else {}
    except (ValueError, KeyError, TypeError):
        return {}


def _class_names(schema: pyarrow.Schema, column: str) -> list[str] | None:
    feature = _features(schema).get(column)
    names = feature.get("names") if isinstance(feature, dict) else None
    return (
        [shown(name) for name in names] if isinstance(names, list) and len(set(map(str, names))) == len(names) else None
    )
