"""Looks at an .h5mu file from a stranger before anything of it is read.

An HDF5 file can point at other files on this machine (external links, external storage, virtual data
sets), and a few kilobytes of it can unfold to more than the memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from multiomics_vae.errors import InputError

# Of X that stays on disk a stored chunk is unfolded at a time.
MOST_CHUNK_BYTES = 1 << 28
# Deeper than any MuData, shallower than Python's recursion limit.
MOST_DEPTH = 32


def check_untrusted(path: str | Path, most_bytes: int, backed: bool) -> None:
    """Refuse a file that points outside itself, or is larger than agreed once it is unfolded.

    Parameters
    ----------
    path
        An .h5mu or .h5ad file.
    most_bytes
        Budget for everything that reading brings into memory.
    backed
        True if the ``X`` of the modalities will stay on disk.

    Raises
    ------
    InputError
        Naming the place inside the file.

    Examples
    --------
    >>> check_untrusted("from_a_stranger.h5mu", most_bytes=2**30, backed=False)  # doctest: +SKIP
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(
            f"{path} is not an HDF5 file that can be opened: {error}. Fetch it again, whole, from "
            "where it came."
        ) from error
    total = 0
    with file:
        for dataset in _datasets(file, str(path), "", 0, set()):
            n_bytes = _unfolded_bytes(dataset, str(path))
            if backed and _is_values(dataset.name):
                _check_chunks(dataset, str(path))
            else:
                total += n_bytes
            if total > most_bytes:
                raise InputError(
                    f"{path} unfolds to more than {most_bytes} bytes ({total} up to {dataset.name!r}), from "
                    f"{Path(path).stat().st_size} on disk. If it is meant to be that large, raise the "
                    f"budget: `datasets.read({str(path)!r}, most_bytes={2 * total})`."
                )


def _datasets(
    group: h5py.Group, path: str, place: str, depth: int, open_groups: set[object]
) -> Iterator[h5py.Dataset]:
    """All data sets below a group; links are looked at before they are followed."""
    if depth > MOST_DEPTH or group.id in open_groups:
        raise InputError(
            f"{path} nests its groups more than {MOST_DEPTH} deep, or in a circle, at {place!r}: it is no "
            "MuData. Ask for a file written by `mdata.write_h5mu(path)`."
        )
    for name in group:
        here = f"{place}/{name}"
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            raise _outside(path, here, f"is a link to another file, {link.filename!r}")
        if isinstance(link, h5py.SoftLink):
            raise _outside(path, here, f"is a soft link to {link.path!r}")
        member = group[name]
        if isinstance(member, h5py.Group):
            yield from _datasets(member, path, here, depth + 1, open_groups | {group.id})
        elif isinstance(member, h5py.Dataset):
            if member.external:
                raise _outside(path, here, f"stores its values in another file, {member.external[0][0]!r}")
            if member.is_virtual:
                raise _outside(path, here, "is a virtual data set, whose values lie in other files")
            yield member


def _unfolded_bytes(dataset: h5py.Dataset, path: str) -> int:
    n_entries = int(np.prod([int(size) for size in dataset.shape or ()], dtype=object))
    for attribute in dataset.attrs:
        if dataset.attrs.get_id(attribute).get_storage_size() > MOST_CHUNK_BYTES:
            raise _outside(path, dataset.name, f"has an attribute {attribute!r} that is too large")
    return n_entries * int(dataset.dtype.itemsize)


def _is_values(place: str) -> bool:
    parts = place.strip("/").split("/")
    return len(parts) in (3, 4) and parts[0] == "mod" and parts[2] == "X"


def _check_chunks(dataset: h5py.Dataset, path: str) -> None:
    n_bytes = (
        int(np.prod([int(size) for size in dataset.chunks or ()], dtype=object)) * dataset.dtype.itemsize
    )
    if n_bytes > MOST_CHUNK_BYTES:
        raise InputError(
            f"{path}: {dataset.name!r} is stored in chunks that unfold to {n_bytes} bytes each, so that no "
            "row can be read by itself. Ask for a file written by `mdata.write_h5mu(path)`."
        )


def _outside(path: str, place: str, what: str) -> InputError:
    return InputError(
        f"{path}: {place!r} {what}. A file from a stranger must stand by itself. If you trust it: "
        f"`datasets.read({path!r}, trusted=True)`."
    )
