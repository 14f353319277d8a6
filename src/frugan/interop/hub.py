"""Directories of networks in the conventions of the Hugging Face hub, on disk and there.

model.safetensors, config.json    as in `frugan.interop.native`, with the networks to train on from, where there are any
README.md, samples.png            the model card, see `frugan.interop.model_card`
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from frugan.errors import FruganError
from frugan.files import refilling
from frugan.interop.model_card import SAMPLES, UNKNOWN, Provenance, write_card
from frugan.interop.native import WEIGHTS, write_directory
from frugan.interop.nvidia import Imported
from frugan.networks import Generator, load_generator

HUB = "hf:"
"""Begins the name of a network on the hub: hf:user/name."""

FILES = ("config.json", "model.safetensors", "generator.safetensors", "discriminator.safetensors")


def save_pretrained(
    networks: Generator | Imported,
    directory: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    provenance: Provenance = UNKNOWN,
    push_to_hub: bool = False,
    repo_id: str | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    private: bool | None = None,
    commit_message: str | None = None,
) -> Path:
    """Writes a generator and a model card, unless one is there, and uploads them if asked to.

    Args:
        networks: a generator, or all of an import.
        directory: to write to.
        class_names: of one-hot labels, or None.
        provenance: what the card says of data, training, figures and licence.
        push_to_hub: whether to upload the directory.
        repo_id: "user/name" on the hub, made where there is none.
        revision: a branch that exists there.
        token, private, commit_message: as in huggingface_hub.

    Raises `FruganError`.
    """
    if push_to_hub and repo_id is None:
        raise FruganError('push_to_hub needs to know where to: give repo_id="user/name"')
    found = Imported(networks) if isinstance(networks, Generator) else networks
    directory = Path(directory)
    with refilling(directory, "config.json", WEIGHTS) as scratch:
        write_directory(scratch, found, class_names=class_names)
        if not (directory / "README.md").exists():
            name = repo_id or f"USER/{directory.resolve().name}"
            write_card(scratch, found.generator, name, class_names, provenance)
    if push_to_hub:
        api = _hub().HfApi(token=token)
        try:
            api.create_repo(repo_id, private=private, exist_ok=True)
            api.upload_folder(
                repo_id=repo_id,
                folder_path=directory,
                allow_patterns=[*FILES, "README.md", SAMPLES],
                delete_patterns=list(FILES),  # there, where they are no longer here
                revision=revision,
                commit_message=commit_message or "Upload with frugan",
            )
        except Exception as error:  # the network can fail in any way
            raise FruganError(f"{repo_id} could not be uploaded: {_first_line(error)}") from error
    return directory


def from_pretrained(
    source: str | Path,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    token: str | bool | None = None,
) -> Generator:
    """A generator from a directory or from the Hugging Face hub, on the CPU, in evaluation mode.

    Args:
        source: a directory, or "user/name" on the hub.
        revision: branch, tag or commit on the hub.
        cache_dir: of downloads; None: the hub's own.
        local_files_only: whether only the cache is used.
        token: for private repositories.

    Raises `FruganError` where there is none.
    """
    if Path(source).is_dir():
        return load_generator(Path(source))
    hub = {"revision": revision, "cache_dir": cache_dir, "local_files_only": local_files_only, "token": token}
    return load_generator(download(str(source), files=FILES[:2], **hub))


def download(repo_id: str, *, files: Sequence[str] = FILES, **hub: Any) -> Path:
    """The directory that holds `files` of "user/name" on the hub, fetched unless it is in the hub's cache. Raises `FruganError`.

    `hub`: arguments of `huggingface_hub.snapshot_download`.
    """
    repo_id = repo_id.removeprefix(HUB)
    try:
        return Path(_hub().snapshot_download(repo_id, allow_patterns=list(files), **hub))
    except Exception as error:  # the network can fail in any way
        raise FruganError(
            f"{repo_id} is no directory here, and cannot be had from the hub: {_first_line(error)}"
        ) from error


def _hub() -> Any:
    try:
        import huggingface_hub
    except ModuleNotFoundError:
        raise FruganError("the hub needs huggingface_hub: pip install 'frugan[hub]'") from None
    return huggingface_hub


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
