"""Which features and categories other cells may lack, or have beyond those of a fitted model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

from multiomics_vae.data import columns
from multiomics_vae.data.gaps import FeatureNorms, Gaps
from multiomics_vae.data.matrices import take_columns
from multiomics_vae.data.schema import CategoricalCovariate, ModalitySchema, Schema
from multiomics_vae.data.sources import Matrix, shown
from multiomics_vae.data.stored import StoredMatrix, columns_of
from multiomics_vae.errors import InputError
from multiomics_vae.likelihoods import LIKELIHOODS

MASKED = ("real", "codes")


@dataclass(frozen=True, eq=False)
class Tolerance:
    """How many features of a modality may be missing, and what is known of those that are.

    Parameters
    ----------
    max_missing
        Largest share of the features of a modality.
    norms
        One a modality, of the cells that the model was trained on; None where no counts are modelled. Empty
        if nothing is known of those cells.
    """

    max_missing: float
    norms: tuple[FeatureNorms | None, ...] = ()

    def __post_init__(self) -> None:
        share = self.max_missing
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0.0 <= share < 1.0:
            raise InputError(
                f"max_missing is a share of the features, from 0 to below 1, not {share!r}: max_missing=0.2"
            )

    def columns(self, entry: ModalitySchema, given: pd.Index) -> np.ndarray:
        """Position of every registered feature among the given ones, -1 for a missing one: ``(F,)``.

        Raises
        ------
        InputError
            If more are missing than may be, with the numbers.
        """
        wanted = given.get_indexer(pd.Index(entry.features)).astype(np.int64)
        missing = np.flatnonzero(wanted < 0)
        share = len(missing) / len(wanted)
        if share <= self.max_missing:
            return wanted
        names = [entry.features[place] for place in missing]
        needed = f"or take fewer features to be enough: max_missing={np.ceil(100 * share) / 100:g}"
        raise InputError(
            f"mdata[{entry.name!r}] lacks {len(missing)} of the {len(wanted)} features "
            f"({100 * share:.0f} %) that the model reads, and at most {100 * self.max_missing:g} % may be "
            f"missing: {shown(names)}. Check that the names are written in the same way "
            f"(mdata[{entry.name!r}].var_names); leave the modality out; "
            + (needed if share < 0.995 else "all of them are missing.")
        )

    def gaps(self, position: int, entry: ModalitySchema, wanted: np.ndarray) -> Gaps | None:
        """The missing features of counts; None where none is missing, or entries are masked one by one."""
        support = LIKELIHOODS[entry.likelihood].support
        if (wanted >= 0).all() or support not in ("counts", "binary"):
            return None
        norms = self.norms[position] if self.norms else None
        if norms is None:
            raise InputError(
                f"mdata[{entry.name!r}] lacks {int((wanted < 0).sum())} features, and the model does not "
                "know how they usually are, because it was saved by an older version. Give the cells that "
                "it was trained on: MultiVAE.map_query(mdata, reference, reference_mdata=reference_mdata)"
            )
        return Gaps(torch.from_numpy(wanted >= 0), norms)


def take_with_gaps(
    matrix: Matrix | StoredMatrix, wanted: np.ndarray, likelihood: str
) -> Matrix | StoredMatrix:
    """Columns in a wanted order; of those at -1 the entries are NaN if real, and 0 in counts.

    Raises
    ------
    InputError
        If some are missing from a matrix on disk.
    """
    there = np.flatnonzero(wanted >= 0)
    if len(there) == len(wanted):
        return columns_of(matrix, wanted)
    if isinstance(matrix, StoredMatrix):
        raise InputError(
            f"{matrix.source} is on disk and lacks features. Read it into memory: "
            "mdata = mudata.read_h5mu(path)"
        )
    taken = take_columns(matrix, wanted[there])
    shape = (taken.shape[0], len(wanted))
    if LIKELIHOODS[likelihood].support in MASKED:
        wide = np.full(shape, np.nan, dtype=np.float32)
        wide[:, there] = taken if isinstance(taken, np.ndarray) else taken.toarray()
        return wide
    if isinstance(taken, np.ndarray):
        wide = np.zeros(shape, dtype=taken.dtype)
        wide[:, there] = taken
        return wide
    # Rising positions keep the columns of a row sorted.
    return sp.csr_matrix((taken.data, there[taken.indices], taken.indptr), shape=shape)


def with_new_categories(mdata: Any, schema: Schema) -> tuple[Schema, tuple[int, ...]]:
    """A schema that also knows the categories of other cells, and how many of each covariate are new.

    Parameters
    ----------
    mdata
        The other cells.
    schema
        Of the fitted model; new categories come after its own.

    Returns
    -------
    tuple
        The schema, and numbers of new categories: of the batch, then of each categorical covariate.
    """
    batch, n_batch = schema.batch, 0
    if batch is not None:
        batch, n_batch = _extended(mdata, batch, "batch_key")
    pairs = [_extended(mdata, each, "categorical_covariate_keys") for each in schema.categorical]
    extended = replace(schema, batch=batch, categorical=tuple(each for each, _ in pairs))
    return extended, (n_batch, *(n for _, n in pairs))


def _extended(mdata: Any, covariate: CategoricalCovariate, role: str) -> tuple[CategoricalCovariate, int]:
    found = columns.categories_of(columns.find_column(mdata, covariate.key, role)).categories
    new = tuple(name for name in found if name not in covariate.categories)
    return replace(covariate, categories=covariate.categories + new), len(new)


def without_last(schema: Schema, n_new: tuple[int, ...]) -> Schema:
    """The schema before `with_new_categories`."""
    batch = schema.batch
    if batch is not None and n_new[0]:
        batch = replace(batch, categories=batch.categories[: -n_new[0]])
    categorical = tuple(
        replace(each, categories=each.categories[:-n]) if n else each
        for each, n in zip(schema.categorical, n_new[1:], strict=True)
    )
    return replace(schema, batch=batch, categorical=categorical)
