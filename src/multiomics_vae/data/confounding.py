"""Whether two groupings can be told apart: association, nesting, and the table that shows it.

What differs between batches that hold different things, modalities, types or outcomes, may be the batch or
the thing. Where one decides the other no method can say which, and whoever corrects the batch removes the
thing too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from multiomics_vae.data.schema import CategoricalCovariate
from multiomics_vae.errors import warn

STRONG = 0.5
SHOWN_ROWS, SHOWN_COLUMNS = 12, 8


@dataclass(frozen=True, eq=False)
class Confounding:
    """How far two groupings of the same units go together.

    Parameters
    ----------
    first, second
        Names of the groupings.
    table
        Counts of units, a row for each category of the first, a column for each of the second.
    cramers_v
        Bias-corrected Cramér's V of the table, 0 for independent, 1 where one decides the other.
    first_decides, second_decides
        Whether each category of the one goes with a single category of the other, of which there are several.
    """

    first: str
    second: str
    table: pd.DataFrame
    cramers_v: float
    first_decides: bool
    second_decides: bool

    @property
    def inseparable(self) -> bool:
        """Whether one decides the other, so that nothing can tell their effects apart."""
        return self.first_decides or self.second_decides

    @property
    def strong(self) -> bool:
        """Whether they go together closely enough to be worth a warning."""
        return self.inseparable or self.cramers_v >= STRONG

    def as_text(self) -> str:
        """The table and V, for people; long tables are cut."""
        rows, columns = self.table.shape
        shown = self.table.iloc[:SHOWN_ROWS, :SHOWN_COLUMNS]
        left = [
            f"{n} more {what}"
            for n, what in ((rows - SHOWN_ROWS, "rows"), (columns - SHOWN_COLUMNS, "columns"))
            if n > 0
        ]
        rest = f"\n… and {', '.join(left)}" if left else ""
        strength = f"Cramér's V {self.cramers_v:.2f} (0 independent, 1 one decides the other)"
        return f"{shown.to_string()}{rest}\n{strength}"


def confounding(
    first: Sequence[object] | np.ndarray,
    second: Sequence[object] | np.ndarray,
    names: tuple[str, str] = ("batch", "label"),
    units: Sequence[object] | np.ndarray | None = None,
) -> Confounding:
    """Compare two groupings.

    Parameters
    ----------
    first, second
        Category of each cell, ``(N,)``; a cell with a missing value in either is left out.
    names
        What they are called.
    units
        What is counted instead of cells, such as the donor of each: one count for each unit and pair of
        categories it shows. A label that belongs to donors is known as often as there are donors, however
        many cells they have.

    Returns
    -------
    Confounding

    Raises
    ------
    ValueError
        If the lengths differ.

    Examples
    --------
    >>> found = confounding(["a", "a", "b", "b"], ["x", "x", "y", "y"])
    >>> found.inseparable, found.first_decides
    (True, True)
    """
    columns = {"first": pd.Series(list(first), dtype=object), "second": pd.Series(list(second), dtype=object)}
    if units is not None:
        columns["unit"] = pd.Series(list(units), dtype=object)
    if len({len(column) for column in columns.values()}) != 1:
        raise ValueError(f"the groupings have {[len(column) for column in columns.values()]} entries")
    frame = pd.DataFrame(columns).dropna()
    if units is not None:
        frame = frame.drop_duplicates()
    table = pd.crosstab(frame["first"].map(str), frame["second"].map(str))
    table = table.rename_axis(index=names[0], columns=names[1])
    several = (table > 0).to_numpy()
    decides = [several.shape[0] > 1 and several.shape[1] > 1 and bool((several.sum(axis) == 1).all())
               for axis in (1, 0)]  # fmt: skip
    return Confounding(names[0], names[1], table, cramers_v(table.to_numpy()), decides[0], decides[1])


def cramers_v(counts: np.ndarray) -> float:
    """Bias-corrected Cramér's V of a table of counts (Bergsma 2013); 0 where a side has one category.

    V = √(φ̃ / min(r̃ − 1, c̃ − 1)), φ̃ = max(0, χ²/n − (r − 1)(c − 1)/(n − 1)), r̃ = r − (r − 1)²/(n − 1).

    Parameters
    ----------
    counts
        ``(r, c)``.

    Examples
    --------
    >>> cramers_v(np.array([[50, 0], [0, 50]]))
    1.0
    """
    counts = np.asarray(counts, dtype=np.float64)
    if counts.size:
        counts = counts[counts.sum(1) > 0][:, counts.sum(0) > 0]
    rows, columns, n = *counts.shape, counts.sum()
    if min(rows, columns) < 2 or n < 2:
        return 0.0
    expected = np.outer(counts.sum(1), counts.sum(0)) / n
    phi = ((counts - expected) ** 2 / expected).sum() / n
    corrected = max(0.0, phi - (rows - 1) * (columns - 1) / (n - 1))
    smaller = min(rows - (rows - 1) ** 2 / (n - 1), columns - (columns - 1) ** 2 / (n - 1)) - 1
    return min(1.0, float(np.sqrt(corrected / smaller))) if smaller > 0 else 0.0


def warn_of_modalities(
    codes: np.ndarray, present: np.ndarray, batch: CategoricalCovariate, modalities: Sequence[str]
) -> None:
    """Warn, with the table, where batches differ in which modalities their cells have.

    Parameters
    ----------
    codes
        Batch of each cell, ``(N,)``.
    present
        ``(N, M)``, bool.
    batch, modalities
        Their names.
    """
    sets = np.array([" + ".join(np.array(modalities)[row]) for row in np.unique(present, axis=0)])
    of_cell = np.unique(present, axis=0, return_inverse=True)[1].reshape(-1)  # (N,)
    found = confounding(np.array(batch.categories)[codes], sets[of_cell], (batch.key, "modalities"))
    if found.first_decides:
        warn(
            f"Batch {batch.key!r} decides which modalities a cell has: {found.table.shape[1]} sets of "
            f"modalities in {len(found.table)} batches, one set in each. The effect of a batch cannot be "
            f"told from that of its missing modalities.\n{found.as_text()}"
        )
    elif found.strong:
        warn(
            f"Batch {batch.key!r} and which modalities a cell has go together: an effect of the one is "
            f"easily taken for one of the other.\n{found.as_text()}"
        )


def warn_of_label(
    batch: Sequence[object] | np.ndarray,
    label: Sequence[object] | np.ndarray,
    names: tuple[str, str],
    units: Sequence[object] | np.ndarray | None = None,
) -> Confounding:
    """Warn, with the table, where batches and a label, a type or an outcome, go together.

    Parameters
    ----------
    batch, label, names, units
        As for `confounding`: names are those of the columns, units the donors of a donor's label.

    Returns
    -------
    Confounding
        Whether or not there was a reason to warn.

    Examples
    --------
    >>> warn_of_label(obs["site"], obs["response"], ("site", "response"), obs["donor"])  # doctest: +SKIP
    """
    found = confounding(batch, label, names, units)
    what = "cells" if units is None else "donors"
    if found.inseparable:
        inner, outer = names if found.first_decides else names[::-1]
        warn(
            f"{inner!r} decides {outer!r}: no method can tell an effect of {names[0]!r} from one of "
            f"{names[1]!r}, and correcting for {names[0]!r} removes {names[1]!r} too. Counts of {what}:\n"
            f"{found.as_text()}"
        )
    elif found.strong:
        warn(
            f"{names[0]!r} and {names[1]!r} go together: correcting for {names[0]!r} will remove part of "
            f"what {names[1]!r} does, and a prediction of {names[1]!r} may have learned {names[0]!r}. Counts "
            f"of {what}:\n{found.as_text()}"
        )
    return found
