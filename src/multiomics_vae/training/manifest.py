"""The manifest of a saved model: what the folder is, and what every other file in it must be."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multiomics_vae import __version__
from multiomics_vae.errors import CheckpointError
from multiomics_vae.training.strict_json import json_bytes, parse_json
from multiomics_vae.training.untrusted import MEND, read_file, shown, what_it_looks_like
from multiomics_vae.training.weights_file import MAX_NAME, TensorEntry, parse_tensor_entry

FORMAT = "multiomics_vae"
FORMAT_VERSION = 5
OLDEST_VERSION = 1
MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
DOCUMENTS = ("config.json", "schema.json", "history.json")
MAX_MANIFEST_BYTES = 8 * 2**20


@dataclass(frozen=True)
class FileEntry:
    """Size and checksum of one file."""

    n_bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a folder says it holds."""

    format_version: int
    package_version: str
    class_name: str
    files: Mapping[str, FileEntry]
    tensors: Mapping[str, TensorEntry]


def manifest_bytes(class_name: str, contents: Mapping[str, bytes], table: Mapping[str, TensorEntry]) -> bytes:
    """Return the manifest that describes some files.

    Parameters
    ----------
    class_name
        Class of the model.
    contents
        File name -> content.
    table
        The tensors in the weights.

    Examples
    --------
    >>> manifest_bytes("MultiVAE", {}, {}).startswith(b"{")
    True
    """
    document: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "package_version": __version__,
        "class_name": class_name,
        "files": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in contents.items()
        },
        "tensors": {
            name: {"shape": list(entry.shape), "dtype": entry.dtype} for name, entry in table.items()
        },
    }
    document["manifest_sha256"] = _fingerprint(document)
    return json_bytes(document, "the table of tensors", MAX_MANIFEST_BYTES)


def parse_manifest(place: Path) -> Manifest:
    """Read and check the manifest in a folder.

    Parameters
    ----------
    place
        The folder.

    Raises
    ------
    CheckpointError
        If there is none, or none that this version reads, or it lists what cannot be.

    Examples
    --------
    >>> parse_manifest(Path("run/model")).format_version  # doctest: +SKIP
    1
    """
    path = place / MANIFEST
    if not place.is_dir() or not os.path.lexists(path):
        raise CheckpointError(f"There is no saved model at {place}: no {MANIFEST}. Is the path right?")
    document = parse_json(read_file(path, MAX_MANIFEST_BYTES), path)
    _check_version(document, path)
    if document.get("manifest_sha256") != _fingerprint(document):
        raise CheckpointError(f"{path} was changed after it was written: its checksum differs. {MEND}")
    try:
        manifest = Manifest(
            format_version=document["format_version"],
            package_version=str(document["package_version"]),
            class_name=str(document["class_name"]),
            files={
                name: FileEntry(int(entry["bytes"]), str(entry["sha256"]))
                for name, entry in document["files"].items()
            },
            tensors={
                name: parse_tensor_entry(name, entry["shape"], entry["dtype"], path)
                for name, entry in document["tensors"].items()
            },
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} is incomplete or malformed: {error!r}. {MEND}") from error
    check_class_name(manifest.class_name)
    if set(manifest.files) != {*DOCUMENTS, WEIGHTS}:
        raise CheckpointError(
            f"{path} must list exactly {', '.join(DOCUMENTS)} and {WEIGHTS}; "
            f"it lists {shown(sorted(manifest.files))}. {MEND}"
        )
    declared = sum(entry.n_bytes for entry in manifest.tensors.values())
    available = manifest.files[WEIGHTS].n_bytes
    if declared > available:
        raise CheckpointError(
            f"{path} declares tensors of {declared:,} bytes, but {WEIGHTS} has only {available:,}. {MEND}"
        )
    return manifest


def read_listed(path: Path, entry: FileEntry, max_bytes: int) -> bytes:
    """Read a file and compare it with what the manifest says of it.

    Parameters
    ----------
    path
        The file.
    entry
        What the manifest says.
    max_bytes
        Size above which it is not read.

    Raises
    ------
    CheckpointError
        If its size or checksum differs, or it cannot be read.

    Examples
    --------
    >>> read_listed(Path("run/model/config.json"), entry, 2**20)  # doctest: +SKIP
    b'{}'
    """
    data = read_file(path, max_bytes)
    if len(data) != entry.n_bytes:
        raise CheckpointError(
            f"{path} has {len(data):,} bytes; the manifest says {entry.n_bytes:,}. {what_it_looks_like(data)}"
        )
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise CheckpointError(f"{path} is damaged: its checksum differs. {what_it_looks_like(data)}")
    return data


def check_class_name(name: str) -> None:
    """Refuse a name that no class can have.

    Examples
    --------
    >>> check_class_name("MultiVAE")
    """
    if not name.isidentifier() or len(name) > MAX_NAME:
        raise CheckpointError(f"{shown(name)} cannot be the name of a model's class. {MEND}")


def _check_version(document: Mapping[str, Any], path: Path) -> None:
    version = document.get("format_version")
    if document.get("format") != FORMAT or type(version) is not int:
        raise CheckpointError(f"{path} is not the manifest of a model saved by {FORMAT}. Is the path right?")
    if version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} was written by {FORMAT} {shown(document.get('package_version'))} "
            f"in format {shown(version)}; version {__version__} reads formats up to {FORMAT_VERSION}. "
            "Upgrade: pip install --upgrade multiomics-vae"
        )
    if version < OLDEST_VERSION:
        raise CheckpointError(
            f"{path} has format_version {shown(version)}, which {FORMAT} {__version__} does not read. {MEND}"
        )


def _fingerprint(manifest: Mapping[str, Any]) -> str:
    """Return the checksum of a manifest's meaning, so that one wrong letter in it is noticed too."""
    rest = {key: value for key, value in manifest.items() if key != "manifest_sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()
