"""The progress bar: one tick an epoch, with the terms that matter beside it."""

from __future__ import annotations

import lightning.pytorch as pl
from tqdm.auto import tqdm

from multiomics_vae.training.plan import TrainingPlan


class EpochProgress(pl.Callback):
    """Shows epochs, the held-out ELBO and its parts, in the first of several processes."""

    def __init__(self) -> None:
        self._bar: tqdm[None] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero and isinstance(pl_module, TrainingPlan):
            done, total = pl_module.history.n_epochs, pl_module.schedule.n_epochs
            self._bar = tqdm(initial=done, total=total, desc="Training", unit="epoch")

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._show(pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._show(pl_module)
        self._close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _show(self, plan: pl.LightningModule) -> None:
        if self._bar is None or not isinstance(plan, TrainingPlan) or plan.history.n_epochs == self._bar.n:
            return
        row = plan.history.last
        which = "validation" if "elbo_validation" in row else "train"
        shown = {"elbo": f"{row[f'elbo_{which}']:.1f}", "kl": f"{row[f'kl_{which}']:.1f}"}
        for name in plan.modality_names:
            shown[name] = f"{row[f'{name}_log_likelihood_{which}']:.1f}"
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(plan.history.n_epochs - self._bar.n)
