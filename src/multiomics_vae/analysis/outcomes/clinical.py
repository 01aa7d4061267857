"""What is known of a donor without any measurement: age, stage, sex as a design matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

# How tables of clinics write that something is not known.
UNKNOWN = frozenset({"", "na", "nan", "none", "unknown", "not available", "not reported", "<na>"})
FEWEST_OF_A_LEVEL = 2


@dataclass(frozen=True)
class NumericColumn:
    """A number: standardised, the unknown at the mean and marked.

    Parameters
    ----------
    name, mean, sd
        Of the donors that were fitted.
    marks_unknown
        True if some of these were unknown.
    """

    name: str
    mean: float
    sd: float
    marks_unknown: bool

    def encode(self, column: pd.Series) -> np.ndarray:
        """``(n, 1 or 2)``."""
        values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
        unknown = ~np.isfinite(values)
        scaled = np.where(unknown, 0.0, (values - self.mean) / self.sd)
        return np.stack([scaled, unknown] if self.marks_unknown else [scaled], axis=1).astype(np.float64)


@dataclass(frozen=True)
class LevelsColumn:
    """Levels: one column each but the most common one, which with unknown and unseen ones is 0 throughout.

    Parameters
    ----------
    name, levels
        Of the donors that were fitted.
    """

    name: str
    levels: tuple[str, ...]

    def encode(self, column: pd.Series) -> np.ndarray:
        """``(n, levels)``."""
        text = column.astype(str).str.strip().to_numpy()
        return np.stack([text == level for level in self.levels], axis=1).astype(np.float64)


@dataclass(frozen=True)
class ClinicalDesign:
    """From a table of donors to numbers, with everything that is learned taken from the training donors.

    Parameters
    ----------
    columns
        In order.
    """

    columns: tuple[NumericColumn | LevelsColumn, ...]

    @classmethod
    def fit(cls, table: pd.DataFrame) -> ClinicalDesign:
        """Learn means and levels; columns without variation are left out.

        Parameters
        ----------
        table
            A row a donor; numbers, or levels as text or categories, in which words such as "nan" and
            "unknown" count as unknown.
        """
        columns: list[NumericColumn | LevelsColumn] = []
        for name in table.columns:
            column = table[name]
            if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
                values = column.to_numpy(np.float64)
                known = values[np.isfinite(values)]
                if len(known) and known.std() > 0:
                    some_unknown = bool(len(known) < len(values))
                    columns.append(
                        NumericColumn(str(name), float(known.mean()), float(known.std()), some_unknown)
                    )
                continue
            counts = column.dropna().astype(str).str.strip().value_counts()
            counts = counts[[str(level).casefold() not in UNKNOWN for level in counts.index]]
            levels = tuple(sorted(counts.index[1:][counts.to_numpy()[1:] >= FEWEST_OF_A_LEVEL]))
            if levels:
                columns.append(LevelsColumn(str(name), levels))
        return cls(tuple(columns))

    def encode(self, table: pd.DataFrame) -> np.ndarray:
        """``(n, P)``; P may be 0."""
        parts = [column.encode(table[column.name]) for column in self.columns]
        return np.concatenate([np.empty((len(table), 0)), *parts], axis=1)
