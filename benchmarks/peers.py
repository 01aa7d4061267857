"""Peers, run as their authors ship them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray

from curves import curve_point
from records import CurvePoint, EmbeddingRun, Stopwatch, Task

CURVE_EVERY_EPOCHS = 20
MAX_EPOCHS = 500  # the default of MULTIVI


class CapAndCurve(pl.Callback):
    """Stops at the cap and scores the embedding every few epochs, with the clock stopped meanwhile."""

    def __init__(self, model: Any, task: Task) -> None:
        self.model, self.task = model, task
        self.clock = Stopwatch()
        self.points: list[CurvePoint] = []
        self.epochs = 0
        self.capped = False

    @property
    def stopped_by(self) -> str:
        if self.capped:
            return "cap"
        return "its last epoch" if self.epochs == MAX_EPOCHS else "early stopping"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.clock = Stopwatch()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        if self.clock.is_past_cap(self.task):
            self.capped = trainer.should_stop = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.epochs = trainer.current_epoch + 1
        with self.clock:
            wall, cpu = self.clock.wall_seconds, self.clock.cpu_seconds
            print(f"multivi epoch {self.epochs}: {wall:.0f} s wall, {cpu:.0f} s CPU", flush=True)
            if self.epochs in (1, 5, 10) or self.epochs % CURVE_EVERY_EPOCHS == 0:
                with self._as_if_trained(pl_module):
                    Z = self.model.get_latent_representation()  # (N, K)
                    peaks = _peaks_from_rna(self.model, self.task.split.test)
                self.points.append(curve_point(self.task, self.epochs, wall, cpu, Z, peaks))
                print(f"multivi: {self.points[-1]}", flush=True)

    @contextmanager
    def _as_if_trained(self, pl_module: pl.LightningModule) -> Iterator[None]:
        """Ask part-way: the model must believe it is trained, and training must not notice."""
        was_trained = self.model.is_trained_
        self.model.is_trained_ = True
        pl_module.eval()
        with torch.random.fork_rng(), torch.no_grad():
            yield
        pl_module.train()
        self.model.is_trained_ = was_trained


def _peaks_from_rna(model: Any, cells: NDArray[np.int64]) -> NDArray[np.float32]:
    """Decode the mean of q(z | RNA), nothing of the ATAC read; one batch, so its code is 0. ``(n, F)``."""
    z = torch.from_numpy(model.get_latent_representation(indices=cells, modality="expression"))  # (n, K)
    batch = torch.zeros((len(z), 1), dtype=torch.int64)
    peaks: NDArray[np.float32] = model.module.z_decoder_accessibility(z, batch).numpy()
    return peaks


def multivi(task: Task) -> EmbeddingRun:
    """MULTIVI of scvi-tools with its defaults: 500 epochs at most, early stopping on validation cells.

    scvi-tools 1.4.2 cannot embed a MuData it was not trained on (``KeyError: _indices``). All cells are
    therefore registered, and ``external_indexing`` says which may be used: nine tenths of the training cells
    to train, one tenth for early stopping, the held-out cells for nothing.
    """
    import scvi

    scvi.settings.seed = task.seed
    mdata = task.mdata.copy()
    scvi.model.MULTIVI.setup_mudata(mdata, modalities={"rna_layer": "rna", "atac_layer": "atac"})
    model = scvi.model.MULTIVI(mdata)
    order = np.random.default_rng(task.seed).permutation(task.split.train)
    n_validation = len(order) // 10
    callback = CapAndCurve(model, task)
    model.train(
        max_epochs=MAX_EPOCHS,
        accelerator="cpu",
        datasplitter_kwargs={
            "external_indexing": [order[n_validation:], order[:n_validation], task.split.test]
        },
        callbacks=[callback],
        enable_progress_bar=False,
    )
    wall, cpu = callback.clock.wall_seconds, callback.clock.cpu_seconds
    return EmbeddingRun(
        embedding=model.get_latent_representation(),
        embedding_rna=model.get_latent_representation(modality="expression"),
        wall_seconds=wall,
        cpu_seconds=cpu,
        epochs=callback.epochs,
        stopped_by=callback.stopped_by,
        curve=tuple(callback.points),
        weights=model.module.state_dict(),
    )
