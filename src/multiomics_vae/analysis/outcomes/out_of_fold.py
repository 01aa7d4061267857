"""Scores of repeated out-of-fold predictions, with intervals over donors, alone and against another model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multiomics_vae.analysis.outcomes.bootstrap import (
    Interval,
    bootstrap_draws,
    bootstrap_interval,
    percentile_ends,
)
from multiomics_vae.analysis.outcomes.measures import Measure


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """What each donor was predicted by models that had not seen it.

    Parameters
    ----------
    kind, truth
        As in `measures`, of the D donors with a known outcome.
    predicted
        One prediction a repeat, ``(R, D, …)``.
    fold
        Fold in which it was made, ``(R, D)``.
    """

    kind: str
    truth: np.ndarray
    predicted: np.ndarray
    fold: np.ndarray

    @property
    def n_donors(self) -> int:
        """D."""
        return len(self.truth)


def pooled(measure: Measure, results: OutOfFold, donors: np.ndarray | None = None) -> float:
    """The score of all donors' out-of-fold predictions, averaged over repeats.

    Scores that compare donors with one another compare those of one fold only if ``within_folds``: the
    pairs (or ranks) of a fold are scored, and folds are averaged by their number of donors.

    Parameters
    ----------
    measure, results
        What, of what.
    donors
        Positions, with repeats; None for all.
    """
    chosen = np.arange(results.n_donors) if donors is None else donors
    return _mean([_one_repeat(measure, results, r, chosen) for r in range(len(results.predicted))])


def by_fold(measure: Measure, results: OutOfFold) -> list[tuple[int, int, int, float]]:
    """Repeat, fold, donors and score of every fold; NaN where a fold has nothing to compare."""
    rows = []
    for repeat, folds in enumerate(results.fold):
        for number in np.unique(folds):
            inside = np.flatnonzero(folds == number)
            score = measure.of(results.truth[inside], results.predicted[repeat, inside])
            rows.append((repeat, int(number), len(inside), score))
    return rows


def scored(
    measure: Measure, results: OutOfFold, generator: np.random.Generator, level: float, n_draws: int
) -> Interval:
    """`pooled` with a bootstrap interval over donors: other donors, the models as they were trained."""
    return bootstrap_interval(
        lambda donors: pooled(measure, results, donors),
        results.n_donors,
        generator,
        level=level,
        n_draws=n_draws,
    )


def difference(
    measure: Measure,
    ours: OutOfFold,
    other: OutOfFold,
    generator: np.random.Generator,
    level: float,
    n_draws: int,
) -> Interval:
    """Our score minus another's on the same drawn donors, so that what both find hard cancels."""

    def of(donors: np.ndarray) -> float:
        return pooled(measure, ours, donors) - pooled(measure, other, donors)

    low, high = percentile_ends(bootstrap_draws(of, ours.n_donors, generator, n_draws), level)
    return Interval(of(np.arange(ours.n_donors)), low, high, level, ours.n_donors)


def permutation_p_value(
    measure: Measure, results: OutOfFold, generator: np.random.Generator, n_draws: int
) -> float:
    """How often outcomes dealt anew to the donors score at least as well, (1 + k) / (1 + n).

    Predictions stay as they are. So this asks whether they have anything to do with the outcomes, and not
    whether training would find something in noise too: for that models are trained on permuted outcomes.
    """
    sign = 1.0 if measure.higher_is_better else -1.0
    observed = pooled(measure, results)
    if not np.isfinite(observed):
        return float("nan")
    n_better = 0
    for _ in range(n_draws):
        shuffled = OutOfFold(
            results.kind,
            results.truth[generator.permutation(results.n_donors)],
            results.predicted,
            results.fold,
        )
        score = pooled(measure, shuffled)
        n_better += bool(np.isfinite(score) and sign * score >= sign * observed - 1e-12)
    return (1 + n_better) / (1 + n_draws)


def _one_repeat(measure: Measure, results: OutOfFold, repeat: int, donors: np.ndarray) -> float:
    predicted = results.predicted[repeat]
    if not measure.within_folds:
        return measure.of(results.truth[donors], predicted[donors])
    folds = results.fold[repeat, donors]
    scores, sizes = [], []
    for number in np.unique(folds):
        inside = donors[folds == number]
        score = measure.of(results.truth[inside], predicted[inside])
        if np.isfinite(score):
            scores.append(score)
            sizes.append(len(inside))
    return float(np.average(scores, weights=sizes)) if scores else float("nan")


def _mean(values: list[float]) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else float("nan")
