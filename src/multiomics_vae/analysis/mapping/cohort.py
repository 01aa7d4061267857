"""What new cells share among themselves and with no cell of the reference.

One cell of an unknown type differs from what the model expects in many features, by little in each. All
cells of the type differ in the same ones. So the leading directions of the new cells' residuals are found,
and a cell is strange if its neighbours along them are new cells and not known ones. Residuals, and not z,
because cells of a known type that is common among the new ones have none.

The directions are found in other new cells than those that are looked at (five folds), so that a cell does
not draw a direction to itself. What all new cells differ in is found too: a batch effect that the weights of
a new batch have not learned makes every new cell strange, and one that they have learned from cells of an
unknown type takes from all what these differ in. So this is for cells of the same laboratory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.extmath import randomized_svd
from torch import Tensor

from multiomics_vae.analysis.mapping.residuals import hidden_residuals
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.gaps import FeatureNorms
from multiomics_vae.errors import CheckpointError
from multiomics_vae.module import MultimodalModule

MOST_CELLS, MOST_FEATURES = 2_500, 2_000
FEWEST_CELLS = 50
N_DIRECTIONS, N_NEIGHBORS, N_FOLDS = 10, 100, 5
SMALLEST_SD = 0.05  # of a standardised residual, which has 1


@dataclass(frozen=True, eq=False)
class Cohort:
    """Directions of the new cells' residuals in one modality, and where known and new cells lie along them.

    Parameters
    ----------
    features
        Positions, ``(G,)``.
    scale
        Mean and standard deviation of the known cells' residuals, ``(2, G)``.
    directions
        Of each fold, ``(5, G, R)``; of unit variance among known cells.
    known, new
        Where cells lie, ``(5, n, R)`` each; the new ones of the other folds are not looked at.
    keys
        `name_keys` of the new cells, ``(n,)``, int64.
    folds
        In which fold each of them is, ``(n,)``.
    held_out
        Scores of held-out cells of the reference, ``(V,)``.
    """

    features: np.ndarray
    scale: np.ndarray
    directions: np.ndarray
    known: np.ndarray
    new: np.ndarray
    keys: np.ndarray
    folds: np.ndarray
    held_out: np.ndarray

    def scores(self, residuals: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """Log ratio of the shares of new and of known cells among the nearest: ``(N,)``.

        Parameters
        ----------
        residuals
            Of `features`, ``(N, G)``.
        keys
            Of the cells' names, ``(N,)``: a new cell is scored by its own fold, others by all.
        """
        order = np.argsort(self.keys)
        place = np.searchsorted(self.keys, keys, sorter=order).clip(max=len(order) - 1)
        fold = np.where(self.keys[order[place]] == keys, self.folds[order[place]], -1)  # (N,)
        x = (residuals - self.scale[0]) / self.scale[1]
        each = np.stack([self._of_fold(f, x @ self.directions[f]) for f in range(N_FOLDS)])  # (5, N)
        own = each[fold.clip(min=0), np.arange(len(x))]
        found: np.ndarray = np.where(fold >= 0, own, each.mean(axis=0))
        return found

    def _of_fold(self, fold: int, places: np.ndarray) -> np.ndarray:
        """Scores of cells that lie at some places along the directions of a fold, ``(N, R)``."""
        return _ratio(self.new[fold][self.folds != fold], self.known[fold], places)

    def to_tensors(self) -> dict[str, Tensor]:
        """All of it by name, for a checkpoint."""
        return {
            name: torch.from_numpy(
                np.asarray(value, dtype=np.float32 if value.dtype.kind == "f" else np.int64)
            )
            for name, value in vars(self).items()
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], n_features: int) -> Cohort:
        """The inverse of `to_tensors`, believing nothing.

        Raises
        ------
        CheckpointError
            For a missing name and a size, type or position that cannot be.
        """
        if set(tensors) != set(cls.__dataclass_fields__):
            raise CheckpointError(f"The saved query lacks parts of what it learned: {sorted(tensors)}.")
        values = {name: tensor.numpy() for name, tensor in tensors.items()}
        n_chosen, n_new = len(values["features"]), len(values["keys"])
        rank, n_known = values["directions"].shape[-1], values["known"].shape[1 % values["known"].ndim]
        shapes = {
            "features": (n_chosen,),
            "scale": (2, n_chosen),
            "directions": (N_FOLDS, n_chosen, rank),
            "known": (N_FOLDS, n_known, rank),
            "new": (N_FOLDS, n_new, rank),
            "keys": (n_new,),
            "folds": (n_new,),
            "held_out": (len(values["held_out"]),),
        }
        whole = ("features", "keys", "folds")
        fits = all(
            values[name].shape == shape and values[name].dtype == (np.int64 if name in whole else np.float32)
            for name, shape in shapes.items()
        )
        inside = fits and min(n_chosen, n_new, n_known) > 0
        for name, end in (("features", n_features), ("folds", N_FOLDS)):
            inside = inside and bool(values[name].min() >= 0) and bool(values[name].max() < end)
        if not inside:
            raise CheckpointError(
                "What the saved query learned does not fit the model. Save the query again."
            )
        return cls(**values)


def learn_cohort(
    module: MultimodalModule,
    new: MultimodalData,
    known: MultimodalData,
    held_out: MultimodalData,
    batch_size: int,
    modality: int,
    norms: FeatureNorms | None,
    keys: np.ndarray,
    seed: int = 0,
) -> Cohort | None:
    """Find what new cells share; None where they, or the known ones, are fewer than 50.

    Parameters
    ----------
    module, batch_size
        The query's model.
    new, known, held_out
        New cells, cells that the reference was trained on, and cells that it was not; in memory, all with
        the same modalities.
    modality, norms
        As for `hidden_log_likelihood`.
    keys
        `name_keys` of the new cells.
    seed
        Of folds and directions.
    """
    if min(new.n_cells, known.n_cells) < FEWEST_CELLS or not held_out.n_cells:
        return None
    features = _often_seen(module.likelihoods[modality].n_features, norms)
    rows = [
        hidden_residuals(module, data, batch_size, modality, features, norms)
        for data in (new, known, held_out)
    ]
    scale = np.stack([rows[1].mean(axis=0), rows[1].std(axis=0) + SMALLEST_SD])
    x, reference, others = ((each - scale[0]) / scale[1] for each in rows)
    folds = np.random.default_rng(seed).permutation(new.n_cells) % N_FOLDS
    rank = min(N_DIRECTIONS, len(features))
    directions = []
    for fold in range(N_FOLDS):
        # Not centred: what all new cells of a type share shows in their mean.
        right = randomized_svd(x[folds != fold], rank, n_iter=4, random_state=seed)[2].T  # (G, R)
        directions.append(right / np.maximum((reference @ right).std(axis=0), 1e-6))
    stacked = np.stack(directions)  # (5, G, R)
    none = np.zeros(held_out.n_cells, dtype=np.float32)
    cohort = Cohort(features, scale, stacked, reference @ stacked, x @ stacked, keys, folds, none)
    scores = np.mean([cohort._of_fold(f, others @ stacked[f]) for f in range(N_FOLDS)], axis=0)
    return replace(cohort, held_out=scores.astype(np.float32))


def _ratio(new: np.ndarray, known: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Log ratio of the shares of new and of known cells among the nearest of some places: ``(N,)``."""
    weights = np.r_[np.full(len(new), 1.0 / len(new)), np.full(len(known), 1.0 / len(known))]
    is_new = np.arange(len(weights)) < len(new)
    n_neighbors = min(N_NEIGHBORS, len(weights) // 2)
    search = NearestNeighbors(n_neighbors=n_neighbors).fit(np.vstack([new, known]))
    nearest = search.kneighbors(places, return_distance=False)  # (N, k)
    share, one = weights[nearest], 0.5 / len(known)
    of_new, of_known = (share * is_new[nearest]).sum(axis=1), (share * ~is_new[nearest]).sum(axis=1)
    found: np.ndarray = np.log(of_new + one) - np.log(of_known + one)
    return found


def _often_seen(n_features: int, norms: FeatureNorms | None) -> np.ndarray:
    if n_features <= MOST_FEATURES or norms is None:
        return np.arange(min(n_features, MOST_FEATURES))
    order = np.argsort(-norms.share.numpy(), kind="stable")[:MOST_FEATURES]
    return np.sort(order)
