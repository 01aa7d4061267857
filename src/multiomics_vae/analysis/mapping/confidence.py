"""Whether a model knows cells like these: how far from known cells they lie, and how badly they are told.

Two things speak against a cell. Its z may lie where few known cells lie. Or it lies among known cells, since an
encoder must put it somewhere, but is not what these are: then half of its features do not tell the other.
Each is compared with held-out cells of the reference, which the model has not seen and does know.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold
from sklearn.neighbors import NearestNeighbors

from multiomics_vae.analysis.mapping.labels import check_share
from multiomics_vae.analysis.mapping.memory import CellEvidence, ReferenceMemory, cell_evidence
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.errors import InputError
from multiomics_vae.module import MultimodalModule

FEWEST_HELD_OUT = 20
N_NEIGHBORS = 15
N_FOLDS = 10
PENALTIES = (1.0, 10.0, 100.0, 1000.0)
KNOWN, UNKNOWN = "known", "unknown"


@dataclass(frozen=True, eq=False)
class Strangeness:
    """Scores of N cells, each on the scale of held-out cells; large is strange.

    Parameters
    ----------
    distance
        Of z from known cells, ``(N,)``.
    surprise
        By how much the hidden halves of its modalities are told worse than those of held-out cells that lie
        there and are as deep, ``(N,)``.
    """

    distance: np.ndarray
    surprise: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """The sum of both."""
        total: np.ndarray = self.distance + self.surprise
        return total


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
    columns = {name: np.full(len(cells), np.nan) for name in ("p_value", "distance", "surprise")}
    present = data.present[cells]
    for pattern in np.unique(present, axis=0):
        rows = np.flatnonzero((present == pattern).all(axis=1))
        given = tuple(int(m) for m in np.flatnonzero(pattern))
        held_out = memory.held_out.get(given)
        n = 0 if held_out is None else len(held_out.latent)
        if held_out is None or n < FEWEST_HELD_OUT:
            raise InputError(
                f"The reference remembers {n} held-out cells with {[names[m] for m in given]} to compare "
                f"{len(rows)} cells with; {FEWEST_HELD_OUT} are needed. Hold out more of them in its training: "
                "reference.train(validation_size=0.2)"
            )
        asked = cell_evidence(module, data, cells[rows], batch_size, given, memory.norms)
        known, found = compared(held_out, asked, memory.known)
        columns["p_value"][rows] = p_values(known.total, found.total)
        columns["distance"][rows], columns["surprise"][rows] = found.distance, found.surprise
    table = pd.DataFrame(columns, index=pd.Index(data.cell_names[cells]))
    return table.assign(verdict=np.where(table["p_value"] < false_alarms, UNKNOWN, KNOWN))


def p_values(known: np.ndarray, found: np.ndarray) -> np.ndarray:
    """(1 + number of held-out cells at least as strange) / (1 + number of held-out cells): ``(N,)``.

    Of a cell like the held-out ones it is below α with probability α at the most (conformal; Vovk et al. 2005).
    """
    at_least = len(known) - np.searchsorted(np.sort(known), found, side="left")
    values: np.ndarray = (1 + at_least) / (1 + len(known))
    return values


def compared(
    held_out: CellEvidence, asked: CellEvidence, known: np.ndarray
) -> tuple[Strangeness, Strangeness]:
    """Scores of the held-out cells, each as if it were not one of them, and of the asked cells.

    Parameters
    ----------
    held_out, asked
        From the same modalities.
    known
        Latent means of training cells, ``(n, K)``.
    """
    search = NearestNeighbors(n_neighbors=min(N_NEIGHBORS, len(known))).fit(known)
    distances = [np.log(search.kneighbors(e.latent)[0].mean(axis=1) + 1e-12) for e in (held_out, asked)]
    centre, scale = distances[0].mean(), max(float(distances[0].std()), 1e-12)
    distance = [(each - centre) / scale for each in distances]
    surprise = [np.zeros(len(e.latent)) for e in (held_out, asked)]
    modalities = [m for m in range(asked.hidden.shape[1]) if np.isfinite(held_out.hidden[:, m]).all()]
    for m in modalities:
        pair = _surprise(held_out, asked, m)
        for total, each in zip(surprise, pair, strict=True):
            total += each / len(modalities) ** 0.5
    return Strangeness(distance[0], surprise[0]), Strangeness(distance[1], surprise[1])


def _surprise(held_out: CellEvidence, asked: CellEvidence, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Standardised shortfall of the hidden log likelihood under its regression on z and depth."""
    x, y = _inputs(held_out, m), -held_out.hidden[:, m]
    own = np.empty(len(y))
    folds = KFold(min(N_FOLDS, len(y)), shuffle=True, random_state=0)
    for rest, fold in folds.split(x):
        own[fold] = y[fold] - _fitted(x[rest], y[rest]).predict(x[fold])
    residual = -asked.hidden[:, m] - _fitted(x, y).predict(_inputs(asked, m))
    scale = max(float(own.std()), 1e-12)
    return own / scale, residual / scale


def _fitted(x: np.ndarray, y: np.ndarray) -> RidgeCV:
    return RidgeCV(PENALTIES).fit(x, y)


def _inputs(evidence: CellEvidence, m: int) -> np.ndarray:
    depth = evidence.log_depth[:, [m]]
    z = evidence.latent
    return np.hstack([depth, depth**2, np.exp(depth), z, z**2, z * depth])
