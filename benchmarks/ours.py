"""MultiVAE with its defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lightning.pytorch as pl
import mudata as md
import numpy as np
import pandas as pd
import scipy.sparse as sp

import marginal
from baselines import binarised
from curves import curve_point
from records import CurvePoint, EmbeddingRun, HeldOutLikelihood, Stopwatch, Task

if TYPE_CHECKING:
    from multiomics_vae import MultiVAE

EVERY_EPOCH_UNTIL = 12
CURVE_EVERY_EPOCHS = 3  # from then on


class Curve(pl.Callback):
    """Scores the averaged weights after an epoch, with the clock stopped meanwhile."""

    def __init__(self, model: MultiVAE, task: Task, held_out: md.MuData, clock: Stopwatch) -> None:
        self.model, self.task, self.held_out, self.clock = model, task, held_out, clock
        self.points: list[CurvePoint] = []

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if epoch <= EVERY_EPOCH_UNTIL or epoch % CURVE_EVERY_EPOCHS == 0:
            self.score(epoch)

    def score(self, epoch: int) -> None:
        """Add a point for the weights that are in place."""
        with self.clock:
            wall, cpu = self.clock.wall_seconds, self.clock.cpu_seconds
            Z = self.model.get_latent_representation(self.task.mdata)  # (N, K)
            # Of a cell of average depth, whatever the depth of the one asked about: (n, F).
            peaks = self.model.get_normalized("atac", self.held_out, given=["rna"]).to_numpy()
            self.points.append(curve_point(self.task, epoch, wall, cpu, Z, peaks))


def product(task: Task) -> EmbeddingRun:
    """The prior expert times the experts, each raised to a learned power."""
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
    curve = Curve(model, task, test, clock)
    model.train(callbacks=[curve])
    wall, cpu, is_past_cap = clock.wall_seconds, clock.cpu_seconds, clock.is_past_cap(task)
    curve.score(model.history.n_epochs)  # the weights that were kept, those of the best epoch
    return EmbeddingRun(
        embedding=np.asarray(model.get_latent_representation(task.mdata)),
        embedding_rna=np.asarray(model.get_latent_representation(task.mdata, modalities=["rna"])),
        wall_seconds=wall,
        cpu_seconds=cpu,
        epochs=model.history.n_epochs,
        stopped_by="its own rule, past the cap" if is_past_cap else "its own rule",
        likelihoods=_likelihoods(task, model.get_log_likelihood(mdata=test)),
        curve=tuple(curve.points),
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
