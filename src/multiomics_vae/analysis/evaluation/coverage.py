"""Whether intervals of imputed values hold as many held-out values as they say."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from multiomics_vae.analysis.depth import fit_depth
from multiomics_vae.analysis.evaluation.question import Question, mean_and_error
from multiomics_vae.analysis.evaluation.values import SCORED, eligible_features, in_memory, n_nonzero
from multiomics_vae.analysis.noise import CellNoise
from multiomics_vae.analysis.predictive import predicted_cells, stream_of
from multiomics_vae.data.matrices import dense

LEVELS = (0.5, 0.8, 0.9, 0.95)
N_DRAWS = 100
MOST_CELLS = 500
MOST_FEATURES = 300


def interval_coverage(question: Question, learned: Question) -> pd.DataFrame:
    """Coverage of central intervals of p(x_m | x_n), for every modality from every other.

    A value's level among S draws of its posterior predictive is u = (#{draws < x} + v (#{draws = x} + 1)) /
    (S + 1), v uniform: the randomised probability integral transform (Czado et al. 2009), by ranks. It is
    uniform if the value follows the distribution, discrete values too, whose plain intervals hold too much by
    construction. A level-α interval holds the values with |u − ½| ≤ α/2.

    The features are those seen in most cells: one that is 0 almost everywhere is covered whatever a model
    says. Depth is predicted; nothing of the target is read.

    Parameters
    ----------
    question
        The model and the held-out cells.
    learned
        Cells that the depth of a modality is learned from.

    Returns
    -------
    DataFrame
        ``modality``, ``given``, ``level``, ``coverage`` (mean over cells of the share of their values),
        ``standard_error`` over cells, ``n_features``, ``n_cells``.
    """
    rows = []
    names = question.names
    for target, schema in enumerate(question.data.schema.modalities):
        if question.module.likelihoods[target].support not in SCORED:
            continue
        for source, given in enumerate(names):
            both = question.having(target, source).drawn(MOST_CELLS)
            features = often_seen(both, target)
            if source == target or not len(features):
                continue
            levels = np.concatenate(list(predictive_levels(both, learned, target, source, features)))
            for level in LEVELS:
                inside = np.where(np.isfinite(levels), np.abs(levels - 0.5) <= level / 2, np.nan)  # (N, G)
                each = np.nanmean(inside[np.isfinite(levels).any(axis=1)], axis=1)  # (n,)
                found = mean_and_error(each)
                rows.append((schema.name, given, level, *found, len(features), len(both.cells)))
    columns = ["modality", "given", "level", "coverage", "standard_error", "n_features", "n_cells"]
    return pd.DataFrame(rows, columns=columns)


def often_seen(question: Question, modality: int) -> np.ndarray:
    """Positions of the features seen in most of the cells, ``(G,)``, sorted."""
    part = question.data.modalities[modality].loaded(question.cells)
    support = question.module.likelihoods[modality].support
    features = eligible_features(part, support)
    if len(features) <= MOST_FEATURES:
        return features
    seen = n_nonzero(in_memory(part.values))[features]
    return np.sort(features[np.argsort(-seen, kind="stable")[:MOST_FEATURES]])


def predictive_levels(
    question: Question, learned: Question, target: int, source: int, features: np.ndarray
) -> Iterator[np.ndarray]:
    """Levels u of held-out values, ``(B, G)`` for one block of cells after the other; NaN if unmeasured."""
    part = question.data.modalities[target]
    depth = None
    if question.module.likelihoods[target].reads_depth:
        depth = fit_depth(
            learned.module, learned.data, learned.cells, learned.batch_size, target, question.seed
        )
    for block in predicted_cells(
        question.module,
        question.data,
        question.cells,
        question.batch_size,
        target,
        features,
        None,
        N_DRAWS,
        depth,
        (source,),
        question.seed,
        part,
    ):
        loaded = part.loaded(block.cells)
        x = dense(in_memory(loaded.values))[:, features]  # (B, G)
        if block.is_binary:
            x = (x > 0).astype(np.float32)
        noise = CellNoise(question.data.cell_names[block.cells], question.seed)
        stream = stream_of(target) + 2
        uniform = noise.uniform(1, part.values.shape[1], stream, features)[0]  # (B, G)
        levels = randomised_levels(x, block.draws(), uniform)
        if loaded.observed is not None:
            levels[~loaded.observed[:, features]] = np.nan
        if loaded.coverage is not None:
            levels[dense(in_memory(loaded.coverage))[:, features] == 0] = np.nan
        yield levels


def randomised_levels(x: np.ndarray, draws: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """(#{draws < x} + v (#{draws = x} + 1)) / (S + 1): uniform in (0, 1) if x is one more draw.

    Parameters
    ----------
    x
        Any shape.
    draws
        S of each, ``(S, ...)``.
    uniform
        v, of the shape of ``x``.
    """
    below, equal = (draws < x).sum(axis=0), (draws == x).sum(axis=0)
    levels: np.ndarray = (below + uniform * (equal + 1)) / (len(draws) + 1)
    return levels
