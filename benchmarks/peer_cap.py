"""Stops a peer's training at a number of CPU seconds."""

from __future__ import annotations

import lightning.pytorch as pl

from records import Stopwatch


class CpuCap(pl.Callback):
    """Counts epochs and CPU seconds of training, and ends it after the epoch in which the cap is met."""

    def __init__(self, cap_seconds: float) -> None:
        self.cap_seconds = cap_seconds
        self.clock, self.met, self.epochs, self.spent = Stopwatch(), False, 0, 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.clock = Stopwatch()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.epochs, self.spent = trainer.current_epoch + 1, self.clock.cpu_seconds
        if self.spent > self.cap_seconds:
            self.met = trainer.should_stop = True

    @property
    def note(self) -> str:
        """For the table: how long it trained, and what stopped it."""
        stopped = "the cap" if self.met else "its own rule"
        return f"{self.epochs} epochs, {self.spent:.0f} CPU s, stopped by {stopped}"
