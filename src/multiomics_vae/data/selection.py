"""Which cells, features and modalities an answer is about, from whatever a user names them by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.schema import ModalitySchema, Schema
from multiomics_vae.errors import InputError, did_you_mean
from multiomics_vae.likelihoods import LIKELIHOODS

CellSelection = Sequence[int] | Sequence[bool] | Sequence[str] | np.ndarray | None


def select_cells(data: MultimodalData, indices: CellSelection) -> np.ndarray:
    """Positions of the cells named by positions, a boolean mask, or cell names; None means all.

    Raises
    ------
    InputError
        For a mask of the wrong length, a position outside the data, or an unknown name.
    """
    n = data.n_cells
    if indices is None:
        return np.arange(n)
    chosen = np.asarray(indices)
    if chosen.ndim != 1:
        raise InputError(f"indices must be one list, not an array of shape {chosen.shape}: indices=[0, 1, 2]")
    if chosen.dtype == bool:
        if len(chosen) != n:
            raise InputError(
                f"indices is a mask of {len(chosen)} entries, but there are {n} cells: "
                "indices=(mdata.obs['batch'] == 'a').to_numpy()"
            )
        return np.flatnonzero(chosen)
    if len(chosen) == 0:
        return np.empty(0, dtype=np.int64)
    if chosen.dtype.kind in "iu":
        chosen = chosen.astype(np.int64)  # a small type could not hold n
        if chosen.min() < -n or chosen.max() >= n:
            raise InputError(
                f"indices reaches {chosen.max() if chosen.max() >= n else chosen.min()}, but there "
                f"are {n} cells: indices=range({n})"
            )
        return np.asarray(np.where(chosen < 0, chosen + n, chosen), dtype=np.int64)
    found: np.ndarray = pd.Index(data.cell_names).get_indexer(pd.Index(chosen)).astype(np.int64)
    if (found < 0).any():
        name = chosen[int(np.argmax(found < 0))]
        raise InputError(
            f"indices names a cell {str(name)!r} that is not there ({int((found < 0).sum())} of "
            f"{len(chosen)} are unknown). {did_you_mean(name, data.cell_names[:50_000])}"
        )
    return found


def select_modality(schema: Schema, name: str) -> tuple[int, ModalitySchema]:
    """Position and description of a modality."""
    if name not in schema.modality_names:
        raise InputError(f"There is no modality {name!r}. {did_you_mean(name, schema.modality_names)}")
    position = schema.modality_names.index(name)
    return position, schema.modalities[position]


def only_modality(schema: Schema, transform: str, kind: str) -> str:
    """Name of the only modality whose kind of data asks for an input transform.

    Raises
    ------
    InputError
        If there is none, or more than one.
    """
    names = [m.name for m in schema.modalities if LIKELIHOODS[m.likelihood].default_transform == transform]
    if len(names) == 1:
        return names[0]
    found = f"There are {len(names)} modalities of {kind} ({names})" if names else f"There is no {kind}"
    example = (names or list(schema.modality_names))[0]
    raise InputError(f"{found}. Say which modality you mean: model.get_normalized({example!r})")


def select_modalities(
    schema: Schema, names: Iterable[str] | None, argument: str = "modalities"
) -> tuple[int, ...] | None:
    """Positions of the modalities that ``argument`` names; None stays None, all that a cell has."""
    if names is None:
        return None
    if isinstance(names, str):
        raise InputError(f"{argument} must be a list: {argument}=[{names!r}]")
    chosen = tuple(sorted({select_modality(schema, name)[0] for name in names}))
    if not chosen:
        raise InputError(
            f"{argument} is empty; without evidence every cell is the prior. "
            f"Name some: {argument}=[{schema.modality_names[0]!r}]"
        )
    return chosen


def select_features(modality: ModalitySchema, features: Iterable[str] | None) -> np.ndarray:
    """Positions of features given by name, in the order given; None means all."""
    if features is None:
        return np.arange(modality.n_features)
    if isinstance(features, str):
        raise InputError(f"features must be a list: features=[{features!r}]")
    wanted = pd.Index(list(features), dtype=object)
    found = pd.Index(modality.features).get_indexer(wanted)
    if (found < 0).any():
        name = wanted[int(np.argmax(found < 0))]
        raise InputError(
            f"{modality.name!r} has no feature {name!r} ({int((found < 0).sum())} of {len(wanted)} "
            f"are unknown). {did_you_mean(name, modality.features)}"
        )
    return found.astype(np.int64)


def select_batches(schema: Schema, batches: str | Sequence[str] | None) -> tuple[int, ...] | None:
    """Codes of one or several batches; None stays None, which means each cell's own."""
    if batches is None:
        return None
    if schema.batch is None:
        raise InputError(
            "transform_batch needs a batch, and none was registered: "
            "MultiVAE.setup_mudata(mdata, batch_key='donor')"
        )
    listed = [batches] if isinstance(batches, str) or not isinstance(batches, Iterable) else list(batches)
    names = [str(batch) for batch in listed]
    if not names:
        raise InputError(
            f"transform_batch is empty. Name a batch: transform_batch={schema.batch.categories[0]!r}"
        )
    allowed = schema.batch.categories
    for name in names:
        if name not in allowed:
            raise InputError(
                f"There is no batch {name!r} in {schema.batch.key!r}. {did_you_mean(name, allowed)}"
            )
    return tuple(allowed.index(name) for name in names)
