"""totalVI as its authors ship it; run in a process of its own."""

from __future__ import annotations

import anndata as ad
import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from imputation_tasks import ImputationTask
from peer_cap import CpuCap

MEASURED, HELD_OUT = "measured", "held_out"
DRAWS = 25


def totalvi(task: ImputationTask, cap_seconds: float) -> tuple[NDArray[np.floating], str]:
    """Run totalVI with its defaults, stopped by its early stopping or after ``cap_seconds`` of CPU time.

    It can lack proteins of a whole batch only, so the held-out cells are a batch of their own without
    proteins, and are decoded as the batch of the measured ones: the way its tutorial imputes. Their RNA
    is therefore part of its training, which that of the others' is not.

    Returns
    -------
    tuple
        log(1 + expected protein count), background included, ``(n, F)``; what stopped training.
    """
    import scvi

    scvi.settings.seed = task.seed
    joined, proteins = _joined(task)
    scvi.model.TOTALVI.setup_anndata(joined, protein_expression_obsm_key="protein", batch_key="batch")
    model = scvi.model.TOTALVI(joined)
    cap = CpuCap(cap_seconds)
    model.train(accelerator="cpu", callbacks=[cap], enable_progress_bar=False)
    rows = np.flatnonzero(joined.obs["batch"] == HELD_OUT)
    _, values = model.get_normalized_expression(
        indices=rows,
        n_samples=DRAWS,
        transform_batch=[MEASURED],
        include_protein_background=True,
        gene_list=list(joined.var_names[:2]),
        return_numpy=True,
    )
    assert values.shape == (len(rows), len(proteins))
    return np.log1p(values), cap.note


def _joined(task: ImputationTask) -> tuple[ad.AnnData, list[str]]:
    """All cells in one table: those with proteins, other batches without, and the held-out ones."""
    rna, protein, held_out = task.train["rna"], task.train["prot"], task.test["rna"]
    batch = np.asarray(task.train.obs.loc[rna.obs_names, task.batch_key].astype(str))
    has = rna.obs_names.isin(protein.obs_names)
    batch[has] = MEASURED
    proteins = list(protein.var_names)
    table = np.zeros((rna.n_obs + held_out.n_obs, len(proteins)), dtype=np.float32)
    x = protein[rna.obs_names[has]].X
    table[np.flatnonzero(has)] = x.toarray() if sp.issparse(x) else x
    joined = ad.AnnData(sp.vstack([sp.csr_matrix(rna.X), sp.csr_matrix(held_out.X)]).tocsr())
    joined.var_names = rna.var_names
    joined.obs_names = [*rna.obs_names, *held_out.obs_names]
    joined.obs["batch"] = [*batch, *[HELD_OUT] * held_out.n_obs]
    joined.obsm["protein"] = table
    return joined, proteins
