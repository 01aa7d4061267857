"""Peers that correct batches, as their authors ship them, and linear embeddings. One process each.

Every function returns an embedding of all cells in the order of ``task.mdata.obs_names``, and what ended it.
"""

from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD

from batches_tasks import BatchTask
from records import Stopwatch

Floats = NDArray[np.floating]
DIMENSIONS = 30


def svd(task: BatchTask) -> tuple[Floats, str]:
    """SVD of log-normalised RNA beside LSI of peaks or SVD of centred proteins; nothing corrected.

    Of cells that lack the second modality nothing can be put beside their RNA: there it is RNA alone.
    """
    blocks = [_scores(_log_normalised(task.mdata["rna"].X), task.seed)]
    if task.whole:
        second = task.mdata[task.second][task.mdata["rna"].obs_names].X
        seen = _tf_idf(second) if task.second == "atac" else _centred_log_ratio(second)
        blocks.append(_scores(seen, task.seed))
    Z = np.hstack([block / np.sqrt(block.var(0).sum()) for block in blocks])
    rows = task.mdata["rna"].obs_names.get_indexer(task.mdata.obs_names)
    return Z[rows], f"{Z.shape[1]} dimensions"


def harmony(task: BatchTask) -> tuple[Floats, str]:
    """Harmony with its defaults, on the embedding of `svd`."""
    import harmonypy
    import pandas as pd

    Z, what = svd(task)
    meta = pd.DataFrame({"batch": task.batch})
    found = harmonypy.run_harmony(Z, meta, "batch", random_state=task.seed, ncores=1, verbose=False)
    corrected = np.asarray(found.Z_corr)
    return corrected.T if corrected.shape[0] != len(Z) else corrected, what


def scvi_rna(task: BatchTask, cap_seconds: float) -> tuple[Floats, str]:
    """ScVI of scvi-tools on the RNA, defaults, early stopping."""
    import scvi

    scvi.settings.seed = task.seed
    adata = _in_order(task, "rna")
    scvi.model.SCVI.setup_anndata(adata, batch_key="batch")
    return _trained(scvi.model.SCVI(adata), cap_seconds, early_stopping=True)


def totalvi(task: BatchTask, cap_seconds: float) -> tuple[Floats, str]:
    """TotalVI of scvi-tools, defaults; a batch without proteins is all zeros, as its authors have it."""
    import scvi

    scvi.settings.seed = task.seed
    adata = _in_order(task, "rna")
    protein = task.mdata[task.second]
    table = np.zeros((adata.n_obs, protein.n_vars), dtype=np.float32)
    values = protein.X.toarray() if sp.issparse(protein.X) else np.asarray(protein.X)
    table[adata.obs_names.get_indexer(protein.obs_names)] = values
    adata.obsm["protein"] = table
    scvi.model.TOTALVI.setup_anndata(adata, batch_key="batch", protein_expression_obsm_key="protein")
    return _trained(scvi.model.TOTALVI(adata), cap_seconds)


def multivi(task: BatchTask, cap_seconds: float) -> tuple[Floats, str]:
    """MULTIVI of scvi-tools, defaults."""
    import scvi

    scvi.settings.seed = task.seed
    mdata = task.mdata.copy()
    scvi.model.MULTIVI.setup_mudata(
        mdata, batch_key="batch", modalities={"rna_layer": "rna", "atac_layer": "atac", "batch_key": "rna"}
    )
    return _trained(scvi.model.MULTIVI(mdata), cap_seconds)


def _trained(model: Any, cap_seconds: float, **choices: Any) -> tuple[Floats, str]:
    """Train with the model's own number of epochs and early stopping, or until the cap of CPU seconds."""
    import lightning.pytorch as pl

    class Cap(pl.Callback):
        def __init__(self) -> None:
            self.clock, self.met, self.epochs = Stopwatch(), False, 0

        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            self.epochs = trainer.current_epoch + 1
            if self.clock.cpu_seconds > cap_seconds:
                self.met = trainer.should_stop = True

    cap = Cap()
    model.train(accelerator="cpu", callbacks=[cap], enable_progress_bar=False, **choices)
    Z = model.get_latent_representation()
    return Z, f"{cap.epochs} epochs, stopped by {'the cap' if cap.met else 'its own rule'}"


def _in_order(task: BatchTask, modality: str) -> ad.AnnData:
    adata = task.mdata[modality][task.mdata.obs_names].copy()
    adata.X = sp.csr_matrix(adata.X)
    adata.obs["batch"] = task.batch
    return adata


def _log_normalised(x: Any) -> sp.csr_matrix:
    counts = sp.csr_matrix(x, dtype=np.float32)
    library = np.maximum(np.asarray(counts.sum(1)).ravel(), 1)
    return (sp.diags(1e4 / library) @ counts).log1p().tocsr()


def _tf_idf(x: Any) -> sp.csr_matrix:
    peaks = (sp.csr_matrix(x) > 0).astype(np.float32)
    depth = np.maximum(np.asarray(peaks.sum(1)).ravel(), 1)
    weight = np.log1p(peaks.shape[0] / (1 + np.asarray(peaks.sum(0)).ravel()))
    return (sp.diags(1e4 / depth) @ peaks @ sp.diags(weight)).log1p().tocsr()


def _centred_log_ratio(x: Any) -> Floats:
    log = np.log1p(x.toarray() if sp.issparse(x) else np.asarray(x)).astype(np.float32)
    centred = log - log.mean(1, keepdims=True)
    return centred - centred.mean(0)


def _scores(x: Any, seed: int) -> Floats:
    return TruncatedSVD(min(DIMENSIONS, x.shape[1] - 1), random_state=seed).fit_transform(x)
