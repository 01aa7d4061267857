"""Folds of donors: balanced in the outcome, repeated, a donor never on both sides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multiomics_vae.errors import InputError


@dataclass(frozen=True, eq=False)
class Fold:
    """One split of the donors.

    Parameters
    ----------
    repeat, number
        Which repeat, and which fold of it.
    training, held_out
        Positions of donors, sorted and disjoint.
    """

    repeat: int
    number: int
    training: np.ndarray
    held_out: np.ndarray


def donor_folds(
    kind: str, truth: np.ndarray, known: np.ndarray, n_folds: int, n_repeats: int, seed: int
) -> list[Fold]:
    """Deal the donors with a known outcome into folds; the others are always trained on, without an outcome.

    Donors are sorted by outcome (class; value; for survival deaths and censorings by time), shuffled among
    equals, and dealt out one fold after the other, so each fold gets its share of every kind.

    Parameters
    ----------
    kind, truth
        As in `measures`, ``(D, …)``.
    known
        Donors with an outcome, ``(D,)``, bool.
    n_folds
        At least 2; as many as there are donors leaves out one at a time.
    n_repeats
        Times that all is dealt anew. Leaving out one at a time has one way only.
    seed
        Of the shuffling.

    Raises
    ------
    InputError
        If there are fewer donors than folds.
    """
    donors = np.flatnonzero(known)
    if not 2 <= n_folds <= len(donors):
        raise InputError(
            f"{len(donors)} donors with a known outcome cannot be dealt into {n_folds} folds. Take from 2 to "
            f"{len(donors)}: cross_validate(..., n_folds={max(2, min(5, len(donors)))})"
        )
    folds = []
    for repeat in range(1 if n_folds == len(donors) else n_repeats):
        dealt = deal(kind, truth[donors], n_folds, np.random.default_rng([seed, repeat]))
        for number in range(n_folds):
            held_out = donors[dealt == number]
            folds.append(Fold(repeat, number, np.setdiff1d(np.arange(len(known)), held_out), held_out))
    return folds


def deal(kind: str, truth: np.ndarray, n_folds: int, generator: np.random.Generator) -> np.ndarray:
    """Fold of each donor, ``(D,)``; folds differ by one donor at the most.

    Parameters
    ----------
    kind, truth
        As in `donor_folds`, all known.
    n_folds, generator
        Folds, source of chance.
    """
    n = len(truth)
    shuffled = generator.permutation(n)
    keys = strata(kind, truth, n_folds)[shuffled]
    order = shuffled[np.argsort(keys, kind="stable")]
    fold = np.empty(n, dtype=np.int64)
    # Within each run of n_folds neighbours every fold gets one, in random order, so that no fold always
    # gets the smallest value. The order of the first run is kept for classes, so sizes stay even.
    for start in range(0, n, n_folds):
        block = order[start : start + n_folds]
        fold[block] = generator.permutation(n_folds)[: len(block)]
    return fold


def strata(kind: str, truth: np.ndarray, n_folds: int) -> np.ndarray:
    """A number for every donor; neighbours in it should fall into different folds, ``(D,)``."""
    if kind == "survival":
        # Deaths before censorings, each by time.
        return np.lexsort((truth[:, 0], -truth[:, 1])).argsort().astype(np.float64)
    if kind == "continuous":
        return np.asarray(truth, dtype=np.float64).argsort(kind="stable").argsort().astype(np.float64)
    return np.asarray(truth, dtype=np.float64)


def inner_split(
    kind: str, truth: np.ndarray, known: np.ndarray, training: np.ndarray, share: float, seed: int
) -> np.ndarray:
    """Donors of a training side that are held out from it too, for calibration; sorted, may be empty.

    Parameters
    ----------
    kind, truth, known
        As in `donor_folds`.
    training
        Positions of donors.
    share
        Of the donors with a known outcome; 0 holds out none.
    seed
        Of the draw.
    """
    donors = training[known[training]]
    n_parts = round(1.0 / share) if share > 0 else 0
    if n_parts < 2 or len(donors) < n_parts:
        return np.empty(0, dtype=np.int64)
    dealt = deal(kind, truth[donors], n_parts, np.random.default_rng([seed, len(training)]))
    return np.sort(donors[dealt == 0])
