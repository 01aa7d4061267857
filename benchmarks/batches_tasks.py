"""Data sets with batches, and what every method is given of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mudata as md
import numpy as np
from numpy.typing import NDArray

UNLABELLED = ("unlabelled", "unknown", "Misc/unknown")
BATCHED = ("bmmc_multiome_neurips_a", "bmmc_cite_neurips", "pbmc_cite_mosaic_10k_5k")
FEW_CELLS = BATCHED[:2]  # 600 each, fewer than features
UNHARMED = "snareseq_mouse_cortex"


@dataclass(frozen=True)
class BatchTask:
    """One data set and seed. Batches are correction's to know; labels are for scoring alone.

    Parameters
    ----------
    name
        File without its ending.
    mdata
        All cells.
    second
        The modality beside ``"rna"``.
    labels, batch
        Of each cell, ``(N,)``.
    seed
        Of the method.
    """

    name: str
    mdata: md.MuData
    second: str
    labels: NDArray[np.str_]
    batch: NDArray[np.str_]
    seed: int

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Cells that have a label, ``(N,)``."""
        return ~np.isin(self.labels, UNLABELLED)

    @property
    def whole(self) -> bool:
        """Whether every cell has both modalities."""
        return bool(self.mdata["rna"].n_obs == self.mdata[self.second].n_obs == self.mdata.n_obs)


def read_task(folder: Path, name: str, seed: int) -> BatchTask:
    """Read a data set. SNARE-seq has no batch column; its libraries take the place."""
    mdata = md.read_h5mu(folder / f"{name}.h5mu")
    key = "batch" if "batch" in mdata.obs else next(k for k in ("library", "donor") if k in mdata.obs)
    mdata.obs["batch"] = mdata.obs[key].astype(str)
    second = next(modality for modality in mdata.mod if modality != "rna")
    text = [np.asarray(mdata.obs[column].astype(str), dtype=np.str_) for column in ("cell_type", "batch")]
    return BatchTask(name, mdata, second, text[0], text[1], seed)
