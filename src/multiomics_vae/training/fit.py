"""Runs a training: split, loaders, Lightning's trainer, and what a user may do in the middle of it."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import lightning.pytorch as pl
import numpy as np
import torch

from multiomics_vae.data.bags import Bags
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.loader import MinibatchLoader
from multiomics_vae.data.placement import with_resident_values
from multiomics_vae.data.share import Process
from multiomics_vae.errors import DeviceError, is_out_of_memory
from multiomics_vae.kernels.allocation import release_kept_memory
from multiomics_vae.module import MultimodalModule
from multiomics_vae.objective import Objective, Supervision, build_penalties, settle_heads, supervise
from multiomics_vae.training.balance import GradientBalance
from multiomics_vae.training.config import TrainingConfig
from multiomics_vae.training.history import History
from multiomics_vae.training.keeper import Keep, StateKeeper, check_processes
from multiomics_vae.training.plan import TrainingPlan
from multiomics_vae.training.prepared import with_encoder_inputs
from multiomics_vae.training.progress import EpochProgress
from multiomics_vae.training.run import TrainingRun
from multiomics_vae.training.state import TrainingState
from multiomics_vae.training.touched_rows import TouchedRows
from multiomics_vae.training.trainer import make_trainer


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
    process
        Which of the processes that trained together this is.
    """

    best_epoch: int
    n_steps: int
    interrupted: bool
    process: Process

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


def fit(
    module: MultimodalModule,
    data: MultimodalData,
    run: TrainingRun,
    history: History,
    *,
    callbacks: Sequence[pl.Callback] = (),
    show_progress: bool = False,
    keep: Keep | None = None,
    resumed: TrainingState | None = None,
) -> TrainingResult:
    """Train a module in place; it ends with its best weights, also after Ctrl-C or an error.

    Parameters
    ----------
    module, data, run
        What is trained, on what, and how.
    history
        Filled epoch by epoch, so that it is there also after an error.
    callbacks
        The user's own.
    show_progress
        Draw a progress bar, in the first process.
    keep
        Where the state of the run is kept, and how often; None keeps none.
    resumed
        The state from which to go on; the history must hold its passes already.
    """
    config = run.config
    was_sigint = signal.getsignal(signal.SIGINT)
    interrupted = False
    with torch.random.fork_rng(), warnings.catch_warnings(), _quiet_lightning():
        warnings.filterwarnings("ignore", module="lightning")
        bar = [EpochProgress()] if show_progress else []
        trainer = make_trainer(config, [*bar, *callbacks])
        process = Process(trainer.global_rank, trainer.world_size)
        torch.manual_seed(config.seed + process.rank)
        device = trainer.strategy.root_device
        visited = np.concatenate([run.training_cells, run.validation_cells])
        data = with_encoder_inputs(data, module, visited)
        training, validation = _loaders(
            with_resident_values(data, device) if device.type == "cuda" else data,
            run,
            process,
            _bags(module, data),
        )
        keeper = StateKeeper(keep, training, process)
        # Whoever else reads or clips in the middle of a pass must find all rows up to date.
        alone = device.type == "cpu" and process.n_processes == 1 and not callbacks
        rows = _rows(module, config) if alone else None
        supervision = supervise(data, module.readers, run.training_cells)
        if resumed is None:
            module.covariates.learn_from(torch.from_numpy(data.batch[run.training_cells]).to(device))
            settle_heads(module.readers, supervision, data, run.training_cells)
        steps = None if training.bags is None else training.n_steps
        plan = _plan(module, data, run, history, process, keeper, rows, supervision, steps)
        n_epochs = plan.schedule.n_epochs
        if resumed is not None:
            check_processes(resumed, process)
            plan.restore(resumed)
            training.go_on(resumed.pass_start, resumed.progress.n_done)
            n_epochs -= resumed.progress.n_epochs
        trainer.fit_loop.max_epochs = 0 if plan.is_over else n_epochs
        # Lightning leaves modules in the mode they are in, and a trained model is in that of answers.
        module.train()
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
            release_kept_memory()
            module.eval()
    return TrainingResult(plan.best_epoch, plan.average.n_updates, interrupted, process)


def _loaders(
    data: MultimodalData, run: TrainingRun, process: Process, bags: Bags | None
) -> tuple[MinibatchLoader, MinibatchLoader | None]:
    shuffle = np.random.default_rng(run.config.seed)
    size = run.config.batch_size
    training = MinibatchLoader(data, run.training_cells, size, shuffle, process=process, bags=bags)
    if len(run.validation_cells) == 0:
        return training, None
    return training, MinibatchLoader(data, run.validation_cells, size, process=process, bags=bags)


def _bags(module: MultimodalModule, data: MultimodalData) -> Bags | None:
    """Donors stay together where a head pools them, as many cells of each as the head that asks for most."""
    asked = [reader.head.cells_per_donor for reader in module.readers if reader.of_donors]
    if not asked:
        return None
    sizes = [size for size in asked if size is not None]
    return Bags(data.donor, max(sizes) if len(sizes) == len(asked) else None)


def _plan(
    module: MultimodalModule,
    data: MultimodalData,
    run: TrainingRun,
    history: History,
    process: Process,
    keeper: StateKeeper,
    rows: TouchedRows | None,
    supervision: Mapping[str, Supervision],
    steps_per_epoch: int | None,
) -> TrainingPlan:
    balance = GradientBalance(module.n_modalities) if run.adaptive else None
    names = data.schema.modality_names
    penalties = build_penalties(
        run.objective.penalties, module.n_latent, len(names), data.schema.n_batches, run.config.seed
    )
    objective = Objective(
        run.objective,
        run.modality_weights,
        len(run.training_cells),
        watch=balance.watch if balance else None,
        penalties=penalties,
        supervision=supervision,
    )
    return TrainingPlan(
        module, objective, run.config, names, history, balance, process, keeper, rows, steps_per_epoch
    )


def _rows(module: MultimodalModule, config: TrainingConfig) -> TouchedRows | None:
    """Matrices of which a step sees a part only; None where the gradient as a whole is clipped."""
    n_features = config.n_features_per_step
    return None if n_features is None or config.gradient_clip > 0 else TouchedRows.of(module, n_features)


def _out_of_memory(batch_size: int) -> str:
    what = f"Memory ran out at batch_size={batch_size}."
    if batch_size == 1:
        return f"{what} Make the model smaller, or train elsewhere: model.train(accelerator='cpu')"
    return f"{what} Try half: model.train(batch_size={batch_size // 2})"


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
