"""What `MultiVAE.predict` answers."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from multiomics_vae.analysis.outcomes.scores import OutcomeScores
from multiomics_vae.analysis.outcomes.tables import outcome_table, survival_table
from multiomics_vae.errors import InputError
from multiomics_vae.heads import OutcomeHead, TimeHead

UNKNOWN = "unknown"
ROWS_SHOWN = 12


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
        interval ``lower`` to ``upper`` of its probability over draws of z, and ``abstain``: the draws do not
        agree. For numbers ``mean``, ``sd``, ``q05``, ``q95``; for survival ``risk`` and ``median_time`` (NaN
        if survival stays above one half up to the last event of the training). Of donors also ``n_cells``.
    attention
        What each cell counts in its donor, adding up to 1 in every donor; empty where cells are predicted.
    scores
        What the head said before it became a table.
    head
        The head as it was then.
    """

    outcome: str
    kind: str
    level: str
    table: pd.DataFrame
    attention: pd.Series
    scores: OutcomeScores = field(repr=False)
    head: OutcomeHead = field(repr=False)

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
                f"{self.outcome!r} is a {self.kind} outcome and has no survival. Its predictions are in .table"
            )
        wanted = np.atleast_1d(np.asarray(times, dtype=np.float64))
        if wanted.ndim != 1 or not np.isfinite(wanted).all() or (wanted < 0).any():
            raise InputError(
                f"times must be a list of numbers of at least 0, not {times!r}: times=[365, 730]"
            )
        values = survival_table(self.head, self.scores, wanted)
        return pd.DataFrame(values, index=self.table.index, columns=wanted)

    def __repr__(self) -> str:
        n = len(self.table)
        whose = f"{n} {self.level}{'' if n == 1 else 's'}"
        lines = [f"{self.outcome!r}, {self.kind}, predicted of {whose}"]
        if "abstain" in self.table:
            lines[0] += f"; {int(self.table['abstain'].sum())} left open, where draws of z do not agree"
        shown = self.table if n <= ROWS_SHOWN else self.table.head(ROWS_SHOWN)
        lines.append(shown.to_string(float_format=lambda value: f"{value:.3g}"))
        if n > len(shown):
            lines.append(f"… and {n - len(shown)} more in .table")
        if len(self.attention):
            lines.append(".attention says what each cell counted in its donor")
        return "\n".join(lines)


def prediction_of(
    scores: OutcomeScores, head: OutcomeHead, level: float, temperature: float = 1.0
) -> Prediction:
    """Turn scores into what a person reads.

    Parameters
    ----------
    scores, head
        What the head said, and the head.
    level, temperature
        As in `tables.outcome_table`.
    """
    return Prediction(
        outcome=head.outcome.name,
        kind=head.outcome.kind,
        level=head.head.level,
        table=outcome_table(head, scores, level, temperature),
        attention=pd.Series(scores.attention, index=pd.Index(scores.cell_names), name="attention"),
        scores=scores,
        # A training that goes on must not change what was answered before.
        head=copy.deepcopy(head),
    )
