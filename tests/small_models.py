"""Small MuData objects of every likelihood, driven by one latent state, and models trained on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mudata
import numpy as np
import pandas as pd
import scipy.sparse as sp

from multiomics_vae import MultiVAE
from multiomics_vae.likelihoods import LIKELIHOODS
from strategies import modality

SIZES: dict[str, Any] = {"n_latent": 3, "n_hidden": 16}
USUAL = {"rna": "nb", "atac": "bernoulli"}


def make_cells(
    likelihoods: Mapping[str, str] = USUAL,
    n_cells: int = 40,
    n_features: int = 10,
    lacking: Mapping[str, Sequence[int]] | None = None,
    missing_entries: bool = False,
    seed: int = 0,
) -> mudata.MuData:
    """Cells c0, c1, … whose modalities follow one two-dimensional state; obs has columns of every kind."""
    rng = np.random.default_rng(seed)
    state = rng.normal(size=(n_cells, 2))
    names = np.array([f"c{i}" for i in range(n_cells)])
    parts = {}
    for name, likelihood in likelihoods.items():
        values, layers = _draw(LIKELIHOODS[likelihood].support, rng, state, n_features)
        if missing_entries and LIKELIHOODS[likelihood].support == "real":
            values[rng.random(values.shape) < 0.2] = np.nan
        kept = np.setdiff1d(np.arange(n_cells), (lacking or {}).get(name, ()))
        features = [f"{name}:f{j}" for j in range(n_features)]
        stored = values[kept] if LIKELIHOODS[likelihood].support == "real" else sp.csr_matrix(values[kept])
        parts[name] = modality(
            stored, list(names[kept]), features, **{key: layer[kept] for key, layer in layers.items()}
        )
    mdata = mudata.MuData(parts)
    position = np.array([int(name[1:]) for name in mdata.obs_names])
    mdata.obs["batch"] = pd.Categorical(np.where(position % 2 == 0, "b0", "b1"))
    mdata.obs["donor"] = [f"d{i % 3}" for i in position]
    mdata.obs["age"] = 20.0 + 3.0 * position
    mdata.obs["factor"] = 0.5 + position / n_cells
    return mdata


def _draw(
    support: str, rng: np.random.Generator, state: np.ndarray, n_features: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    signal = state @ rng.normal(size=(2, n_features))  # (N, F)
    if support == "counts":
        return rng.poisson(np.exp(1.0 + 0.7 * signal)).astype(np.float32), {}
    if support == "binary":
        return (rng.random(signal.shape) < 1.0 / (1.0 + np.exp(-signal))).astype(np.float32), {}
    if support == "codes":
        return np.digitize(signal, [-0.7, 0.7]).astype(np.float32), {}
    if support == "fractions":
        coverage = rng.poisson(5.0, size=signal.shape)
        methylated = rng.binomial(coverage, 1.0 / (1.0 + np.exp(-signal)))
        return methylated.astype(np.float32), {"coverage": coverage.astype(np.float32)}
    return (signal + 0.3 * rng.normal(size=signal.shape)).astype(np.float32), {}


def register(mdata: mudata.MuData, likelihoods: Mapping[str, str] = USUAL, **options: Any) -> mudata.MuData:
    """Set cells of `make_cells` up, and return them."""
    covered = {name: "coverage" for name, each in likelihoods.items() if each == "beta_binomial"}
    MultiVAE.setup_mudata(mdata, likelihoods=likelihoods, coverage_layers=covered, **options)
    return mdata


def make_model(mdata: mudata.MuData | None = None, **choices: Any) -> MultiVAE:
    """A small model on registered cells; by default on the usual ones."""
    return MultiVAE(register(make_cells()) if mdata is None else mdata, **{**SIZES, **choices})


def train(model: MultiVAE, max_epochs: int = 2, **choices: Any) -> MultiVAE:
    """Train in silence on the processor."""
    return model.train(max_epochs, **{"batch_size": 16, "accelerator": "cpu", "progress": False, **choices})


def permuted(mdata: mudata.MuData, seed: int = 1) -> mudata.MuData:
    """The same cells with features and rows of every modality in another order."""
    rng = np.random.default_rng(seed)
    parts = {
        name: adata[rng.permutation(adata.n_obs), rng.permutation(adata.n_vars)].copy()
        for name, adata in mdata.mod.items()
    }
    shuffled = mudata.MuData(parts)
    shuffled.obs = mdata.obs.loc[shuffled.obs_names, ["batch", "donor", "age", "factor"]].copy()
    return shuffled


def fingerprint(holder: Any, place: str = "mdata") -> dict[str, Any]:
    """Everything that a MuData or AnnData holds, as plain values by place."""
    found: dict[str, Any] = {}
    for table in ("obs", "var"):
        frame = getattr(holder, table)
        found[f"{place}.{table}_names"] = tuple(frame.index)
        for column in frame.columns:
            found[f"{place}.{table}[{column}]"] = (str(frame[column].dtype), tuple(frame[column].astype(str)))
    for mapping in ("obsm", "varm", "obsp", "varp", "layers", "obsmap"):
        for key, value in (getattr(holder, mapping, None) or {}).items():
            found[f"{place}.{mapping}[{key}]"] = _plain(value)
    found[f"{place}.uns"] = repr(dict(holder.uns))
    if isinstance(holder, mudata.MuData):
        for name, adata in holder.mod.items():
            found |= fingerprint(adata, f"{place}[{name}]")
    else:
        found[f"{place}.X"] = _plain(holder.X)
    return found


def _plain(value: Any) -> Any:
    if sp.issparse(value):
        return (value.format, value.dtype, *(a.tobytes() for a in (value.data, value.indices, value.indptr)))
    array = np.asarray(value)
    return array.shape, array.dtype, array.tobytes()
