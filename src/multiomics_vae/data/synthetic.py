"""Cells drawn from a known model, so that what is inferred can be compared with the truth."""

from __future__ import annotations

import mudata
import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData
from numpy.random import Generator
from numpy.typing import NDArray

from multiomics_vae.data.synthetic_truth import (
    FloatArray,
    IntArray,
    ModalityTruth,
    SyntheticData,
    SyntheticModality,
)
from multiomics_vae.errors import InputError

__all__ = ["ModalityTruth", "SyntheticData", "SyntheticModality", "decoder_input", "simulate"]


def decoder_input(z: FloatArray, mixing: FloatArray, curvature: float) -> FloatArray:
    """What the loadings are applied to: h(z) = z + curvature · tanh(2 z R).

    Parameters
    ----------
    z
        Latent state, ``(N, K)``.
    mixing
        Rotation R, ``(K, K)``, as `SyntheticData` has it.
    curvature
        As given to `simulate`; at 0 h(z) is z.

    Returns
    -------
    ndarray
        ``(N, K)``.

    Examples
    --------
    >>> decoder_input(np.array([[1.0, -2.0]]), np.eye(2), curvature=0.0)
    array([[ 1., -2.]])
    """
    return z + curvature * np.tanh(2.0 * z @ mixing)


def simulate(
    n_cells: int,
    modalities: tuple[SyntheticModality, ...],
    n_latent: int,
    *,
    n_types: int = 5,
    type_share: float = 0.8,
    n_batches: int = 1,
    batch_effect: float = 0.0,
    missing: float | tuple[float, ...] = 0.0,
    curvature: float = 0.0,
    seed: int = 0,
) -> SyntheticData:
    """Draw cells of several types and batches, measured in several ways, some of them missing.

    z = √s · centre[type] + √(1 − s) · ε with centre, ε ~ N(0, I) and s = ``type_share``; z = ε for one
    type. For each modality η = intercept + batch shift + h(z) Wᵀ, and x is drawn as its kind says. Types,
    batches and missing entries are independent of each other.

    Parameters
    ----------
    n_cells
        N.
    modalities
        One or more, with different names.
    n_latent
        K.
    n_types, n_batches
        Sizes of the groups are multinomial with equal chances.
    type_share
        Share s of the variance of z that lies between types, in [0, 1].
    batch_effect
        Standard deviation over features and batches of the shift of η.
    missing
        Share of the cells that lack a modality: one number for all, or one for each. Exact up to rounding;
        every cell keeps at least one modality.
    curvature
        0 is a linear decoder, 1 a clearly curved one.
    seed
        Of all draws; the global random state is neither read nor changed.

    Returns
    -------
    SyntheticData
        The MuData, counts and ones as float32 CSR, real values as dense float32; and the truth.

    Raises
    ------
    InputError
        If an argument is out of range.

    Examples
    --------
    >>> rna, atac = SyntheticModality("rna", 100), SyntheticModality("atac", 200, kind="binary")
    >>> simulate(500, (rna, atac), n_latent=4, missing=(0.0, 0.2), seed=1).mdata["atac"].n_obs
    400
    """
    missing_shares = (missing,) * len(modalities) if isinstance(missing, int | float) else tuple(missing)
    _check_modalities(modalities)
    _check_sizes(n_cells, n_latent, n_types, n_batches)
    _check_range("type_share", type_share, 0.0, 1.0)
    _check_range("batch_effect", batch_effect, 0.0, np.inf)
    _check_range("curvature", curvature, 0.0, np.inf)
    _check_missing(missing_shares, n_cells, modalities)
    generator = np.random.default_rng(seed)
    cell_type = generator.integers(n_types, size=n_cells)  # (N,)
    batch = generator.integers(n_batches, size=n_cells)  # (N,)
    z = _draw_latent(cell_type, n_types, n_latent, type_share, generator)  # (N, K)
    mixing = np.linalg.qr(generator.standard_normal((n_latent, n_latent)))[0]  # (K, K)
    signal = decoder_input(z, mixing, curvature)  # (N, K)
    present = _draw_presence(n_cells, missing_shares, generator)  # (N, M)
    truths = tuple(
        _draw_modality(modality, signal, batch, n_batches, batch_effect, present[:, m], generator)
        for m, modality in enumerate(modalities)
    )
    mdata = _as_mudata(modalities, truths, cell_type, batch)
    return SyntheticData(mdata, z, cell_type, batch, mixing, truths)


def _draw_latent(
    cell_type: IntArray, n_types: int, n_latent: int, type_share: float, generator: Generator
) -> FloatArray:
    within = generator.standard_normal((len(cell_type), n_latent))  # (N, K)
    if n_types == 1:
        return within
    centres = generator.standard_normal((n_types, n_latent))
    z: FloatArray = np.sqrt(type_share) * centres[cell_type] + np.sqrt(1.0 - type_share) * within  # (N, K)
    return z


