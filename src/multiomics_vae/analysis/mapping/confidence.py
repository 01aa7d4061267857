"""Whether a model knows cells like these: how far from known cells they lie, and how badly they are told.

Two things speak against a cell. Its z may lie where few known cells lie. Or it lies among known cells, since
an encoder must put it somewhere, but is not what these are: then half of its features do not tell the other.
A third, what it shares with other new cells, is that of `cohort.py`; asked for, it counts most. Each
is compared with held-out cells of the reference, which the model has not seen and does know.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from multiomics_vae.analysis.mapping.contrast import measured
from multiomics_vae.analysis.mapping.labels import check_share
from multiomics_vae.analysis.mapping.memory import (
    CellEvidence,
    ReferenceMemory,
    Subset,
    cell_evidence,
    name_keys,
)
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.errors import InputError
from multiomics_vae.module import MultimodalModule

FEWEST_HELD_OUT = 20
N_NEIGHBORS = 50
CELLS_AT_ONCE = 2_048
PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)
SMALLEST_SHARE = 0.2
BEYOND = 0.1
MOST_TOLD = 0.99
# How much each counts; what dozens of cells show more than what one does.
COUNTS = {"distance": 1.0, "surprise": 1.0, "shared": 5.0}
COLUMNS = ("p_value", "strangeness", "distance", "surprise", "shared")
KNOWN, UNKNOWN = "known", "unknown"


def confidence_table(
    module: MultimodalModule,
    data: MultimodalData,
    cells: np.ndarray,
    memory: ReferenceMemory,
    false_alarms: float,
    batch_size: int,
) -> pd.DataFrame:
    """Compare cells with the held-out ones of the reference.

    Parameters
    ----------
    module, data, cells, batch_size
        The model, the cells, the positions asked about.
    memory
        Of the reference.
    false_alarms
        Share of the cells of the reference that may be called unknown.

    Raises
    ------
    InputError
        If fewer than 20 held-out cells have the modalities of some cell.
    """
    check_share("false_alarms", false_alarms, "false_alarms=0.05")
    names = data.schema.modality_names
    columns = {name: np.full(len(cells), np.nan) for name in COLUMNS}
    present = data.present[cells]
    for pattern in np.unique(present, axis=0):
        rows = np.flatnonzero((present == pattern).all(axis=1))
        given = tuple(int(m) for m in np.flatnonzero(pattern))
        held_out = memory.held_out.get(given)
        n = 0 if held_out is None else len(held_out.latent)
        if held_out is None or n < FEWEST_HELD_OUT:
            raise InputError(
                f"The reference remembers {n} held-out cells with {[names[m] for m in given]} to compare "
                f"{len(rows)} cells with; {FEWEST_HELD_OUT} are needed. Hold out more of them in its "
                "training: reference.train(validation_size=0.2)"
            )
        asked = cell_evidence(module, data, cells[rows], batch_size, given, memory.norms)
        pairs = {
            "distance": normal_scores(*distances(held_out, asked, memory.known)),
            "surprise": weighted([surprise(held_out, asked, m) for m in given], told_by(memory, given)),
        }
        if any((given, m) in memory.cohorts for m in given):
            pairs["shared"] = normal_scores(*shared(memory, module, data, cells[rows], asked.latent, given))
        known_total, asked_total = np.zeros(n), np.zeros(len(rows))
        for name, (known, asked_here) in pairs.items():
            columns[name][rows] = asked_here
            # A cell is strange if it is so in one respect: the largest counts, softly.
            known_total += COUNTS[name] * np.exp(known)
            asked_total += COUNTS[name] * np.exp(asked_here)
        columns["strangeness"][rows] = np.log(asked_total)
        columns["p_value"][rows] = p_values(known_total, asked_total)
    table = pd.DataFrame(columns, index=pd.Index(data.cell_names[cells]))
    return table.assign(verdict=np.where(table["p_value"] < false_alarms, UNKNOWN, KNOWN))


def p_values(known: np.ndarray, found: np.ndarray) -> np.ndarray:
    """(1 + number of held-out cells at least as strange) / (1 + number of held-out cells): ``(N,)``.

    Of a cell like the held-out ones it is at most α with probability α at most (conformal; Vovk et al. 2005).
    """
    at_least = len(known) - np.searchsorted(np.sort(known), found, side="left")
    values: np.ndarray = (1 + at_least) / (1 + len(known))
    return values


def told_by(memory: ReferenceMemory, given: Subset) -> np.ndarray:
    """How much each modality alone tells of z, −½ Σ_k log(1 − R²_k) nats, as if z were normal: ``(|A|,)``.

    R²_k is the variance of E[z_k | x_m] among held-out cells, over that of E[z_k | x] among training cells.
    So much a modality counts, lest one that hardly tells cells apart drowns what another shows.
    """
    whole = np.maximum(memory.known.var(axis=0), 1e-12)  # (K,)
    found = []
    for m in given:
        alone = memory.held_out.get((m,))
        told = np.full(len(whole), 0.5) if alone is None else alone.latent.var(axis=0) / whole  # (K,)
        found.append(float(-0.5 * np.log1p(-told.clip(0.0, MOST_TOLD)).sum()))
    weights: np.ndarray = np.maximum(np.array(found), 1e-12)
    return weights


def weighted(
    pairs: list[tuple[np.ndarray, np.ndarray]], weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Normal scores of the weighted sum of several modalities' normal scores."""
    scored = [normal_scores(*pair) for pair in pairs]
    if len(scored) == 1:
        return scored[0]
    held_out, asked = (
        np.sum([w * pair[side] for w, pair in zip(weights, scored, strict=True)], axis=0) for side in (0, 1)
    )
    return normal_scores(held_out, asked)


