"""SNARE-seq with modalities taken away: what is left of the joint embedding, and how well pairs meet."""

from __future__ import annotations

from dataclasses import dataclass

import mudata as md
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.metrics import pairwise_distances

REMOVED = 0.4  # of the cells lose RNA, as many others lose ATAC
SPLIT_SEED = 0


@dataclass(frozen=True)
class Removal:
    """Which cells keep what, ``(N,)`` each, bool."""

    has_rna: NDArray[np.bool_]
    has_atac: NDArray[np.bool_]

    @property
    def whole(self) -> NDArray[np.bool_]:
        return self.has_rna & self.has_atac


def draw_removal(n_cells: int) -> Removal:
    """Two disjoint sets of 40 % of the cells, the same for every method and seed."""
    order = np.random.default_rng(SPLIT_SEED).permutation(n_cells)
    n_removed = round(REMOVED * n_cells)
    has_rna, has_atac = np.ones(n_cells, dtype=bool), np.ones(n_cells, dtype=bool)
    has_rna[order[:n_removed]] = False
    has_atac[order[n_removed : 2 * n_removed]] = False
    return Removal(has_rna, has_atac)


def remove(mdata: md.MuData, removal: Removal) -> md.MuData:
    """A MuData in which those cells are absent from those modalities; order and obs stay."""
    names = mdata.obs_names
    parts = {
        "rna": mdata["rna"][names[removal.has_rna]].copy(),
        "atac": mdata["atac"][names[removal.has_atac]].copy(),
    }
    return md.MuData(parts)


def with_zeros(mdata: md.MuData, removal: Removal) -> md.MuData:
    """All cells in both modalities, with rows of zeros where `remove` would leave one out."""
    parts = {}
    for name, has in (("rna", removal.has_rna), ("atac", removal.has_atac)):
        part = mdata[name].copy()
        part.X = sp.diags(has.astype(np.float32)) @ sp.csr_matrix(part.X, dtype=np.float32)
        part.X.eliminate_zeros()
        parts[name] = part
    return md.MuData(parts)


def foscttm(a: NDArray[np.floating], b: NDArray[np.floating], at_once: int = 1_000) -> float:
    """Fraction of samples closer than the true match (Liu et al. 2019): 0 is best, 0.5 is chance.

    For every cell, the share of the other cells' b that lie closer to its a than its own b does, and the
    other way round; mean over cells and both ways.
    """
    shares = []
    for x, y in ((a, b), (b, a)):
        for start in range(0, len(x), at_once):
            distances = pairwise_distances(x[start : start + at_once], y)  # (B, n)
            own = distances[np.arange(len(distances)), np.arange(start, start + len(distances))]
            shares.append((distances < own[:, None]).sum(1) / max(len(x) - 1, 1))
    return float(np.concatenate(shares).mean())
