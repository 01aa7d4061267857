"""Imputed values as an AnnData, in memory or in a file, with a note of how they were made."""

from __future__ import annotations

import os
import secrets
from contextlib import closing
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.io import write_elem

from multiomics_vae.analysis.imputed import ImputedBlock, Prediction, gathered, imputed_blocks
from multiomics_vae.analysis.table_file import new_matrix
from multiomics_vae.errors import DeviceError

NOTE = "multivae_prediction"
STATUS = ("measured", "imputed")


def imputed_table(asked: Prediction) -> AnnData:
    """Predict, and put the answer into an AnnData.

    Raises
    ------
    DeviceError
        If memory runs out.
    """
    try:
        with closing(imputed_blocks(asked)) as blocks:
            found = gathered(blocks, asked)
    except MemoryError as error:
        raise DeviceError(
            f"{len(asked.cells)} cells by {len(asked.features)} features, {1 + len(asked.layers)} times, do "
            "not fit the memory. Ask for fewer (indices=, features=), or write them to a file: "
            "model.write_imputed('imputed.h5ad', modality)"
        ) from error
    return AnnData(
        found.mean,
        obs=cells_table(asked, found),
        var=pd.DataFrame(index=asked.feature_names),
        layers=dict(zip(asked.layers, found.layers, strict=True)),
        uns={NOTE: note_of(asked)},
    )


def write_imputed_table(path: Path, asked: Prediction) -> None:
    """Predict, and write the answer into an .h5ad file; memory holds one block of cells.

    Parameters
    ----------
    path
        A new file. It appears when it is complete; after an error nothing is left.
    asked
        What to predict.
    """
    fresh = path.parent / f".{path.name}.tmp-{secrets.token_hex(8)}"
    shape = len(asked.cells), len(asked.features)
    latent = np.empty((2, len(asked.cells)), np.float32)
    try:
        names = pd.DataFrame(index=asked.data.cell_names[asked.cells])
        frame = AnnData(obs=names, var=pd.DataFrame(index=asked.feature_names), uns={NOTE: note_of(asked)})
        frame.write_h5ad(fresh)
        with h5py.File(fresh, "r+") as file, closing(imputed_blocks(asked)) as blocks:
            mean = new_matrix(file, "X", shape)
            layers = [new_matrix(file["layers"], name, shape) for name in asked.layers]
            start = 0
            for block in blocks:
                here = slice(start, start + len(block.mean))
                mean[here] = block.mean
                for layer, values in zip(layers, block.layers, strict=True):
                    layer[here] = values
                latent[:, here] = block.latent_sd, block.latent_entropy
                start = here.stop
            empty = np.empty((0, 0), np.float32)
            write_elem(file, "obs", cells_table(asked, ImputedBlock(empty, (), latent[0], latent[1])))
        os.rename(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def cells_table(asked: Prediction, found: ImputedBlock) -> pd.DataFrame:
    """What is said of whole cells: whether they were measured, and how surely they were placed."""
    status = pd.Categorical(np.where(asked.is_measured, *STATUS), categories=list(STATUS))
    return pd.DataFrame(
        {"status": status, "latent_sd": found.latent_sd, "latent_entropy": found.latent_entropy},
        index=asked.data.cell_names[asked.cells],
    )


def note_of(asked: Prediction) -> dict[str, Any]:
    """How the values were made, in types that a file can hold."""
    schema, direction = asked.data.schema, asked.direction
    reads_depth = asked.module.likelihoods[direction.modality].reads_depth
    depth = "plays no part"
    if reads_depth:
        depth = "each cell's own"
        if asked.depth is not None:
            source = asked.depth.learned_from.description
            depth = f"drawn, log-normal with standard deviation {asked.depth.sd:.3g}, {source}"
    given = range(len(schema.modalities)) if direction.given is None else direction.given
    batches: list[str] = []
    if asked.batches is not None and schema.batch is not None:
        batches = [schema.batch.categories[code] for code in asked.batches]
    return {
        "modality": schema.modality_names[direction.modality],
        "given": np.asarray([schema.modality_names[m] for m in given], dtype=object),
        "depth": depth,
        "transform_batch": np.asarray(batches, dtype=object),
        "n_samples": asked.n_samples,
        "seed": asked.seed,
        "quantiles": np.asarray(asked.quantiles, dtype=np.float64),
        "calibrated": asked.level_map is not None,
        "intervals": "split-conformal, on held-out cells"
        if asked.level_map is not None
        else "as the model has them",
    }