def normal_scores(held_out: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Levels among held-out cells, as normal scores; beyond the strangest of them a straight line.

    Parameters
    ----------
    held_out, asked
        Scores, ``(V,)`` and ``(N,)``.
    """
    rising = np.sort(held_out)
    scale = max(float(rising.std()), 1e-12)

    def score(values: np.ndarray) -> np.ndarray:
        below = np.searchsorted(rising, values, side="left")
        level = norm.ppf((below + 0.5) / (len(rising) + 1))
        beyond = np.maximum(values - rising[-1], 0.0) / scale
        found: np.ndarray = level + BEYOND * np.minimum(beyond, 10.0)
        return found

    return score(held_out), score(asked)


def distances(
    held_out: CellEvidence, asked: CellEvidence, known: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean distance of z from its nearest known cells: of held-out and of asked cells."""
    search = NearestNeighbors(n_neighbors=min(N_NEIGHBORS, len(known))).fit(known)
    first, second = (search.kneighbors(e.latent)[0].mean(axis=1) for e in (held_out, asked))
    return first, second


def surprise(held_out: CellEvidence, asked: CellEvidence, m: int) -> tuple[np.ndarray, np.ndarray]:
    """By how much the hidden halves of a modality are told worse than those of held-out cells as deep.

    The shortfall of the log likelihood under its regression on depth, over its usual size at that depth.
    """
    x, y = _of_depth(held_out, m), -held_out.hidden[:, m]
    fitted = _fitted(x, y)
    away = y - fitted.predict(x)
    usual = _fitted(x, np.abs(away))
    smallest = max(SMALLEST_SHARE * float(np.abs(away).mean()), 1e-12)
    x_asked = _of_depth(asked, m)
    others = -asked.hidden[:, m] - fitted.predict(x_asked)
    return (
        away / np.maximum(usual.predict(x), smallest),
        others / np.maximum(usual.predict(x_asked), smallest),
    )


def shared(
    memory: ReferenceMemory,
    module: MultimodalModule,
    data: MultimodalData,
    cells: np.ndarray,
    latent: np.ndarray,
    given: Subset,
) -> tuple[np.ndarray, np.ndarray]:
    """What speaks for the new cells around a cell against the known ones; of held-out and of asked cells.

    Log likelihood ratios, which add up over modalities: one that tells nothing of it hardly moves them.

    Parameters
    ----------
    memory
        With cohorts of some of the modalities.
    module, data, cells, given
        The model, the cells, the positions asked about, the modalities that are looked at.
    latent
        E[z | x_A] of the cells asked about, ``(N, K)``.
    """
    cohorts = {m: memory.cohorts[given, m] for m in given if (given, m) in memory.cohorts}
    scores = np.zeros(len(cells))
    for start in range(0, len(cells), CELLS_AT_ONCE):
        here = slice(start, start + CELLS_AT_ONCE)
        loaded = data.loaded(cells[here])
        keys = name_keys(loaded.cell_names)
        for m, cohort in cohorts.items():
            values = measured(loaded, m, cohort.features, module.likelihoods[m].support)
            scores[here] += cohort.scores(latent[here], values, keys)
    held_out = np.stack([cohort.held_out for cohort in cohorts.values()]).sum(axis=0, dtype=np.float64)
    return held_out, scores


def _fitted(x: np.ndarray, y: np.ndarray) -> Pipeline:
    return make_pipeline(StandardScaler(), RidgeCV(PENALTIES)).fit(x, y)


def _of_depth(evidence: CellEvidence, m: int) -> np.ndarray:
    depth = evidence.log_depth[:, [m]]
    # The log likelihood of counts is nearly linear in the depth itself.
    return np.hstack([depth, depth**2, np.exp(depth)])
