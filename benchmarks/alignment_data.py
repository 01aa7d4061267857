"""Data sets of the alignment benchmark: a sample of cells, a split, and modalities that were swapped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import mudata as md
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from scores import Split, held_out_split

LABEL = "cell_type"


@dataclass(frozen=True)
class AlignmentData:
    """Cells with RNA and a second modality, which some may lack.

    Parameters
    ----------
    name, second
        Of the data set, and of the modality beside ``rna``.
    likelihoods, batch_key
        As `setup_mudata` takes them.
    mdata, labels, split
        All cells, their types, and which are fitted on and held out.
    swapped
        Cells whose values of one modality are another cell's: the name of that modality, or ``""``.
    """

    name: str
    second: str
    likelihoods: Mapping[str, str]
    batch_key: str | None
    mdata: md.MuData
    labels: NDArray[np.str_]  # (N,)
    split: Split
    swapped: NDArray[np.str_]  # (N,)

    @property
    def paired(self) -> NDArray[np.bool_]:
        """Cells that have both modalities: ``(N,)``."""
        return np.logical_and.reduce(
            [self.mdata.obs_names.isin(self.mdata[name].obs_names) for name in ("rna", self.second)]
        )


SOURCES: Mapping[str, tuple[str, Mapping[str, str], str | None]] = {
    "snareseq_mouse_cortex": ("atac", {"rna": "nb", "atac": "bernoulli"}, None),
    "pbmc_cite_mosaic_10k_5k": ("prot", {"rna": "nb", "prot": "protein_mixture"}, "batch"),
}


def read_cells(folder: Path, name: str, n_cells: int) -> AlignmentData:
    """Read a data set and keep a random sample of its cells, the same for every seed of a method."""
    second, likelihoods, batch_key = SOURCES[name]
    whole = md.read_h5mu(folder / f"{name}.h5mu")
    chosen = np.sort(np.random.default_rng(0).permutation(whole.n_obs)[:n_cells])
    mdata = whole[chosen].copy()
    labels = np.asarray(mdata.obs[LABEL].astype(str), dtype=np.str_)
    split = held_out_split(mdata.n_obs, 0)
    nothing = np.full(mdata.n_obs, "", dtype="U4")
    return AlignmentData(name, second, likelihoods, batch_key, mdata, labels, split, nothing)


def with_swapped(data: AlignmentData, share: float, seed: int = 0) -> AlignmentData:
    """Give a share of the cells with both modalities another cell's values in one of the two.

    The other cell is one of those that are swapped in the same modality, so that no values are seen twice.
    """
    rng = np.random.default_rng(seed)
    paired = np.flatnonzero(data.paired)
    hit = rng.permutation(paired)[: round(share * len(paired))]
    mdata = data.mdata.copy()
    swapped = data.swapped.copy()
    for name, cells in zip(("rna", data.second), np.array_split(hit, 2), strict=True):
        rows = mdata[name].obs_names.get_indexer(mdata.obs_names[cells])
        order = np.arange(mdata[name].n_obs)
        order[rows] = np.roll(rows, 1)
        mdata.mod[name].X = sp.csr_matrix(mdata[name].X)[order]
        swapped[cells] = name
    return replace(data, mdata=mdata, swapped=swapped)
