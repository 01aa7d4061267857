"""What a user says about a head; everything has a default."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Literal, get_args

from multiomics_vae.errors import InputError, did_you_mean

Level = Literal["cell", "donor"]
PoolingName = Literal["attention", "mean"]
ClassWeights = Literal["balanced"]


@dataclass(frozen=True)
class Head:
    """How one outcome is predicted from z.

    Parameters
    ----------
    level
        Of whom it is predicted: ``"cell"``, or ``"donor"`` from all cells of a donor together.
    kind
        Name in the registry of heads; None takes the one called like the kind of the outcome. A survival
        outcome may have ``"survival"`` (hazards of time intervals) or ``"cox"``, and an ordinal or binary one
        ``"categorical"``, which knows of no order.
    pooling
        From cells to a donor: ``"attention"`` (gated, Ilse et al. 2018) or ``"mean"``.
    weight
        w of the term w · negative log likelihood, averaged over labelled cells or donors, in a loss in nats
        a cell.
    n_hidden
        Width of a hidden layer between z and the head; 0 for none.
    dropout
        Share of its units dropped in training.
    class_weights
        ``"balanced"`` lets every category count the same in the loss, however rare it is; probabilities are
        then those of a world in which all are as frequent.
    cells_per_donor
        Most cells of a donor that are pooled in a training step, drawn anew in every pass; None for all of
        them, whatever the batch size. Predictions always pool all cells that are asked about.
    detach
        True keeps the gradient of the head from the encoders: z is then what it would be without the head.
    n_intervals
        Time intervals of a ``"survival"`` head.

    Raises
    ------
    InputError
        For a value that cannot be.

    Examples
    --------
    >>> Head(level="donor", weight=2.0).pooling
    'attention'
    """

    level: Level = "cell"
    kind: str | None = None
    pooling: PoolingName = "attention"
    weight: float = 1.0
    n_hidden: int = 0
    dropout: float = 0.1
    class_weights: ClassWeights | None = None
    cells_per_donor: int | None = 32
    detach: bool = False
    n_intervals: int = 10

    def __post_init__(self) -> None:
        for name, allowed in (("level", get_args(Level)), ("pooling", get_args(PoolingName))):
            value = getattr(self, name)
            if value not in allowed:
                raise InputError(f"There is no {name}={value!r} of a head. {did_you_mean(value, allowed)}")
        if self.kind is not None and not isinstance(self.kind, str):
            raise InputError(f"kind is the name of a head or None, not {self.kind!r}: Head(kind='cox')")
        if self.class_weights not in (None, *get_args(ClassWeights)):
            raise InputError(
                f"class_weights is None or 'balanced', not {self.class_weights!r}: "
                "Head(class_weights='balanced')"
            )
        if not isinstance(self.detach, bool):
            raise InputError(f"detach is True or False, not {self.detach!r}: Head(detach=True)")
        if not (_is_number(self.weight) and math.isfinite(self.weight) and self.weight >= 0):
            raise InputError(f"weight must be a number of at least 0, not {self.weight!r}: Head(weight=1.0)")
        if not (_is_number(self.dropout) and 0.0 <= self.dropout < 1.0):
            raise InputError(f"dropout is a share from 0 to below 1, not {self.dropout!r}: Head(dropout=0.1)")
        least = {"n_hidden": 0, "n_intervals": 1, "cells_per_donor": 1}
        for name, lowest in least.items():
            value = getattr(self, name)
            if name == "cells_per_donor" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
                raise InputError(
                    f"{name} must be a whole number of at least {lowest}, not {value!r}: Head({name}=32)"
                )


@dataclass(frozen=True)
class NamedHead:
    """A head, its kind settled, and the outcome that it predicts."""

    outcome: str
    head: Head


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
