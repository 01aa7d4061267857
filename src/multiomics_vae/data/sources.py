"""Where a matrix stands in the user's MuData, so that every error can name the place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from multiomics_vae.errors import InputError, did_you_mean

Matrix = sp.csr_matrix | np.ndarray

_SHOWN = 5


def shown(names: object) -> str:
    """First few of many names, and how many there are: ``'a', 'b', … (7 in all)``."""
    listed = [str(name) for name in names]  # type: ignore[attr-defined]
    text = ", ".join(repr(name) for name in listed[:_SHOWN])
    return text if len(listed) <= _SHOWN else f"{text}, … ({len(listed)} in all)"


@dataclass(frozen=True)
class Source:
    """One matrix of one modality: its address, and the names of its rows and columns.

    Parameters
    ----------
    modality
        Name of the modality.
    layer
        Name of the layer; None means ``X``.
    cells, features
        ``obs_names`` and ``var_names`` of the modality.
    """

    modality: str
    layer: str | None
    cells: pd.Index
    features: pd.Index

    def __str__(self) -> str:
        modality = f"mdata[{self.modality!r}]"
        return f"{modality}.X" if self.layer is None else f"{modality}.layers[{self.layer!r}]"

    def with_features(self, features: Sequence[str]) -> Source:
        """Same place, its columns put in another order."""
        return replace(self, features=pd.Index(features))

    def entry(self, row: int, column: int) -> str:
        """Name one entry: ``cell 'c1', feature 'g2'``."""
        return f"cell {str(self.cells[row])!r}, feature {str(self.features[column])!r}"


def source_of(adata: Any, modality: str, layer: str | None) -> Source:
    """Address of ``X`` or of a layer of one modality."""
    return Source(modality, layer, adata.obs_names, adata.var_names)


def raw_values(adata: Any, source: Source) -> object:
    """Fetch the matrix as the user stored it.

    Raises
    ------
    InputError
        If the layer is missing, or ``X`` is None; the layers that exist are listed.
    """
    layers = [str(layer) for layer in adata.layers]
    if source.layer is not None:
        if source.layer not in layers:
            raise InputError(
                f"{source} does not exist. {did_you_mean(source.layer, layers)} "
                f"To use X, leave {source.modality!r} out of `layers`; to add it: "
                f"`{source} = …`."
            )
        return adata.layers[source.layer]
    if adata.X is None:
        listed = shown(layers) if layers else "none"
        pick = layers[0] if layers else "counts"
        raise InputError(
            f"{source} is None. Layers that exist: {listed}. "
            f'Name one: `layers={{"{source.modality}": "{pick}"}}`.'
        )
    return adata.X
