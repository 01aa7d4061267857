"""Whether intervals of imputed values hold as many held-out values as they say."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtr

from multiomics_vae.analysis.calibration import Calibration, held_out_scores
from multiomics_vae.analysis.coverage import NOMINAL
from multiomics_vae.analysis.depth import DepthModel
from multiomics_vae.analysis.direction import Direction
from multiomics_vae.analysis.evaluation.question import Question, mean_and_error
from multiomics_vae.analysis.evaluation.values import SCORED, eligible_features, in_memory, n_nonzero

N_DRAWS = 100
MOST_CELLS, MOST_FEATURES = 500, 300


@dataclass(frozen=True)
class Imputer:
    """What imputed intervals need beside the model.

    Parameters
    ----------
    depths
        Of every modality from every other one that some of the cells have with it.
    calibration
        The model's level maps, empty before ``model.calibrate()``.
    """

    depths: Mapping[Direction, DepthModel]
    calibration: Calibration


def imputation_coverage(question: Question, imputer: Imputer) -> pd.DataFrame:
    """Coverage of central intervals of p(x_m | x_n), for every modality from every other.

    By the randomised probability integral transform (Czado et al. 2009), which is uniform for discrete
    values too, whose plain intervals hold too much by construction. The features are those seen in most
    cells: one that is 0 almost everywhere is covered whatever a model says. Nothing of the target is read.

    Parameters
    ----------
    question
        The model and the held-out cells.
    imputer
        Depths, and level maps if there are some.

    Returns
    -------
    DataFrame
        ``modality``, ``given``, ``level``, ``coverage`` (mean over cells of the share of their values),
        ``standard_error`` over cells, ``calibrated`` (the same of recalibrated intervals, a test only on
        cells that they were not calibrated on; NaN without), ``n_features``, ``n_cells``.
    """
    rows = []
    names = question.names
    for target, source in ((a, b) for a in range(len(names)) for b in range(len(names)) if a != b):
        if question.module.likelihoods[target].support not in SCORED:
            continue
        both = question.having(target, source).drawn(MOST_CELLS)
        features, direction = often_seen(both, target), Direction(target, (source,))
        if not len(features):
            continue
        scores = imputation_scores(both, direction, features, imputer.depths[direction])  # (N, G)
        level_map = imputer.calibration.maps.get(direction)
        mapped = None if level_map is None else level_map.stated_score(scores)
        for level in NOMINAL:
            found = mean_and_error(covered(scores, level))
            calibrated = float("nan") if mapped is None else float(covered(mapped, level).mean())
            sizes = len(features), len(both.cells)
            rows.append((names[target], names[source], level, *found, calibrated, *sizes))
    columns = ["modality", "given", "level", "coverage", "standard_error", "calibrated"]
    return pd.DataFrame(rows, columns=[*columns, "n_features", "n_cells"])


def often_seen(question: Question, modality: int) -> np.ndarray:
    """Positions of the features seen in most of the cells, ``(G,)``, sorted."""
    part = question.data.modalities[modality].loaded(question.cells)
    features = eligible_features(part, question.module.likelihoods[modality].support)
    if len(features) <= MOST_FEATURES:
        return features
    seen = n_nonzero(in_memory(part.values))[features]
    return np.sort(features[np.argsort(-seen, kind="stable")[:MOST_FEATURES]])


def imputation_scores(
    question: Question, direction: Direction, features: np.ndarray, depth: DepthModel
) -> np.ndarray:
    """Normal scores of held-out values in their predictive distributions, ``(N, G)``; NaN if unmeasured."""
    blocks = held_out_scores(
        question.module,
        question.data,
        question.cells,
        question.batch_size,
        direction,
        features,
        N_DRAWS,
        depth,
        question.seed,
    )
    with closing(blocks):
        return np.concatenate([np.where(observed, scores, np.nan) for scores, observed in blocks])


def covered(scores: np.ndarray, level: float) -> np.ndarray:
    """Share of the measured values of each cell inside the central interval of a level: ``(n,)``."""
    measured = np.isfinite(scores)  # (N, G)
    inside = measured & (np.abs(ndtr(scores) - 0.5) <= 0.5 * level)
    n_measured = measured.sum(axis=1)  # (N,)
    shares: np.ndarray = inside.sum(axis=1)[n_measured > 0] / n_measured[n_measured > 0]
    return shares
