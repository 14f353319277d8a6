"""Directories of networks in the conventions of the Hugging Face hub, on disk and there.

model.safetensors, config.json    as in `frugan.interop.native`, with the networks to train on from, where there are any
README.md                         the model card; its licence is left to its owner
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from frugan.errors import FruganError
from frugan.files import write_text
from frugan.interop.native import write_directory
from frugan.interop.nvidia import Imported
from frugan.label_parts import label_parts
from frugan.networks import Generator, load_generator, typical_labels

HUB = "hf:"
"""Begins the name of a network on the hub: hf:user/name."""

FILES = ("config.json", "model.safetensors", "generator.safetensors", "discriminator.safetensors")


def save_pretrained(
    networks: Generator | Imported,
    directory: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    push_to_hub: bool = False,
    repo_id: str | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    private: bool | None = None,
    commit_message: str | None = None,
) -> Path:
    """Writes a generator (or all of an import) and a model card, unless one is there; then perhaps uploads them.

    `repo_id` is the "user/name" on the hub, which is made where there is none; `revision` a branch that exists there.
    Raises `FruganError`.
    """
    if push_to_hub and repo_id is None:
        raise FruganError('push_to_hub needs to know where to: give repo_id="user/name"')
    found = Imported(networks) if isinstance(networks, Generator) else networks
    directory = write_directory(directory, found, class_names=class_names)
    card = directory / "README.md"
    if not card.exists():
        name = repo_id or f"USER/{directory.resolve().name}"
        write_text(card, model_card(found.generator, name, class_names))
    if push_to_hub:
        api = _hub().HfApi(token=token)
        try:
            api.create_repo(repo_id, private=private, exist_ok=True)
            api.upload_folder(
                repo_id=repo_id,
                folder_path=directory,
                allow_patterns=[*FILES, card.name],
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
    """The generator in a directory, or of "user/name" on the hub, on the CPU, in evaluation mode. Raises `FruganError`."""
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


STILL = "Still to be written: which images it learned from, what it is meant for, and its licence (`license:` in the header).\n"
"""The last line of a model card whose generator nothing else is known of."""


def model_card(G: Generator, name: str, class_names: Sequence[str] | None = None, *, still: str = STILL) -> str:
    """The card's text: the header that the hub reads, what the network makes, how to use it, and what is `still` to be
    written. `name`: "user/name"."""
    header = {
        "library_name": "frugan",
        "pipeline_tag": "unconditional-image-generation",
        "tags": ["stylegan2", "gan", "image-generation", "pytorch"],
    }
    h, w = G.resolution
    label = typical_labels(G.label_size, G.config.measured)[:1].squeeze(0).tolist()
    value = f"torch.tensor({[round(x, 4) for x in label]})" if G.config.measured else f"torch.eye({G.label_size})[0]"
    c = f", c={value}" if G.label_size else ""
    labels = ", ".join(class_names or []) or f"size {G.label_size}"
    if G.config.measured:
        labels = "; ".join(map(str, label_parts(G.label_size, class_names, G.config.measured)))
    lines = [
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n",
        f"# {name.split('/')[-1]}\n",
        "A StyleGAN2 generator, kept by frugan.\n",
        "| | |\n|---|---|",
        f"| Images | {h}×{w} pixels, {G.channels} channels |",
        f"| Parameters | {sum(p.numel() for p in G.parameters()):,} |",
        f"| z, w | {G.z_dim}, {G.w_dim} |",
        *([f"| Labels | {labels} |"] if c else []),
        "\n```python",
        *(["import torch"] if c else []),
        "import frugan\n",
        f'G = frugan.from_pretrained("{name}")',
        f"images = G.sample(seeds=range(16), truncation=0.7{c})  # float [16, {G.channels}, {h}, {w}] in [-1, 1]\n```\n",
        still,
    ]
    return "\n".join(lines)


def _hub() -> Any:
    try:
        import huggingface_hub
    except ModuleNotFoundError:
        raise FruganError("the hub needs huggingface_hub: pip install 'frugan[hub]'") from None
    return huggingface_hub


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
