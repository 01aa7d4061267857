"""MultiVAE with its defaults."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy.sparse as sp

import marginal
from baselines import binarised
from records import EmbeddingRun, HeldOutLikelihood, Stopwatch, Task


def product(task: Task) -> EmbeddingRun:
    """Experts multiplied with the prior expert."""
    return _multivae(task, "product")


def gated(task: Task) -> EmbeddingRun:
    """Experts of single modalities and of the pair, pooled with learned weights."""
    return _multivae(task, "gated")


def _multivae(task: Task, fusion: str) -> EmbeddingRun:
    """Fit on the training cells, embed every cell; timed from registration to the end of training."""
    from multiomics_vae import MultiVAE

    train = task.mdata[task.split.train].copy()
    test = task.mdata[task.split.test].copy()
    clock = Stopwatch()
    MultiVAE.setup_mudata(train, likelihoods={"rna": "nb", "atac": "bernoulli"})
    model = MultiVAE(train, fusion=fusion, seed=task.seed)
    model.train()
    wall, cpu, is_past_cap = clock.wall_seconds, clock.cpu_seconds, clock.is_past_cap(task)
    return EmbeddingRun(
        embedding=np.asarray(model.get_latent_representation(task.mdata)),
        embedding_rna=np.asarray(model.get_latent_representation(task.mdata, modalities=["rna"])),
        wall_seconds=wall,
        cpu_seconds=cpu,
        epochs=model.history.n_epochs,
        stopped_by="its own rule, past the cap" if is_past_cap else "its own rule",
        likelihoods=_likelihoods(task, model.get_log_likelihood(mdata=test)),
    )


def _likelihoods(task: Task, per_cell: pd.DataFrame) -> tuple[HeldOutLikelihood, ...]:
    """Set the model's log likelihood, a column a modality, beside the marginal model's."""
    train, test = task.split.train, task.split.test
    counts, peaks = sp.csr_matrix(task.mdata["rna"].X), binarised(task)
    return (
        HeldOutLikelihood(
            "rna", float(per_cell["rna"].mean()), marginal.negative_binomial(counts[train], counts[test])
        ),
        HeldOutLikelihood(
            "atac", float(per_cell["atac"].mean()), marginal.bernoulli(peaks[train], peaks[test])
        ),
    )
