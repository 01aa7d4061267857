"""Learning what new cells share, and what held-out cells of the reference score in their place.

Held-out cells of the reference are what new cells would be if there were nothing new. So they are scored in
the same way, as a query of the same size against the same known cells, which training had: filled up with
other training cells where they are too few, and taken in parts where they are too many.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from multiomics_vae.analysis.mapping.cohort import N_FOLDS, Cohort, nearest
from multiomics_vae.analysis.mapping.contrast import Measured, contrast
from multiomics_vae.data.gaps import FeatureNorms

MOST_CELLS, MOST_FEATURES = 5_000, 2_000
FEWEST_CELLS = 50
N_ANCHORS = 400
FEWEST_AROUND, MOST_AROUND, SHARE_AROUND = 20, 150, 12


@dataclass(frozen=True, eq=False)
class Side:
    """Some cells.

    Parameters
    ----------
    latent
        E[z | x_A], ``(N, K)``.
    measured
        What they show of some features.
    """

    latent: np.ndarray
    measured: Measured

    def of(self, cells: np.ndarray) -> Side:
        """Some of the cells, positions."""
        return Side(self.latent[cells], self.measured.of(cells))

    def beside(self, other: Side) -> Side:
        """These cells and others."""
        return Side(np.vstack([self.latent, other.latent]), self.measured.beside(other.measured))


def learn_cohort(
    new: Side, training: Side, held_out: Side, features: np.ndarray, keys: np.ndarray, seed: int = 0
) -> Cohort | None:
    """Find what new cells share; None where either side has fewer than 50 cells.

    Parameters
    ----------
    new, training, held_out
        New cells, cells that the reference was trained on, and cells that it was not; at least one of these.
    features
        Positions of what they show, ``(G,)``.
    keys
        `name_keys` of the new cells.
    seed
        Of all draws.
    """
    n_new, n_known, n_out = (len(side.latent) for side in (new, training, held_out))
    n = min(n_new, (n_known + n_out) // 2, n_known, MOST_CELLS)
    if n < FEWEST_CELLS or not n_out:
        return None
    generator = np.random.default_rng(seed)
    order = generator.permutation(n_known)
    n_fill = max(n - n_out, 0)
    known, rest = training.of(np.sort(order[n_fill:])), order[:n_fill]
    scores = np.empty(n_out)
    parts = np.array_split(generator.permutation(n_out), -(-n_out // n))
    for part in parts:
        others = np.setdiff1d(np.arange(n_out), part)
        fill = np.r_[generator.permutation(others), generator.permutation(rest) + n_out][: n - len(part)]
        beside = held_out.of(fill[fill < n_out]).beside(training.of(fill[fill >= n_out] - n_out))
        cells = held_out.of(part).beside(beside)
        names = np.arange(len(cells.latent))
        found = _of(cells, known, features, names, generator)
        scores[part] = found.scores(cells.latent, cells.measured, names)[: len(part)]
    chosen = np.sort(generator.permutation(n_new)[:n])
    cohort = _of(new.of(chosen), known, features, keys[chosen], generator)
    return replace(cohort, held_out=scores.astype(np.float32))


def _of(
    new: Side, known: Side, features: np.ndarray, keys: np.ndarray, generator: np.random.Generator
) -> Cohort:
    """New cells against known ones, with no held-out cells yet."""
    n, counted = len(new.latent), new.measured.counted
    k = int(np.clip(n // SHARE_AROUND, FEWEST_AROUND, MOST_AROUND))
    folds = generator.permutation(n) % N_FOLDS
    anchors = new.latent[np.sort(generator.permutation(n)[:N_ANCHORS])]
    weights = np.bincount(nearest(anchors, new.latent, 1)[:, 0], minlength=len(anchors)) / n
    # As many more known cells as there are of them, so that their neighbourhoods are as wide.
    as_wide = max(k, round(k * len(known.latent) / (n * (1 - 1 / N_FOLDS))))
    of_known = known.measured.around(nearest(known.latent, anchors, as_wide))
    learned = []
    for fold in range(N_FOLDS):
        others = np.flatnonzero(folds != fold)
        of_new = new.measured.around(others[nearest(new.latent[others], anchors, k)])
        learned.append(contrast(of_new, of_known, weights, counted))
    slope, constant = (np.stack(each) for each in zip(*learned, strict=True))
    none = np.zeros(n)
    cohort = Cohort(features, anchors, slope, constant, new.latent, keys, folds, none, none[:0])
    return replace(cohort, ratios=cohort.ratios_of(new.latent, new.measured, folds))


def often_seen(n_features: int, norms: FeatureNorms | None) -> np.ndarray:
    """At most 2 000 features, those of the largest share among training cells: ``(G,)``, rising."""
    if n_features <= MOST_FEATURES or norms is None:
        return np.arange(min(n_features, MOST_FEATURES))
    order = np.argsort(-norms.share.numpy(), kind="stable")[:MOST_FEATURES]
    return np.sort(order)
