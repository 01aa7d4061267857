"""The folder that holds a saved model: safetensors and JSON, checked before anything is believed.

::

    manifest.json         what the folder is, and the size, checksum and tensors of the rest
    weights.safetensors   the tensors
    config.json           the arguments the model was built with
    schema.json           what was registered about the data, features included
    history.json          the course of training

Nothing is ever pickled or unpickled, and no name found in a file is imported or opened. The checksums
reveal damage, not malice: who can change the weights can change the checksums too. The same checkpoint
always gives the same bytes.

JSON has no NaN: in the history every number that is not finite is written, and read back, as null.
Anywhere else, weights included, such a number is refused. Tuples come back as lists.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from torch import Tensor

from multiomics_vae.errors import CheckpointError
from multiomics_vae.training.atomic import find_folder, replace_folder, restore_folder
from multiomics_vae.training.manifest import (
    DOCUMENTS,
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    WEIGHTS,
    Manifest,
    check_class_name,
    manifest_bytes,
    parse_manifest,
    read_listed,
)
from multiomics_vae.training.migrations import add_outcomes, add_powers, add_switches
from multiomics_vae.training.strict_json import json_bytes, parse_json
from multiomics_vae.training.untrusted import read_file, shown
from multiomics_vae.training.weights_file import MAX_WEIGHTS_BYTES, parse_weights, tensor_table, weights_bytes

JsonObject: TypeAlias = Mapping[str, Any]

# Ends the class name of a training that is not over.
TRAINING = "Training"
MAX_DOCUMENT_BYTES = 64 * 2**20  # the names of a million peaks take 30 MB
MAX_SHOWN = 20
MAX_GUESSED = 200


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """All that is kept of a model.

    Parameters
    ----------
    class_name
        Name of the model's class; compared on loading, never imported.
    config
        Arguments the model was built with.
    schema
        What was registered about the data.
    history
        Course of training; the only part in which NaN is allowed (it becomes null).
    tensors
        Parameters and buffers by name; finite, on any device (they come back on the CPU).

    Examples
    --------
    >>> import torch
    >>> Checkpoint("MultiVAE", {"n_latent": 20}, {}, {}, {"bias": torch.zeros(3)}).class_name
    'MultiVAE'
    """

    class_name: str
    config: JsonObject
    schema: JsonObject
    history: JsonObject
    tensors: Mapping[str, Tensor]


def _to_format_2(old: Checkpoint) -> Checkpoint:
    return replace(old, tensors=add_powers(old.config, old.tensors))


def _to_format_3(old: Checkpoint) -> Checkpoint:
    """Format 3 may hold aids of prediction beside the weights; what is not there is learned when needed."""
    return old


def _to_format_4(old: Checkpoint) -> Checkpoint:
    return replace(old, config=add_switches(old.config))


def _to_format_5(old: Checkpoint) -> Checkpoint:
    config, schema, tensors = add_outcomes(old.config, old.schema, old.tensors)
    return replace(old, config=config, schema=schema, tensors=tensors)


MIGRATIONS: Mapping[int, Callable[[Checkpoint], Checkpoint]] = MappingProxyType(
    {1: _to_format_2, 2: _to_format_3, 3: _to_format_4, 4: _to_format_5}
)
"""Format version -> what lifts a checkpoint of that version to the next."""


def save_checkpoint(folder: str | Path, checkpoint: Checkpoint, overwrite: bool = False) -> None:
    """Write a checkpoint, whole or not at all.

    At every instant, even if the process is killed, the old or the new checkpoint is whole and
    `load_checkpoint` finds it. One process at a time may save to a given folder.

    Parameters
    ----------
    folder
        Where to; parents are made.
    checkpoint
        What to write. Tensors that share memory are written once each.
    overwrite
        Replace a checkpoint that is already there. Anything else is never replaced.

    Raises
    ------
    CheckpointError
        If something is there, if the checkpoint holds what the format cannot, or if the disk refuses.

    Examples
    --------
    >>> save_checkpoint("run/model", checkpoint, overwrite=True)  # doctest: +SKIP
    """
    contents = _contents(checkpoint)
    place = _place(folder)
    try:
        restore_folder(place)
        if os.path.lexists(place):
            if not overwrite:
                raise CheckpointError(f"{place} exists already. To replace it: save(..., overwrite=True)")
            _check_replaceable(place)
        replace_folder(place, contents)
    except OSError as error:
        raise CheckpointError(
            f"The model could not be saved to {folder}: {error}. A checkpoint that was there is still whole. "
            "Free space on the disk, or save to a folder that you may write."
        ) from error


def load_checkpoint(folder: str | Path, expected_class: str | None = None) -> Checkpoint:
    """Read a checkpoint, checking every byte of it.

    Parameters
    ----------
    folder
        Where it was saved.
    expected_class
        Class that asks; None takes any.

    Returns
    -------
    Checkpoint
        In the current format, tensors on the CPU.

    Raises
    ------
    CheckpointError
        If the folder is missing, foreign, damaged, of a newer format, or of another class.

    Examples
    --------
    >>> load_checkpoint("run/model", expected_class="MultiVAE")  # doctest: +SKIP
    """
    place = find_folder(_place(folder), MANIFEST)
    manifest = parse_manifest(place)
    config, schema, history = (
        parse_json(read_listed(place / name, manifest.files[name], MAX_DOCUMENT_BYTES), place / name)
        for name in DOCUMENTS
    )
    weights = read_listed(place / WEIGHTS, manifest.files[WEIGHTS], MAX_WEIGHTS_BYTES)
    tensors = parse_weights(weights, manifest.tensors, place / WEIGHTS)
    checkpoint = Checkpoint(manifest.class_name, config, schema, history, tensors)
    for version in range(manifest.format_version, FORMAT_VERSION):
        checkpoint = MIGRATIONS[version](checkpoint)
    if expected_class is not None and checkpoint.class_name != expected_class:
        name = checkpoint.class_name
        raise CheckpointError(
            f"{place} holds a {name}, not a {expected_class}. {_how_to_read(name, str(folder))}"
        )
    return checkpoint


def read_manifest(folder: str | Path) -> Manifest:
    """Read what a checkpoint says it holds; the other files are not opened.

    Parameters
    ----------
    folder
        Where it was saved.

    Raises
    ------
    CheckpointError
        If there is no manifest that this version reads.

    Examples
    --------
    >>> read_manifest("run/model").class_name  # doctest: +SKIP
    'MultiVAE'
    """
    return parse_manifest(find_folder(_place(folder), MANIFEST))


def check_tensors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Refuse tensors that do not fit a model, naming every one that does not.

    Parameters
    ----------
    found
        The tensors of a checkpoint.
    expected
        The tensors of the model they are meant for, of which only shape and dtype are read.

    Raises
    ------
    CheckpointError
        If a name is missing or unexpected, or a shape or dtype differs.

    Examples
    --------
    >>> import torch
    >>> check_tensors({"bias": torch.zeros(3)}, {"bias": torch.ones(3)})
    """
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    different = [
        name
        for name, wanted in expected.items()
        if name in found and (found[name].shape, found[name].dtype) != (wanted.shape, wanted.dtype)
    ]
    # Looking for close names among thousands takes long: only for what is shown, and only among some.
    lines = [f"{shown(name)}: missing{_closest(name, unexpected)}" for name in missing[:MAX_SHOWN]]
    lines += [f"{shown(name)}: unexpected{_closest(name, missing)}" for name in unexpected[:MAX_SHOWN]]
    lines += [
        f"{shown(name)}: {_kind(found[name])}, expected {_kind(expected[name])}"
        for name in different[:MAX_SHOWN]
    ]
    total = len(missing) + len(unexpected) + len(different)
    if total > len(lines):
        lines.append(f"and {total - len(lines)} more")
    if lines:
        listing = "\n  ".join(lines)
        raise CheckpointError(
            f"The saved weights do not fit this model, in {total} places:\n  {listing}\n"
            "Build the model with the arguments in the checkpoint's config.json."
        )


