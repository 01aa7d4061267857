"""Small MuData objects for tests: a fixed one, and drawn ones with their clean counterpart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import anndata
import mudata
import numpy as np
import pandas as pd
import scipy.sparse as sp
from hypothesis import strategies as st

mudata.set_options(pull_on_update=False)

KINDS = ("counts", "binary", "real")
DTYPES = {
    "counts": ("float32", "float64", "int64", "int32", "uint8", "uint16", "float16"),
    "binary": ("float32", "float64", "bool", "uint8", "int64"),
    "real": ("float32", "float64"),
}
FORMS = ("csr", "csc", "csr_array", "csc_array", "dense", "fortran", "read_only", "strided")
ODD_FORMS = ("duplicates", "unsorted", "stored_zeros")
NAMES = ("rna", "atac", "prot", "..", "a/b", "a:b", "obs", "a.b", "ένζυμο", "with space")


def values_of(rng: np.random.Generator, kind: str, n_cells: int, n_features: int, zeros: float) -> np.ndarray:
    """Dense float32 values; every row and column has one that is not 0."""
    if kind == "real":
        return rng.normal(size=(n_cells, n_features)).astype(np.float32)
    high = 2 if kind == "binary" else 9
    values = rng.integers(1, high, size=(n_cells, n_features)) * (rng.random((n_cells, n_features)) >= zeros)
    values[np.arange(n_cells), np.arange(n_cells) % n_features] = 1
    if kind == "counts":
        values[0, 0] = 7
    return values.astype(np.float32)


def in_form(values: np.ndarray, dtype: str, form: str) -> object:
    """The same numbers, stored in another dtype and container."""
    typed = values.astype(dtype)
    if form in ("csr", "csc", "csr_array", "csc_array"):
        return getattr(sp, form if form.endswith("array") else f"{form}_matrix")(typed)
    if form == "duplicates":
        half = sp.csr_matrix(typed).tocoo()
        ones = np.ones_like(half.data)
        data = np.concatenate([half.data - ones, ones])
        rows, columns = np.tile(half.row, 2), np.tile(half.col, 2)
        order = np.argsort(rows, kind="stable")
        counts = np.bincount(rows, minlength=values.shape[0])
        indptr = np.concatenate([[0], np.cumsum(counts)])
        return sp.csr_matrix((data[order], columns[order], indptr), shape=values.shape)
    if form == "unsorted":
        csr = sp.csr_matrix(typed)
        for start, stop in zip(csr.indptr[:-1], csr.indptr[1:], strict=True):
            csr.indices[start:stop] = csr.indices[start:stop][::-1].copy()
            csr.data[start:stop] = csr.data[start:stop][::-1].copy()
        csr.has_sorted_indices = False
        return csr
    if form == "stored_zeros":
        rows, columns = np.indices(values.shape)
        indptr = np.arange(values.shape[0] + 1) * values.shape[1]
        return sp.csr_matrix((typed.ravel(), columns.ravel(), indptr), shape=values.shape)
    if form == "fortran":
        return np.asfortranarray(typed)
    if form == "strided":
        return np.repeat(typed, 2, axis=1)[:, ::2]
    if form == "read_only":
        typed.setflags(write=False)
    return typed


def modality(
    values: object, cells: Sequence[str], features: Sequence[str], **layers: object
) -> anndata.AnnData:
    """An AnnData of given values and names."""
    obs, var = pd.DataFrame(index=pd.Index(cells)), pd.DataFrame(index=pd.Index(features))
    return anndata.AnnData(values, obs=obs, var=var, layers=layers or None)


def make_mdata(
    n_cells: int = 12,
    kinds: Mapping[str, str] | None = None,
    n_features: int = 5,
    seed: int = 0,
    lacking: Mapping[str, Sequence[int]] | None = None,
) -> mudata.MuData:
    """RNA counts and 0/1 peaks by default, in CSR float32, with obs columns of every kind.

    ``lacking`` names, for a modality, the positions of the cells that it has not measured.
    """
    rng = np.random.default_rng(seed)
    cells = [f"c{i}" for i in range(n_cells)]
    mods = {}
    for name, kind in (kinds or {"rna": "counts", "atac": "binary"}).items():
        values = values_of(rng, kind, n_cells, n_features, zeros=0.6)
        kept = [i for i in range(n_cells) if i not in (lacking or {}).get(name, ())]
        stored = values[kept] if kind == "real" else sp.csr_matrix(values[kept])
        mods[name] = modality(stored, [cells[i] for i in kept], [f"{name}:f{j}" for j in range(n_features)])
    mdata = mudata.MuData(mods)
    position = np.array([int(name[1:]) for name in mdata.obs_names])
    mdata.obs["batch"] = pd.Categorical(np.where(position % 2 == 0, "b0", "b1"))
    mdata.obs["donor"] = [f"d{i % 3}" for i in position]
    mdata.obs["age"] = position.astype(float) * 3 + 20
    mdata.obs["factor"] = 0.5 + position / 10
    return mdata


@dataclass(frozen=True)
class Drawn:
    """A MuData that may be odd, its clean counterpart, and what to call the likelihoods."""

    odd_modalities: dict[str, anndata.AnnData]
    clean_modalities: dict[str, anndata.AnnData]
    likelihoods: dict[str, str]

    @property
    def odd(self) -> mudata.MuData:
        """A new MuData at every call: MuData draws from Python's global generator, as strategies must not."""
        return mudata.MuData(self.odd_modalities)

    @property
    def clean(self) -> mudata.MuData:
        return mudata.MuData(self.clean_modalities)


@st.composite
def mudatas(draw: st.DrawFn) -> Drawn:
    """Draw dtype × container × sparsity × row order × presence × names, and the clean object."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_cells = draw(st.integers(3, 9))
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
    cells = [f"c{i}" for i in range(n_cells)]
    odd, clean, likelihoods = {}, {}, {}
    for name in names:
        kind = draw(st.sampled_from(KINDS))
        values = values_of(rng, kind, n_cells, draw(st.integers(1, 6)), draw(st.floats(0, 0.95)))
        features = [f"f{j}" for j in range(values.shape[1])]
        kept = np.flatnonzero(rng.random(n_cells) < draw(st.sampled_from([1.0, 0.7])))
        if not len(kept):
            kept = np.arange(1)
        order = rng.permutation(kept) if draw(st.booleans()) else kept
        forms = FORMS + ODD_FORMS if kind == "counts" else FORMS
        form, dtype = draw(st.sampled_from(forms)), draw(st.sampled_from(DTYPES[kind]))
        if dtype == "float16" and form not in ("dense", "fortran", "read_only", "strided"):
            dtype = "float32"  # scipy has no sparse float16
        odd[name] = modality(in_form(values[order], dtype, form), [cells[i] for i in order], features)
        clean[name] = modality(values[kept], [cells[i] for i in kept], features)
        likelihoods[name] = {"counts": "nb", "binary": "bernoulli", "real": "gaussian"}[kind]
    return Drawn(odd, clean, likelihoods)
