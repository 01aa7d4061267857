"""Active units of the latent space (Burda et al. 2016): dimensions whose posterior mean follows the cells."""

from __future__ import annotations

import numpy as np
import pandas as pd

from multiomics_vae.analysis.evaluation.question import ALL, Question
from multiomics_vae.analysis.latent import latent_table

ACTIVE_ABOVE = 0.01


def unit_activity(question: Question) -> pd.DataFrame:
    """Variance over cells of the posterior means: latent dimensions by evidence.

    Returns
    -------
    DataFrame
        ``(K, 1 + M)``: columns ``"all"`` and the modalities (over the cells that have them); NaN where
        there are fewer than two cells.
    """
    names = question.names
    evidence: dict[str, tuple[int, ...] | None] = {ALL: None}
    if len(names) > 1:
        evidence |= {name: (m,) for m, name in enumerate(names)}
    columns = {}
    for given, positions in evidence.items():
        known = question if positions is None else question.having(*positions)
        means = latent_table(known.module, known.data, known.cells, known.batch_size, positions).mean
        few = len(means) < 2
        columns[given] = np.full(question.module.n_latent, np.nan) if few else means.var(axis=0)
    return pd.DataFrame(columns).rename_axis("dimension")


def active_units(activity: pd.DataFrame) -> dict[str, int]:
    """How many dimensions are active (above .01), by evidence."""
    return {str(given): int((column > ACTIVE_ABOVE).sum()) for given, column in activity.items()}