def _place(folder: str | Path) -> Path:
    """Return the folder that a path leads to, so that a link to a checkpoint stays a link."""
    return Path(os.path.realpath(folder))


def _contents(checkpoint: Checkpoint) -> dict[str, bytes]:
    """Return every file of a checkpoint, made before the disk is touched."""
    check_class_name(checkpoint.class_name)
    contents = {
        f"{part}.json": json_bytes(document, part, MAX_DOCUMENT_BYTES, nan_as_null=part == "history")
        for part, document in (
            ("config", checkpoint.config),
            ("schema", checkpoint.schema),
            ("history", checkpoint.history),
        )
    }
    contents[WEIGHTS] = weights_bytes(checkpoint.tensors)
    table = tensor_table(checkpoint.tensors)
    return {MANIFEST: manifest_bytes(checkpoint.class_name, contents, table), **contents}


def _check_replaceable(place: Path) -> None:
    """Refuse to replace a folder that is not a checkpoint, or in which something else is kept."""
    mend = f"Save elsewhere, or remove it yourself: rm -r '{place}'"
    if not place.is_dir() or not (place / MANIFEST).is_file():
        raise CheckpointError(f"{place} is not a saved model and will not be replaced. {mend}")
    document = parse_json(read_file(place / MANIFEST, MAX_MANIFEST_BYTES), place / MANIFEST)
    if document.get("format") != FORMAT or not isinstance(document.get("files"), dict):
        raise CheckpointError(f"{place} is not a saved model of {FORMAT} and will not be replaced. {mend}")
    foreign = sorted(set(os.listdir(place)) - {MANIFEST, *document["files"]})
    if foreign:
        raise CheckpointError(
            f"{place} also holds {shown(foreign)}, which would be lost. Move that out first."
        )


def _how_to_read(class_name: str, folder: str) -> str:
    if class_name.endswith(TRAINING):
        name = class_name.removesuffix(TRAINING)
        return f"Go on with the training: {name}.resume({folder!r}, mdata)"
    return f"Load it with: {class_name}.load({folder!r})"


def _kind(tensor: Tensor) -> str:
    return f"shape {tuple(tensor.shape)} and dtype {tensor.dtype}"


def _closest(name: str, others: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, others[:MAX_GUESSED], n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
