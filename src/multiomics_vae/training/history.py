"""The training history: one series for each named quantity, over the passes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from multiomics_vae.errors import CheckpointError, InputError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd


class History(Mapping[str, "pd.Series"]):
    """Read-only mapping from names such as ``"elbo_validation"`` to a pandas Series over epochs.

    Parameters
    ----------
    rows
        For each epoch, its quantities by name.

    Examples
    --------
    >>> History([{"elbo_train": -10.0}, {"elbo_train": -9.0}])["elbo_train"].iloc[-1]
    np.float64(-9.0)
    """

    def __init__(self, rows: list[Mapping[str, float]] | None = None) -> None:
        self._rows: list[Mapping[str, float]] = list(rows or [])

    def append(self, row: Mapping[str, float]) -> None:
        """Add an epoch."""
        self._rows.append(dict(row))

    def to_frame(self) -> pd.DataFrame:
        """All quantities, one row an epoch."""
        import pandas as pd

        frame = pd.DataFrame(self._rows)
        frame.index = pd.RangeIndex(1, len(frame) + 1, name="epoch")
        return frame

    def to_json(self) -> list[dict[str, float | None]]:
        """Rows for a JSON file; a quantity that was not finite becomes None."""
        return [
            {name: float(value) if math.isfinite(value) else None for name, value in row.items()}
            for row in self._rows
        ]

    @classmethod
    def from_json(cls, rows: object) -> History:
        """Undo `to_json`; None becomes NaN.

        Raises
        ------
        CheckpointError
            If ``rows`` is not what `to_json` gives.
        """
        if not isinstance(rows, list):
            raise CheckpointError(f"history.json: 'epochs' must be a list, not {type(rows).__name__}.")
        for number, row in enumerate(rows, start=1):
            if not isinstance(row, dict):
                raise CheckpointError(
                    f"history.json: epoch {number} must be an object, not {type(row).__name__}."
                )
            for name, value in row.items():
                if isinstance(value, bool) or not isinstance(value, int | float | None):
                    raise CheckpointError(
                        f"history.json: {name!r} of epoch {number} is {value!r}, no number."
                    )
        return cls([{name: math.nan if v is None else float(v) for name, v in row.items()} for row in rows])

    @property
    def n_epochs(self) -> int:
        return len(self._rows)

    @property
    def last(self) -> Mapping[str, float]:
        """Quantities of the last epoch; empty before the first."""
        return self._rows[-1] if self._rows else {}

    def get(self, name: str, default: Any = None) -> Any:
        """Return the series, or ``default`` where there is none."""
        # `Mapping.get` waits for a KeyError, and a name that is not there is an InputError here.
        return self[name] if name in self._names() else default

    def _names(self) -> list[str]:
        return list(dict.fromkeys(name for row in self._rows for name in row))

    def __getitem__(self, name: str) -> pd.Series:
        if name not in self._names():
            raise InputError(f"The history holds no {name!r}. {did_you_mean(name, self._names())}")
        return self.to_frame()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def __contains__(self, name: object) -> bool:
        return name in self._names()

    def __repr__(self) -> str:
        return f"History of {self.n_epochs} epochs: {', '.join(self._names())}"
