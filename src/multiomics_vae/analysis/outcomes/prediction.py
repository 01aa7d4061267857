"""What `MultiVAE.predict` answers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from multiomics_vae.analysis.outcomes.calibrated_outcome import OutcomeCalibration
from multiomics_vae.analysis.outcomes.conformal import (
    ConformalClasses,
    ConformalInterval,
    abstains,
    fewest_rows,
)
from multiomics_vae.analysis.outcomes.scores import OutcomeScores
from multiomics_vae.analysis.outcomes.tables import outcome_table, survival_table
from multiomics_vae.errors import InputError
from multiomics_vae.heads import ClassHead, NumberHead, OutcomeHead, TimeHead

UNKNOWN = "unknown"
ROWS_SHOWN = 12
MOST_CATEGORIES_SHOWN = 6


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """An outcome, as a model predicts it of cells or donors.

    Parameters
    ----------
    outcome, kind
        Its name, and ``"binary"``, ``"categorical"``, ``"ordinal"``, ``"continuous"`` or ``"survival"``.
    level
        ``"cell"`` or ``"donor"``.
    table
        A row a cell or donor. For categories ``p_<category>``, the most probable one as ``prediction``, the
        interval ``lower`` to ``upper`` of its probability over draws of z, and ``abstain``. With enough
        held-out donors also ``set``, the categories of a conformal set, and ``abstain`` is True where that is
        not a single one; without them where the draws do not agree. For numbers ``mean``, ``sd``, ``q05``,
        ``q95``, and with enough held-out donors the conformal ``lower`` and ``upper``; for survival ``risk``
        and ``median_time`` (NaN if survival stays above one half up to the last event of the training). Of
        donors also ``n_cells``.
    attention
        What each cell counts in its donor, adding up to 1 in every donor; empty where cells are predicted.
    scores
        What the head said before it became a table.
    head
        The head as it was then.
    promise
        Share of sets and intervals that are promised to hold the truth.
    calibration
        What held-out donors (or cells) taught: probabilities are after its temperature. None without any,
        for survival, and where z is inferred from some modalities only.
    """

    outcome: str
    kind: str
    level: str
    table: pd.DataFrame
    attention: pd.Series
    scores: OutcomeScores = field(repr=False)
    head: OutcomeHead = field(repr=False)
    promise: float = 0.9
    calibration: OutcomeCalibration | None = field(default=None, repr=False)

    @property
    def sets(self) -> pd.DataFrame | None:
        """Which category is in the conformal set of each row, bool; None where nothing can be promised."""
        if not isinstance(self.head, ClassHead) or "set" not in self.table:
            return None
        names = list(self.head.outcome.categories)
        probabilities = self.table[[f"p_{name}" for name in names]].to_numpy()
        rule = _classes_rule(self.calibration, self.kind, self.promise)
        return None if rule is None else pd.DataFrame(rule.sets(probabilities), self.table.index, names)

    @property
    def note(self) -> str:
        """What these predictions can promise and what not, in a sentence or two."""
        return _note(self.kind, self.calibration, self.promise)

    @property
    def labels(self) -> pd.Series:
        """The predicted category, or ``"unknown"`` where the evidence does not suffice.

        Raises
        ------
        InputError
            If the outcome has no categories.
        """
        if "prediction" not in self.table:
            raise InputError(
                f"The {self.kind} outcome {self.outcome!r} has no categories. Its numbers are in .table: "
                f"{list(self.table.columns)}"
            )
        return self.table["prediction"].mask(self.table["abstain"], UNKNOWN).rename(self.outcome)

    def survival_at(self, times: Sequence[float] | np.ndarray | float) -> pd.DataFrame:
        """Probability that the event comes later than each of some times.

        Parameters
        ----------
        times
            In the unit of the time column.

        Returns
        -------
        DataFrame
            Cells or donors by times; NaN past the last event of the training, of which nothing is known.

        Raises
        ------
        InputError
            If the outcome is no survival, or a time is negative or no number.

        Examples
        --------
        >>> model.predict("survival").survival_at([365, 730])  # doctest: +SKIP
        """
        if not isinstance(self.head, TimeHead):
            raise InputError(
                f"{self.outcome!r} is a {self.kind} outcome and has no survival. Its predictions: .table"
            )
        wanted = np.atleast_1d(np.asarray(times, dtype=np.float64))
        if wanted.ndim != 1 or not np.isfinite(wanted).all() or (wanted < 0).any():
            raise InputError(
                f"times must be a list of numbers of at least 0, not {times!r}: times=[365, 730]"
            )
        values = survival_table(self.head, self.scores, wanted)
        return pd.DataFrame(values, index=self.table.index, columns=wanted)

    def _shown(self) -> pd.DataFrame:
        """The table; of many categories only the probability of the most probable one."""
        names = [f"p_{name}" for name in getattr(self.head.outcome, "categories", ())]
        if len(names) <= MOST_CATEGORIES_SHOWN:
            return self.table
        table = self.table.drop(columns=names)
        table.insert(1, "p", self.table[names].max(axis=1))
        return table

    def __repr__(self) -> str:
        n = len(self.table)
        whose = f"{n} {self.level}{'' if n == 1 else 's'}"
        lines = [f"{self.outcome!r}, {self.kind}, predicted of {whose}"]
        if "abstain" in self.table:
            why = "the set is not one category" if "set" in self.table else "draws of z do not agree"
            lines[0] += f"; {int(self.table['abstain'].sum())} left open, where {why}"
        lines.append(self.note)
        shown = self._shown().head(ROWS_SHOWN)
        lines.append(shown.to_string(float_format=lambda value: f"{value:.3g}"))
        if n > len(shown):
            lines.append(f"… and {n - len(shown)} more in .table")
        if len(self.attention):
            lines.append(".attention says what each cell counted in its donor")
        return "\n".join(lines)


def prediction_of(
    scores: OutcomeScores, head: OutcomeHead, level: float, calibration: OutcomeCalibration | None = None
) -> Prediction:
    """Turn scores into what a person reads.

    Parameters
    ----------
    scores, head
        What the head said, and the head.
    level
        As in `tables.outcome_table`, and promised coverage of the sets.
    calibration
        Learned from held-out rows; None for probabilities as the head gives them, and no sets.
    """
    temperature = 1.0 if calibration is None else calibration.temperature
    table = outcome_table(head, scores, level, temperature)
    return Prediction(
        outcome=head.outcome.name,
        kind=head.outcome.kind,
        level=head.head.level,
        table=_with_sets(table, head, level, calibration),
        attention=pd.Series(scores.attention, index=pd.Index(scores.cell_names), name="attention"),
        scores=scores,
        # A training that goes on must not change what was answered before.
        head=copy.deepcopy(head),
        promise=level,
        calibration=calibration,
    )


def _with_sets(
    table: pd.DataFrame, head: OutcomeHead, level: float, calibration: OutcomeCalibration | None
) -> pd.DataFrame:
    """The table with conformal sets or intervals, where held-out rows suffice for them."""
    if calibration is None or not calibration.suffices(level):
        return table
    if isinstance(head, NumberHead):
        rule = ConformalInterval(calibration.held_out.threshold(level), level, calibration.n_groups)
        low, high = rule.ends(table["mean"].to_numpy(), table["sd"].to_numpy())
        return table.assign(lower=low, upper=high)
    classes = _classes_rule(calibration, head.outcome.kind, level)
    if classes is None or not isinstance(head, ClassHead):
        return table
    names = np.asarray(head.outcome.categories, dtype=object)
    sets = classes.sets(table[[f"p_{name}" for name in names]].to_numpy())
    return table.assign(set=[" | ".join(names[inside]) for inside in sets], abstain=abstains(sets))


def _classes_rule(calibration: OutcomeCalibration | None, kind: str, level: float) -> ConformalClasses | None:
    if calibration is None or not calibration.suffices(level):
        return None
    threshold = calibration.held_out.threshold(level)
    return ConformalClasses(threshold, level, calibration.n_groups, contiguous=kind == "ordinal")


def _note(kind: str, calibration: OutcomeCalibration | None, level: float) -> str:
    if kind == "survival":
        return "Risks rank; nothing is promised of the times, because censored ones cannot be checked."
    if calibration is None:
        return (
            "Not calibrated: nothing with a label was held out from the training, or z is inferred from some "
            "modalities only. Probabilities may be too sure."
        )
    units = "donors" if calibration.of_donors else "cells"
    held_out = f"{calibration.n_groups} held-out {units}"
    if not calibration.suffices(level):
        return (
            f"Only {held_out} have a label, and {fewest_rows(level)} are needed to promise anything at level "
            f"{level:g}: probabilities may be too sure, and there are no sets. Hold out more: "
            "model.train(validation_size=0.3); or take a lower level."
        )
    if kind == "continuous":
        return f"lower to upper holds the truth of {level:.0%} of new {units}, by {held_out}."
    return (
        f"Sets hold the truth of {level:.0%} of new {units}, by {held_out} (temperature "
        f"{calibration.temperature:.2f})."
    )
