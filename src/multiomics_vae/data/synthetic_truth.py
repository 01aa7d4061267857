"""What a simulated modality is, and the truth that comes with simulated cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from mudata import MuData
from numpy.typing import NDArray

from multiomics_vae.errors import InputError, did_you_mean

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Kind = Literal["counts", "binary", "real"]
KINDS: tuple[Kind, ...] = ("counts", "binary", "real")


@dataclass(frozen=True)
class SyntheticModality:
    """What one modality measures.

    Parameters
    ----------
    name
        Key in the MuData.
    n_features
        F.
    kind
        ``"counts"``: negative binomial with mean depth · softmax(η); ``"binary"``: Bernoulli with logits
        η; ``"real"``: normal with mean η.
    loading_sd
        Standard deviation of the loadings over features and latent dimensions: strength of the signal.
    depth
        Median library size of a cell, counts only.
    depth_sd
        Standard deviation of the log library size, counts only.
    inverse_dispersion
        θ of the negative binomial, variance = mean + mean²/θ; ``inf`` is Poisson. Counts only.
    mean_open
        Share of ones at z = 0 for a feature of average intercept, in (0, 1), binary only.
    noise_sd
        Standard deviation of the noise, real only.

    Raises
    ------
    InputError
        If a value is out of range.

    Examples
    --------
    >>> SyntheticModality("atac", 200, kind="binary").mean_open
    0.1
    """

    name: str
    n_features: int
    kind: Kind = "counts"
    loading_sd: float = 0.5
    depth: float = 2000.0
    depth_sd: float = 0.3
    inverse_dispersion: float = 5.0
    mean_open: float = 0.1
    noise_sd: float = 0.5

    def __post_init__(self) -> None:
        where = f"modality {self.name!r}"
        if self.kind not in KINDS:
            raise InputError(f"{where} is of kind {self.kind!r}. {did_you_mean(self.kind, KINDS)}")
        if self.n_features < 1:
            raise InputError(
                f"{where} has n_features={self.n_features!r}, must be at least 1: n_features=100"
            )
        if not 0.0 < self.mean_open < 1.0:
            raise InputError(f"{where} has mean_open={self.mean_open!r}, must be in (0, 1): mean_open=0.1")
        if not (self.depth > 0.0 and self.inverse_dispersion > 0.0):
            raise InputError(
                f"{where} has depth={self.depth!r}, inverse_dispersion={self.inverse_dispersion!r}, "
                "both must be positive: depth=2000.0, inverse_dispersion=5.0"
            )
        if not (self.loading_sd >= 0.0 and self.depth_sd >= 0.0 and self.noise_sd >= 0.0):
            raise InputError(
                f"{where} has loading_sd={self.loading_sd!r}, depth_sd={self.depth_sd!r}, "
                f"noise_sd={self.noise_sd!r}, none may be negative: use 0.0"
            )


@dataclass(frozen=True)
class ModalityTruth:
    """The parameters of one modality and all that it would have measured, had no cell lacked it.

    η = intercept + batch_shift[batch] + h(z) loadingsᵀ, h being `decoder_input`.

    Parameters
    ----------
    name
        Of the modality.
    loadings
        ``(F, K)``.
    intercept
        ``(F,)``.
    batch_shift
        ``(n_batches, F)``; each feature's shifts sum to 0.
    mean
        E[x | z, batch, library] of every cell, ``(N, F)``.
    library
        Expected sum of each cell's counts, ``(N,)``; ones for other kinds.
    values
        What was drawn for every cell, missing or not, ``(N, F)``.
    present
        Which cells the MuData has this modality for, ``(N,)``, bool.
    """

    name: str
    loadings: FloatArray
    intercept: FloatArray
    batch_shift: FloatArray
    mean: FloatArray
    library: FloatArray
    values: FloatArray
    present: NDArray[np.bool_]


@dataclass(frozen=True)
class SyntheticData:
    """A drawn data set and the truth behind it; rows are in the order of ``mdata.obs_names``.

    Parameters
    ----------
    mdata
        What a model may see; ``obs`` has ``cell_type`` and ``batch``.
    z
        Latent state, ``(N, K)``; its expected mean is 0, its expected variance 1.
    cell_type, batch
        Codes, ``(N,)``; ``obs`` has them as ``type_0``, ``batch_0``, ….
    mixing
        Rotation inside `decoder_input`, ``(K, K)``.
    modalities
        Truth of each modality, in the given order.
    """

    mdata: MuData
    z: FloatArray
    cell_type: IntArray
    batch: IntArray
    mixing: FloatArray
    modalities: tuple[ModalityTruth, ...]

    def truth(self, name: str) -> ModalityTruth:
        """Find the truth of one modality.

        Parameters
        ----------
        name
            As the MuData has it.

        Raises
        ------
        InputError
            If there is no such modality.

        Examples
        --------
        >>> data = simulate(10, (SyntheticModality("rna", 100),), n_latent=2)  # doctest: +SKIP
        >>> data.truth("rna").loadings.shape  # doctest: +SKIP
        (100, 2)
        """
        found = {modality.name: modality for modality in self.modalities}
        if name not in found:
            raise InputError(f"There is no modality {name!r} in the simulation. {did_you_mean(name, found)}")
        return found[name]
