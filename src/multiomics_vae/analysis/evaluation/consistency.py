"""Whether the modalities of a cell say the same: distances of unimodal posteriors, and how rare they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from multiomics_vae.analysis.evaluation.question import Question
from multiomics_vae.analysis.latent import latent_table
from multiomics_vae.errors import InputError

FEWEST_REFERENCE = 20
N_PERMUTATIONS = 5


@dataclass(frozen=True)
class UnimodalPosteriors:
    """q(z | x_m) of every modality and cell.

    Parameters
    ----------
    mean, variance
        ``(M, N, K)``.
    present
        Which cell has which modality, ``(N, M)``, bool.
    """

    mean: np.ndarray
    variance: np.ndarray
    present: np.ndarray

    def distances(self, a: int, b: int, cells_a: np.ndarray, cells_b: np.ndarray) -> np.ndarray:
        """d² = Σ_k (μ_a − μ_b)² / (σ²_a + σ²_b) between modality a of cells and b of others: ``(n,)``."""
        apart = self.mean[a, cells_a] - self.mean[b, cells_b]  # (n, K)
        width = self.variance[a, cells_a] + self.variance[b, cells_b]  # (n, K)
        squared: np.ndarray = (np.square(apart, dtype=np.float64) / width).sum(axis=1)
        return squared


def unimodal_posteriors(question: Question) -> UnimodalPosteriors:
    """Infer every cell from each of its modalities alone."""
    tables = [
        latent_table(question.module, question.data, question.cells, question.batch_size, (m,))
        for m in range(len(question.names))
    ]
    return UnimodalPosteriors(
        np.stack([table.mean for table in tables]),
        np.stack([table.variance for table in tables]),
        question.present,
    )


def consistency_table(question: Question, reference: Question) -> pd.DataFrame:
    """Distances of the asked cells, and how they compare with matched and with swapped modalities.

    A cell's statistic is the mean of d² over the pairs of its modalities. It is compared with the same
    mean, over the same pairs, of the reference cells that have these modalities:

    - ``p_value`` = (1 + number of reference cells at least as distant) / (1 + number of reference cells).
      Uniform for a cell like those of the reference; small for one whose modalities contradict each other.
      A cell that is in the reference is compared with the others.
    - ``p_swapped`` = (1 + number of swapped cells at most as distant) / (1 + number of swapped cells). In
      swapped cells every modality is taken from another reference cell. Small for a cell whose modalities
      are nearer than chance. Some swapped cells are as near as matched ones, since both halves are of the
      same type: what a small distance is worth is seen here.

    Parameters
    ----------
    question
        The cells asked about.
    reference
        Held-out cells whose modalities are known to belong together.

    Returns
    -------
    DataFrame
        A row a cell: ``d2_<a>_<b>`` for every pair (NaN where the cell lacks one), ``distance`` (their
        mean), ``largest_distance``, ``p_value``, ``p_swapped``; NaN for cells with fewer than two modalities.

    Raises
    ------
    InputError
        If fewer than 20 reference cells have the modalities of some cell.
    """
    names, present = question.names, question.present
    asked, known = unimodal_posteriors(question), unimodal_posteriors(reference)
    everyone = np.arange(len(question.cells))
    pairs = [(a, b) for a in range(len(names)) for b in range(a + 1, len(names))]
    table = pd.DataFrame(index=pd.Index(question.data.cell_names[question.cells]))
    each = np.full((len(pairs), len(everyone)), np.nan)  # (P, N)
    for row, (a, b) in enumerate(pairs):
        both = everyone[present[:, a] & present[:, b]]
        each[row, both] = asked.distances(a, b, both, both)
        table[f"d2_{names[a]}_{names[b]}"] = each[row]
    statistic, largest, p_value, p_swapped = (np.full(len(everyone), np.nan) for _ in range(4))
    for pattern in np.unique(present[present.sum(axis=1) > 1], axis=0):
        rows = np.flatnonzero((present == pattern).all(axis=1))
        having = np.flatnonzero(pattern)
        of_pattern = np.array([p for p, pair in enumerate(pairs) if pattern[list(pair)].all()])
        matched_cells = np.flatnonzero(known.present[:, having].all(axis=1))
        if len(matched_cells) < FEWEST_REFERENCE:
            raise InputError(
                f"Only {len(matched_cells)} reference cells have {[names[m] for m in having]}, and "
                f"{len(rows)} cells are to be compared with them; {FEWEST_REFERENCE} are needed. "
                "Name more held-out cells: model.consistency(reference=test_indices)"
            )
        chosen = [pairs[p] for p in of_pattern]
        matched = _mean_distance(known, chosen, {int(m): matched_cells for m in having})
        swapped = np.concatenate(
            [
                _mean_distance(known, chosen, partners)
                for partners in _swaps(matched_cells, having, reference.seed)
            ]
        )
        statistic[rows] = each[np.ix_(of_pattern, rows)].mean(axis=0)
        largest[rows] = each[np.ix_(of_pattern, rows)].max(axis=0)
        inside = _places(question, reference, rows, matched_cells)
        own = (inside >= 0) & (matched[inside] >= statistic[rows])
        others = len(matched) - (inside >= 0)
        p_value[rows] = (1 + _at_least(matched, statistic[rows]) - own) / (1 + others)
        at_most = len(swapped) - _at_least(swapped, np.nextafter(statistic[rows], np.inf))
        p_swapped[rows] = (1 + at_most) / (1 + len(swapped))
    return table.assign(distance=statistic, largest_distance=largest, p_value=p_value, p_swapped=p_swapped)


def _mean_distance(
    posteriors: UnimodalPosteriors, pairs: list[tuple[int, int]], cells: dict[int, np.ndarray]
) -> np.ndarray:
    """Mean of d² over pairs, of cells whose modality m is that of ``cells[m]``: ``(n,)``."""
    found: np.ndarray = np.mean([posteriors.distances(a, b, cells[a], cells[b]) for a, b in pairs], axis=0)
    return found


def _swaps(cells: np.ndarray, modalities: np.ndarray, seed: int) -> list[dict[int, np.ndarray]]:
    """Several times the cells, each modality of each from another cell."""
    generator = np.random.default_rng(seed)
    swaps = []
    for _ in range(N_PERMUTATIONS):
        order = generator.permutation(cells)
        # Turned by different amounts, no two modalities of a row are of one cell.
        turns = generator.choice(len(cells), len(modalities), replace=False)
        swaps.append({int(m): np.roll(order, turn) for m, turn in zip(modalities, turns, strict=True)})
    return swaps


def _places(question: Question, reference: Question, rows: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Where among some reference cells the asked ones are, -1 for those that are not: ``(n,)``."""
    if question.data is not reference.data:
        return np.full(len(rows), -1)
    places: np.ndarray = pd.Index(reference.cells[cells]).get_indexer(question.cells[rows])
    return places


def _at_least(values: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """How many values are at least as large as each bound: ``(n,)``."""
    found: np.ndarray = len(values) - np.searchsorted(np.sort(values), bounds, side="left")
    return found
