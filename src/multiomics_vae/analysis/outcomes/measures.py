"""Which scores judge which kind of outcome.

Truth and prediction are arrays with a row a donor, so that a score of drawn donors is a score of drawn rows:

========== ============================== =======================================
kind       truth                          prediction
========== ============================== =======================================
classes    code, ``(D,)``                 probabilities ``(D, K)``
continuous value, ``(D,)``                mean and standard deviation, ``(D, 2)``
survival   time and event, ``(D, 2)``     risk, ``(D, 1)``; higher is worse
========== ============================== =======================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from multiomics_vae.analysis.outcomes.concordance import concordance_index
from multiomics_vae.analysis.outcomes.discrimination import auroc, average_precision, macro_auroc
from multiomics_vae.analysis.outcomes.probability_scores import (
    balanced_accuracy,
    brier,
    mean_absolute_rank_error,
    ranked_probability_score,
)
from multiomics_vae.errors import InputError, did_you_mean

CLASS_KINDS = ("binary", "categorical", "ordinal")
KINDS = (*CLASS_KINDS, "continuous", "survival")


@dataclass(frozen=True)
class Measure:
    """A score.

    Parameters
    ----------
    name
        As it stands in tables.
    of
        From truth and prediction to a number, NaN where it is not defined.
    higher_is_better
        False for errors.
    within_folds
        True where predictions of different folds must not be compared with one another, because each
        fold's model has a scale of its own.
    """

    name: str
    of: Callable[[np.ndarray, np.ndarray], float]
    higher_is_better: bool = True
    within_folds: bool = False


def measures_of(kind: str) -> tuple[Measure, ...]:
    """The scores of a kind of outcome, the one that decides first.

    Raises
    ------
    InputError
        For an unknown kind.
    """
    if kind not in KINDS:
        raise InputError(f"There is no outcome of kind {kind!r}. {did_you_mean(kind, KINDS)}")
    return _MEASURES[kind]


def _of_positive(
    score: Callable[[np.ndarray, np.ndarray], float],
) -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda truth, predicted: score(truth == 1, predicted[:, 1])


def _mean_absolute_error(truth: np.ndarray, predicted: np.ndarray) -> float:
    return float(np.abs(truth - predicted[:, 0]).mean())


def _spearman(truth: np.ndarray, predicted: np.ndarray) -> float:
    ranks = rankdata(truth), rankdata(predicted[:, 0])
    if min(np.ptp(each) if len(each) else 0.0 for each in ranks) == 0:
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])


def _c_index(truth: np.ndarray, predicted: np.ndarray) -> float:
    return concordance_index(truth[:, 0], truth[:, 1] > 0, predicted[:, 0])


_MEASURES = {
    "binary": (
        Measure("auroc", _of_positive(auroc)),
        Measure("auprc", _of_positive(average_precision)),
        Measure("brier", brier, higher_is_better=False),
    ),
    "categorical": (
        Measure("balanced_accuracy", balanced_accuracy),
        Measure("macro_auroc", macro_auroc),
        Measure("brier", brier, higher_is_better=False),
    ),
    "ordinal": (
        Measure("mean_absolute_rank_error", mean_absolute_rank_error, higher_is_better=False),
        Measure("ranked_probability_score", ranked_probability_score, higher_is_better=False),
        Measure("balanced_accuracy", balanced_accuracy),
    ),
    "continuous": (
        Measure("mean_absolute_error", _mean_absolute_error, higher_is_better=False),
        Measure("spearman", _spearman),
    ),
    "survival": (Measure("c_index", _c_index, within_folds=True),),
}
