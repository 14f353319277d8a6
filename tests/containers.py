"""Files of many images as foreign programs write them: pixels `[N, H, W, C]` in, a file out."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import imageio_ffmpeg
import numpy as np
import pyarrow as pa
import pydicom
import tifffile
import zarr
from PIL import Image
from pyarrow import parquet
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

Images = np.ndarray


def write_hdf5(path: Path, images: Images, labels: np.ndarray | None = None, **options: Any) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("set/images", data=images, **options)
        if labels is not None:
            file["set/labels"] = labels


def write_zarr(path: Path, images: Images, labels: np.ndarray | None = None, version: int = 3, **options: Any) -> None:
    group = zarr.open_group(str(path), mode="w", zarr_format=version)  # pyright: ignore[reportArgumentType]
    group.create_array("images", data=images, **options)
    if labels is not None:
        group.create_array("labels", data=labels)


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "PNG")
    return file.getvalue()


def table(images: Images, labels: np.ndarray | None = None, classes: list[str] | None = None) -> pa.Table:
    """As Hugging Face datasets has them in memory."""
    columns: dict[str, Any] = {"image": [{"bytes": png(image), "path": f"{i}.png"} for i, image in enumerate(images)]}
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    if labels is not None:
        columns["label"] = labels
        features["label"] = {"_type": "ClassLabel", "names": classes} if classes else {"_type": "Value"}
    return pa.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def write_parquet(path: Path, images: Images, labels: np.ndarray | None = None, **options: Any) -> None:
    parquet.write_table(table(images, labels), path, **options)


def write_arrow(path: Path, images: Images, labels: np.ndarray | None = None, rows: int = 5) -> None:
    content = table(images, labels)
    with pa.ipc.new_stream(str(path), content.schema) as writer:
        writer.write_table(content, max_chunksize=rows)


def write_animation(path: Path, images: Images) -> None:
    """GIF, WebP, APNG by suffix."""
    first, *rest = (Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image) for image in images)
    options: dict[str, Any] = {"lossless": True} if path.suffix == ".webp" else {}
    first.save(path, save_all=True, append_images=rest, duration=40, **options)


def write_pages(path: Path, images: Images, **options: Any) -> None:
    """TIFF pages."""
    with tifffile.TiffWriter(path, bigtiff=options.pop("bigtiff", False)) as writer:
        for image in images:
            kind = "rgb" if image.shape[-1] == 3 and image.dtype == np.uint8 else "minisblack"
            several = {"planarconfig": "contig"} if image.shape[-1] > 1 else {}
            pixels = image if several else image[..., 0]
            writer.write(pixels, photometric=kind, metadata=None, contiguous=False, **several, **options)


_PIXELS = {("uint8", 1): "gray", ("uint8", 3): "rgb24", ("uint16", 1): "gray16le", ("uint16", 3): "rgb48le"}
_LOSSLESS = {("uint8", 1): "gray", ("uint8", 3): "gbrp", ("uint16", 1): "gray16le", ("uint16", 3): "gbrp16le"}


def write_video(path: Path, images: Images, *options: str) -> None:
    """Without loss by default: FFV1."""
    kind = str(images.dtype), images.shape[-1]
    size = f"{images.shape[2]}x{images.shape[1]}"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y", "-f", "rawvideo", "-pix_fmt", _PIXELS[kind]]
    command += [
        "-s",
        size,
        "-r",
        "25",
        "-i",
        "-",
        *(options or ("-c:v", "ffv1", "-pix_fmt", _LOSSLESS[kind])),
        str(path),
    ]
    subprocess.run(command, input=images.tobytes(), check=True)


def dicom(images: Images, syntax: UID = ExplicitVRLittleEndian, **elements: Any) -> bytes:
    """Frames `[N, H, W, C]` with the name of a patient."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = SecondaryCaptureImageStorage
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = generate_uid()
    made.PatientName, made.PatientID, made.InstitutionName = "Secretname^Jane", "ID-77123", "Hospital Hidden"
    made.Rows, made.Columns, made.SamplesPerPixel = images.shape[1:]
    made.PhotometricInterpretation = "MONOCHROME2" if images.shape[-1] == 1 else "RGB"
    if images.shape[-1] == 3:
        made.PlanarConfiguration = 0
    made.BitsAllocated = made.BitsStored = 8 * images.dtype.itemsize
    made.HighBit, made.PixelRepresentation = made.BitsStored - 1, int(images.dtype.kind == "i")
    if len(images) > 1:
        made.NumberOfFrames = len(images)
    content = images.tobytes()
    made.PixelData = content + bytes(len(content) % 2)
    for name, value in elements.items():
        setattr(made, name, value)
    file = io.BytesIO()
    pydicom.dcmwrite(file, made, enforce_file_format=True)
    return file.getvalue()


SETS: dict[str, Callable[[Path, Images], None]] = {
    ".h5": write_hdf5,
    ".zarr": write_zarr,
    ".parquet": write_parquet,
    ".arrow": write_arrow,
    ".mkv": write_video,
}
"""Writers of files that are sets, by suffix."""

FRAMES: dict[str, Callable[[Path, Images], None]] = {
    ".gif": write_animation,
    ".webp": write_animation,
    ".png": write_animation,
    ".tif": write_pages,
    ".dcm": lambda path, images: [path.write_bytes(dicom(images)), None][1],
}
"""Writers of images that may have several frames."""