def _draw_presence(n_cells: int, missing: tuple[float, ...], generator: Generator) -> NDArray[np.bool_]:
    """Which cell has which modality, ``(N, M)``: exact shares, and no cell without any.

    Each modality is taken from random cells. A cell that lost all of them then gets one back, and another
    cell that has that modality and a second one loses it instead.
    """
    present = np.ones((n_cells, len(missing)), dtype=bool)  # (N, M)
    for m, share in enumerate(missing):
        present[generator.permutation(n_cells)[: round(share * n_cells)], m] = False
    for m in generator.permutation(len(missing)):
        empty = np.flatnonzero(~present.any(1))
        givers = np.flatnonzero(present[:, m] & (present.sum(1) > 1))
        n_swaps = min(len(empty), len(givers))
        present[generator.permutation(empty)[:n_swaps], m] = True
        present[generator.permutation(givers)[:n_swaps], m] = False
    return present


def _draw_modality(
    modality: SyntheticModality,
    signal: FloatArray,
    batch: IntArray,
    n_batches: int,
    batch_effect: float,
    present: NDArray[np.bool_],
    generator: Generator,
) -> ModalityTruth:
    n_cells, n_latent = signal.shape
    loadings = modality.loading_sd * generator.standard_normal((modality.n_features, n_latent))  # (F, K)
    average = np.log(modality.mean_open / (1.0 - modality.mean_open)) if modality.kind == "binary" else 0.0
    intercept = average + generator.standard_normal(modality.n_features)  # (F,)
    shift = batch_effect * generator.standard_normal((n_batches, modality.n_features))  # (n_batches, F)
    shift -= shift.mean(0)
    linear = intercept + shift[batch] + signal @ loadings.T  # (N, F)
    library = np.ones(n_cells)
    if modality.kind == "counts":
        library = modality.depth * np.exp(modality.depth_sd * generator.standard_normal(n_cells))  # (N,)
        proportion = np.exp(linear - linear.max(1, keepdims=True))  # (N, F)
        mean = library[:, None] * proportion / proportion.sum(1, keepdims=True)  # (N, F)
        values = _draw_counts(mean, modality.inverse_dispersion, generator)
    elif modality.kind == "binary":
        mean = 1.0 / (1.0 + np.exp(-linear))  # (N, F)
        values = (generator.random(mean.shape) < mean).astype(np.float64)  # (N, F)
    else:
        mean = linear
        values = mean + modality.noise_sd * generator.standard_normal(mean.shape)  # (N, F)
    return ModalityTruth(modality.name, loadings, intercept, shift, mean, library, values, present)


def _draw_counts(mean: FloatArray, inverse_dispersion: float, generator: Generator) -> FloatArray:
    rate = mean  # (N, F)
    if np.isfinite(inverse_dispersion):
        rate = generator.gamma(inverse_dispersion, mean / inverse_dispersion)  # (N, F)
    return generator.poisson(rate).astype(np.float64)  # (N, F)


def _as_mudata(
    modalities: tuple[SyntheticModality, ...],
    truths: tuple[ModalityTruth, ...],
    cell_type: IntArray,
    batch: IntArray,
) -> MuData:
    names = pd.Index([f"cell_{i:0{len(str(len(batch)))}d}" for i in range(len(batch))])
    parts = {}
    for modality, truth in zip(modalities, truths, strict=True):
        values = truth.values[truth.present].astype(np.float32)  # (N_m, F)
        parts[truth.name] = AnnData(
            values if modality.kind == "real" else sp.csr_matrix(values),
            obs=pd.DataFrame(index=names[truth.present]),
            var=pd.DataFrame(index=[f"{truth.name}:{i}" for i in range(modality.n_features)]),
        )
    with mudata.set_options(pull_on_update=False):
        mdata = MuData(parts)
        if not mdata.obs_names.equals(names):
            mdata = mdata[names].copy()
    mdata.obs["cell_type"] = pd.Categorical([f"type_{code}" for code in cell_type])
    mdata.obs["batch"] = pd.Categorical([f"batch_{code}" for code in batch])
    return mdata


def _check_range(what: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InputError(f"{what} is {value!r}, must be in [{low:g}, {high:g}]: {what}={max(low, 0.1):g}")


def _check_sizes(n_cells: int, n_latent: int, n_types: int, n_batches: int) -> None:
    sizes = {"n_cells": n_cells, "n_latent": n_latent, "n_types": n_types, "n_batches": n_batches}
    for what, size in sizes.items():
        if size < 1:
            raise InputError(f"{what} is {size!r}, must be at least 1: {what}=1")


def _check_modalities(modalities: tuple[SyntheticModality, ...]) -> None:
    if not modalities:
        raise InputError('modalities is empty: modalities=(SyntheticModality("rna", 100),)')
    names = [modality.name for modality in modalities]
    if len(set(names)) < len(names):
        raise InputError(
            f"modalities have the names {names}, must differ: give each SyntheticModality its own"
        )


def _check_missing(
    missing: tuple[float, ...], n_cells: int, modalities: tuple[SyntheticModality, ...]
) -> None:
    if len(missing) != len(modalities):
        raise InputError(
            f"missing has {len(missing)} shares for {len(modalities)} modalities: "
            f"missing={(0.1,) * len(modalities)}"
        )
    for modality, share in zip(modalities, missing, strict=True):
        if not 0.0 <= share < 1.0:
            raise InputError(f"missing is {share!r} for {modality.name!r}, must be in [0, 1): missing=0.1")
    n_present = sum(n_cells - round(share * n_cells) for share in missing)
    if n_present < n_cells:
        raise InputError(
            f"missing is {missing}: with these shares some of the {n_cells} cells have no modality at all. "
            f"Their sum must be at most {len(missing) - 1}: missing={(0.1,) * len(missing)}"
        )
