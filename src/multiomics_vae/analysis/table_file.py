"""A table of cells by features, written as .h5ad a few rows at a time, whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData

from multiomics_vae.errors import InputError

CHUNK_BYTES = 1 << 20


def check_new_file(path: str | Path) -> Path:
    """Refuse a place where no .h5ad can be begun.

    Raises
    ------
    InputError
        For another ending, a folder that is not there, or a file that is.
    """
    file = Path(path)
    if file.suffix != ".h5ad":
        raise InputError(f"{str(path)!r} must end in .h5ad: {str(file.with_suffix('.h5ad'))!r}")
    if not file.parent.is_dir():
        raise InputError(f"There is no folder {file.parent}. Make it: `os.makedirs({str(file.parent)!r})`")
    if os.path.lexists(file):
        raise InputError(f"{file} is there already. Remove it first: `os.remove({str(file)!r})`")
    return file


def new_matrix(group: h5py.Group, name: str, shape: tuple[int, int]) -> h5py.Dataset:
    """Begin a dense float32 matrix of an .h5ad, chunked by rows, in place of what is there."""
    if name in group:
        del group[name]
    rows_a_chunk = min(shape[0], max(1, CHUNK_BYTES // (4 * max(1, shape[1]))))
    chunks = (rows_a_chunk, shape[1]) if min(shape) else None
    matrix = group.create_dataset(name, shape, np.float32, chunks=chunks)
    matrix.attrs["encoding-type"], matrix.attrs["encoding-version"] = "array", "0.2.0"
    return matrix


def write_table(path: Path, blocks: Iterator[np.ndarray], cells: np.ndarray, features: np.ndarray) -> None:
    """Write blocks of rows as ``X``; memory holds one block.

    Parameters
    ----------
    path
        A new file. It appears when it is complete; after an error nothing is left.
    blocks
        Consecutive rows, ``(B, G)`` each, N in all.
    cells, features
        Names, ``(N,)`` and ``(G,)``.
    """
    fresh = path.parent / f".{path.name}.tmp-{secrets.token_hex(8)}"
    try:
        AnnData(obs=pd.DataFrame(index=cells), var=pd.DataFrame(index=features)).write_h5ad(fresh)
        with h5py.File(fresh, "r+") as file:
            values = new_matrix(file, "X", (len(cells), len(features)))
            start = 0
            for block in blocks:
                values[start : start + len(block)] = block
                start += len(block)
        os.rename(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
