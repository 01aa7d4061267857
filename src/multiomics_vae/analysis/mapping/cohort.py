"""What new cells share among themselves and with no known cell.

One cell of an unknown type differs from the known ones that lie where it lies by little in each of many
features, too little to be seen in the cell. All cells of the type differ in the same ones. So new cells
around a place are held against as many known cells around it (`contrast.py`), and a cell is asked whether
its own values speak for the new cells' profile or for the known ones': Σ_g x_g β_g − Σ_g e_g γ_g, and the
mean of that over the new cells next to it. Where the new cells are only more, and not others, the profiles
are much the same and little speaks for either; only of a type with fewer cells than a neighbourhood has does
its share in the two profiles matter.

β and γ are kept at some hundreds of places, each from 20 to 150 new cells, never from one. A new cell is
scored by those that were learned without it (five folds).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from multiomics_vae.analysis.mapping.contrast import Measured
from multiomics_vae.errors import CheckpointError

N_FOLDS, N_AROUND = 5, 15
WHOLE = ("features", "keys", "folds")


@dataclass(frozen=True, eq=False)
class Cohort:
    """New cells against known ones, in one modality.

    Parameters
    ----------
    features
        Positions, ``(G,)``.
    anchors
        Places in the latent space, ``(A, K)``.
    slope, constant
        β and γ there, of each fold, ``(5, A, G)`` and ``(5, A, E)``.
    latent
        E[z | x_A] of the new cells, ``(n, K)``.
    keys
        `name_keys` of the new cells, ``(n,)``, int64.
    folds
        In which fold each of them is, ``(n,)``.
    ratios
        Log likelihood ratio of each, ``(n,)``.
    held_out
        `scores` of held-out cells of the reference, as new cells beside known ones, ``(V,)``.
    """

    features: np.ndarray
    anchors: np.ndarray
    slope: np.ndarray
    constant: np.ndarray
    latent: np.ndarray
    keys: np.ndarray
    folds: np.ndarray
    ratios: np.ndarray
    held_out: np.ndarray

    def scores(self, latent: np.ndarray, cells: Measured, keys: np.ndarray) -> np.ndarray:
        """Log likelihood ratio of each cell, and the mean of those of the new cells next to it: ``(N,)``.

        Parameters
        ----------
        latent
            E[z | x_A], ``(N, K)``.
        cells
            What they show of `features`.
        keys
            Of the cells' names, ``(N,)``: a new cell is scored by its own fold, others by all.
        """
        order = np.argsort(self.keys)
        place = np.searchsorted(self.keys, keys, sorter=order).clip(max=len(order) - 1)
        own = order[place]  # (N,)
        fold = np.where(self.keys[own] == keys, self.folds[own], -1)
        near = nearest(self.latent, latent, N_AROUND + 1)  # (N, 16)
        # Not the cell itself, and where it is not among them not the last.
        others = self.keys[near] != keys[:, None]
        others[others.all(axis=1), -1] = False
        around = (self.ratios[near] * others).sum(axis=1) / np.maximum(others.sum(axis=1), 1)
        found: np.ndarray = self.ratios_of(latent, cells, fold) + around
        return found

    def ratios_of(self, latent: np.ndarray, cells: Measured, folds: np.ndarray) -> np.ndarray:
        """Log likelihood ratio of cells in some folds, ``(N,)``; -1 takes the average of all folds."""
        slope, constant = (
            np.concatenate([each, each.mean(axis=0)[None]]) for each in (self.slope, self.constant)
        )
        anchor = nearest(self.anchors, latent, 1)[:, 0]
        values = cells.values
        rows = np.repeat(np.arange(len(anchor)), np.diff(values.indptr))
        terms = values.data * slope[folds[rows], anchor[rows], values.indices]
        spoken = np.bincount(rows, weights=terms, minlength=len(anchor))
        found: np.ndarray = spoken - (cells.exposure * constant[folds, anchor]).sum(axis=1, dtype=np.float64)
        return found

    def to_tensors(self) -> dict[str, Tensor]:
        """All of it by name, for a checkpoint."""
        return {
            name: torch.from_numpy(np.asarray(value, dtype=np.int64 if name in WHOLE else np.float32))
            for name, value in vars(self).items()
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], n_features: int, n_latent: int) -> Cohort:
        """The inverse of `to_tensors`, believing nothing.

        Raises
        ------
        CheckpointError
            For a missing name and a size, type, position or number that cannot be.
        """
        if set(tensors) != set(cls.__dataclass_fields__):
            raise CheckpointError(
                "The saved query does not hold what its cells share as this version keeps it, but "
                f"{sorted(tensors)}. "
                "Map its cells again: MultiVAE.map_query(mdata, reference)"
            )
        values = {name: tensor.numpy() for name, tensor in tensors.items()}
        n_chosen, n_new = values["features"].size, values["keys"].size
        n_anchors = len(values["anchors"]) if values["anchors"].ndim else 0
        n_exposures = values["constant"].shape[-1] if values["constant"].ndim else 0
        shapes = {
            "features": (n_chosen,),
            "anchors": (n_anchors, n_latent),
            "slope": (N_FOLDS, n_anchors, n_chosen),
            "constant": (N_FOLDS, n_anchors, n_exposures),
            "latent": (n_new, n_latent),
            "keys": (n_new,),
            "folds": (n_new,),
            "ratios": (n_new,),
            "held_out": (values["held_out"].size,),
        }
        fits = n_exposures in (1, n_chosen) and all(
            values[name].shape == shape and values[name].dtype == (np.int64 if name in WHOLE else np.float32)
            for name, shape in shapes.items()
        )
        inside = fits and min(n_chosen, n_anchors, n_new) > 0
        for name, end in (("features", n_features), ("folds", N_FOLDS)):
            inside = inside and bool(values[name].min() >= 0) and bool(values[name].max() < end)
        if not (inside and all(np.isfinite(each).all() for each in values.values())):
            raise CheckpointError(
                "What the saved query learned does not fit the model. Save the query again."
            )
        return cls(**values)


def nearest(latent: np.ndarray, places: np.ndarray, n: int) -> np.ndarray:
    """Positions of the n cells nearest to each place, or of all where there are fewer: ``(A, n)``."""
    search = NearestNeighbors(n_neighbors=min(n, len(latent))).fit(latent)
    found: np.ndarray = search.kneighbors(places, return_distance=False)
    return found
