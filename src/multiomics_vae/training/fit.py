"""Runs a training: split, loaders, Lightning's trainer, and what a user may do in the middle of it."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import lightning.pytorch as pl
import numpy as np
import torch

from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.loader import MinibatchLoader
from multiomics_vae.errors import DeviceError, InputError, is_out_of_memory
from multiomics_vae.module import MultimodalModule
from multiomics_vae.objective import Objective, ObjectiveConfig
from multiomics_vae.training.balance import GradientBalance
from multiomics_vae.training.config import TrainingConfig
from multiomics_vae.training.history import History
from multiomics_vae.training.plan import TrainingPlan
from multiomics_vae.training.progress import EpochProgress


@dataclass(frozen=True)
class TrainingResult:
    """What a training run leaves beside the weights.

    Parameters
    ----------
    best_epoch
        The epoch whose weights were kept.
    n_steps
        Steps taken.
    interrupted
        True if the user stopped it.
    """

    best_epoch: int
    n_steps: int
    interrupted: bool

    @property
    def interruption(self) -> str:
        """What an interruption left, for people."""
        if self.best_epoch:
            kept = f"; the model has the weights of epoch {self.best_epoch}"
        elif self.n_steps:
            kept = f" in its first pass; the model has the average weights of {self.n_steps} steps"
        else:
            kept = " before its first step; the model is as it was"
        return f"Training was interrupted{kept}. Go on with model.train()."


def split_cells(n_cells: int, validation_size: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the held-out cells: (training, validation), both sorted.

    At least one cell is held out unless ``validation_size`` is 0; at least one is trained on.
    """
    n_validation = 0 if validation_size == 0 else min(max(1, round(validation_size * n_cells)), n_cells - 1)
    order = np.random.default_rng(seed).permutation(n_cells)
    return np.sort(order[n_validation:]), np.sort(order[:n_validation])


def fit(
    module: MultimodalModule,
    data: MultimodalData,
    training_cells: np.ndarray,
    validation_cells: np.ndarray,
    modality_weights: tuple[float, ...],
    adaptive: bool,
    objective_config: ObjectiveConfig,
    config: TrainingConfig,
    history: History,
    show_progress: bool = True,
    callbacks: Sequence[pl.Callback] = (),
) -> TrainingResult:
    """Train a module in place; it ends with its best weights, also after Ctrl-C or an error.

    Parameters
    ----------
    module, data
        What is trained, on what.
    training_cells, validation_cells
        Positions.
    modality_weights
        λ at the start.
    adaptive
        Adapt λ from gradient norms.
    objective_config, config
        The choices.
    history
        Filled epoch by epoch, so that it is there also after an error.
    show_progress
        Draw a progress bar.
    callbacks
        The user's own.
    """
    _check_cells(training_cells, validation_cells)
    balance = GradientBalance(module.n_modalities) if adaptive else None
    objective = Objective(
        objective_config, modality_weights, len(training_cells), watch=balance.watch if balance else None
    )
    plan = TrainingPlan(module, objective, config, data.schema.modality_names, history, balance)
    shuffle = np.random.default_rng(config.seed)
    training = MinibatchLoader(data, training_cells, config.batch_size, shuffle)
    validation = MinibatchLoader(data, validation_cells, config.batch_size) if len(validation_cells) else None
    n_epochs = config.n_epochs(len(training_cells))
    bar: list[pl.Callback] = [EpochProgress(n_epochs)] if show_progress else []
    interrupted = False
    was_sigint = signal.getsignal(signal.SIGINT)
    with torch.random.fork_rng(), warnings.catch_warnings(), _quiet_lightning():
        warnings.filterwarnings("ignore", module="lightning")
        torch.manual_seed(config.seed)
        trainer = _trainer(config, n_epochs, [*bar, *callbacks])
        _check_one_device(trainer)
        try:
            trainer.fit(plan, training, validation)
        except (KeyboardInterrupt, SystemExit) as stop:
            # Lightning turns Ctrl-C into a SystemExit after its own clean-up; any other exit is not ours.
            if not isinstance(stop.__context__ if isinstance(stop, SystemExit) else stop, KeyboardInterrupt):
                raise
            interrupted = True
            plan.keep_unfinished()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise DeviceError(_out_of_memory(config.batch_size)) from error
        finally:
            if threading.current_thread() is threading.main_thread() and was_sigint is not None:
                signal.signal(signal.SIGINT, was_sigint)
            training.close()
            if validation is not None:
                validation.close()
            plan.products.restore()
            plan.restore_best()
            module.eval()
    return TrainingResult(plan.best_epoch, plan.average.n_updates, interrupted)


def _check_one_device(trainer: pl.Trainer) -> None:
    """Refuse several devices: every one of them would do the same work."""
    if trainer.world_size > 1:
        raise DeviceError(
            f"Training on {trainer.world_size} devices is not supported yet: model.train(devices=1)"
        )


def _check_cells(training: np.ndarray, validation: np.ndarray) -> None:
    if len(training) == 0:
        raise InputError(
            f"All {len(validation)} cells are held out and none is left to train on. Hold out fewer: "
            "model.train(validation_size=0.1)"
        )
    shared = np.intersect1d(training, validation)
    if len(shared):
        raise InputError(
            f"{len(shared)} cells are both trained on and held out, the first at position {shared[0]}. "
            "Give disjoint sets: model.train(validation_indices=held_out)"
        )


def _out_of_memory(batch_size: int) -> str:
    what = f"Memory ran out at batch_size={batch_size}."
    if batch_size == 1:
        return f"{what} Make the model smaller, or train elsewhere: model.train(accelerator='cpu')"
    return f"{what} Try half: model.train(batch_size={batch_size // 2})"


def _trainer(config: TrainingConfig, n_epochs: int, callbacks: list[pl.Callback]) -> pl.Trainer:
    try:
        return pl.Trainer(
            max_epochs=n_epochs,
            accelerator=config.accelerator,
            devices=config.devices,
            gradient_clip_val=config.gradient_clip or None,
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
    except Exception as error:
        raise DeviceError(
            f"Lightning cannot use accelerator={config.accelerator!r}, devices={config.devices!r}: "
            f"{str(error).rstrip('.! ')}. "
            "Train on what is there: model.train(accelerator='auto')"
        ) from error


class _quiet_lightning:
    """Keep Lightning's notices about devices and loaders out of the user's notebook."""

    def __enter__(self) -> None:
        self._loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
        self._levels = [logger.level for logger in self._loggers]
        for logger in self._loggers:
            logger.setLevel(logging.ERROR)

    def __exit__(self, *error: object) -> None:
        for logger, level in zip(self._loggers, self._levels, strict=True):
            logger.setLevel(level)
