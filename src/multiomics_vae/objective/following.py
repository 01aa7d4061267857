"""The subset objective that follows from how much of the data is missing."""

from __future__ import annotations

import numpy as np

from multiomics_vae.objective.config import ObjectiveConfig, SubsetObjective

LEAST = ObjectiveConfig.subset_weight
MOSAIC_FROM = 0.05
FULL_WEIGHT_AT = 0.25


def objective_for(
    present: np.ndarray, kind: SubsetObjective | None = None, weight: float | None = None
) -> tuple[SubsetObjective, float]:
    """Which subset objective, and how much it counts, where that was not said.

    With s the share of all pairs of a cell and a modality that were not measured:

        objective = "both" if s > 0.05, else "within"
        w         = 0.3 + 0.7 · min(1, s / 0.25)

    Where every cell is whole, nobody sees the posterior of a single modality unless it is asked for, and
    the terms that train it must not cost the joint one. In a mosaic it *is* the embedding of the cells that
    lack something, which must lie where the whole cells of their type do.

    Parameters
    ----------
    present
        Which training cell has which modality, ``(N, M)``, bool.
    kind, weight
        What was asked for; None takes what follows.

    Examples
    --------
    >>> objective_for(np.ones((4, 2), dtype=bool))
    ('within', 0.3)
    >>> objective_for(np.array([[True, True], [True, False]]))
    ('both', 1.0)
    """
    absent = 1.0 - float(present.mean()) if present.size else 0.0
    follows: SubsetObjective = "both" if absent > MOSAIC_FROM else "within"
    share = min(1.0, absent / FULL_WEIGHT_AT)
    return (
        follows if kind is None else kind,
        LEAST + (1.0 - LEAST) * share if weight is None else weight,
    )
