"""Names of cells, carried over from the nearest known cells in the latent space."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from sklearn.neighbors import NearestNeighbors

from multiomics_vae.errors import InputError

N_NEIGHBORS = 30
BALANCE = 0.5
WIDTH = 0.5  # of the kernel, in mean distances of the neighbours
UNKNOWN = "unknown"


def neighbour_votes(
    known: np.ndarray, labels: np.ndarray, asked: np.ndarray, n_neighbors: int, balance: float = BALANCE
) -> pd.DataFrame:
    """Share of the nearest known cells that have each label, near ones and rare labels counting more.

    The weight of a neighbour at distance d whose label a share f of all known cells has is
    exp(−d²/2h²)/f^b, with h half the mean distance of the cell's neighbours. A label that fewer cells have
    than there are neighbours would never win by plain votes; with b = ½ it can. h and b had the best mean F1
    of labels among the cells of a reference, each named by the others.

    Parameters
    ----------
    known
        Latent means of labelled cells, ``(n, K)``.
    labels
        Theirs, text, ``(n,)``.
    asked
        Latent means of the others, ``(N, K)``.
    n_neighbors
        How many count.
    balance
        b. 0: labels are as common among the others as among the known; 1: all are equally common.

    Returns
    -------
    DataFrame
        Cells by labels; rows sum to 1.
    """
    names, codes = np.unique(labels.astype(str), return_inverse=True)
    k = min(n_neighbors, len(known))
    distances, nearest = NearestNeighbors(n_neighbors=k).fit(known).kneighbors(asked)  # (N, k)
    width = np.maximum(distances.mean(axis=1, keepdims=True), 1e-12)
    share = np.bincount(codes) / len(codes)  # of each label
    weights = (
        np.exp(-0.5 * np.square(distances / (WIDTH * width))) / share[codes[nearest]] ** balance
    )  # (N, k)
    votes = np.zeros((len(asked), len(names)))
    np.add.at(votes, (np.arange(len(asked))[:, None], codes[nearest]), weights)
    return pd.DataFrame(votes / votes.sum(axis=1, keepdims=True), columns=list(names))


def transfer_table(
    votes: pd.DataFrame, p_values: np.ndarray, least_probability: float, false_alarms: float
) -> pd.DataFrame:
    """The best label of every cell, and ``"unknown"`` where it is not to be relied on.

    Parameters
    ----------
    votes
        From `neighbour_votes`.
    p_values
        Of each cell being like the reference's, ``(N,)``; NaN where that could not be told.
    least_probability
        Below it a cell is between labels, and unknown.
    false_alarms
        A cell whose p-value is below it is unknown, whatever its neighbours say.
    """
    best = votes.to_numpy().argmax(axis=1)
    nearest = np.asarray(votes.columns, dtype=object)[best]
    probability = votes.to_numpy()[np.arange(len(votes)), best]
    doubtful = (probability < least_probability) | (p_values < false_alarms)
    return pd.DataFrame(
        {
            "label": np.where(doubtful, UNKNOWN, nearest),
            "nearest_label": nearest,
            "probability": probability,
            "p_value": p_values,
        },
        index=votes.index,
    )


def labelled(values: np.ndarray, unlabelled: Iterable[str]) -> np.ndarray:
    """Which cells have a label that is one, ``(n,)``, bool.

    Parameters
    ----------
    values
        Text, None where it is missing.
    unlabelled
        Labels that mean that there is none.

    Raises
    ------
    InputError
        If no cell has.
    """
    if isinstance(unlabelled, str):
        raise InputError(f"unlabelled must be a list: unlabelled=[{unlabelled!r}]")
    none = {str(name) for name in unlabelled}
    found = np.array([value is not None and value not in none for value in values], dtype=bool)
    if not found.any():
        raise InputError(
            f"None of the {len(values)} reference cells has a label. Name another column of its obs: "
            'query.transfer_labels("cell_type", reference_mdata)'
        )
    return found


def check_balance(value: object) -> None:
    """Refuse what is no number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
        raise InputError(
            "balance is a number from 0 (labels as common as among known cells) to 1 (all equally common), "
            f"not {value!r}: balance=0.5"
        )


def check_share(name: str, value: object, mend: str) -> None:
    """Refuse what is no share from 0 to below 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value < 1.0:
        raise InputError(f"{name} is a share from 0 to below 1, not {value!r}: {mend}")
