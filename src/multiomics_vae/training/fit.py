"""Runs a training: split, loaders, Lightning's trainer, and what a user may do in the middle of it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from multiomics_vae.data.bags import Bags
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.loader import MinibatchLoader
from multiomics_vae.data.minibatch import Minibatch
from multiomics_vae.data.placement import with_resident_values
from multiomics_vae.data.share import Process
from multiomics_vae.errors import DeviceError, is_out_of_memory
from multiomics_vae.extension import is_query
from multiomics_vae.heads.reader import OutcomeReader
from multiomics_vae.kernels.allocation import release_kept_memory
from multiomics_vae.module import MultimodalModule
from multiomics_vae.objective import Objective, Supervision, build_penalties, settle_heads, supervise
from multiomics_vae.penalties.correction import surroundings_of
from multiomics_vae.training.balance import GradientBalance
from multiomics_vae.training.chances import feature_chances
from multiomics_vae.training.config import TrainingConfig
from multiomics_vae.training.drawn_ahead import draws_ahead
from multiomics_vae.training.history import History
from multiomics_vae.training.keeper import Keep, StateKeeper, check_processes
from multiomics_vae.training.plan import TrainingPlan
from multiomics_vae.training.prepared import with_encoder_inputs
from multiomics_vae.training.progress import EpochProgress
from multiomics_vae.training.quiet import quiet_lightning
from multiomics_vae.training.run import TrainingRun
from multiomics_vae.training.state import TrainingState
from multiomics_vae.training.threads import needs_one_thread, training_threads
from multiomics_vae.training.touched_rows import TouchedRows
from multiomics_vae.training.trainer import make_trainer
from multiomics_vae.training.transformed import input_transforms


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
    with torch.random.fork_rng(), quiet_lightning():
        bar = [EpochProgress()] if show_progress else []
        trainer = make_trainer(config, [*bar, *callbacks])
        process = Process(trainer.global_rank, trainer.world_size)
        torch.manual_seed(config.seed + process.rank)
        device = trainer.strategy.root_device
        # Heads of a fitted model stay as they are, so new cells need no labels.
        readers = () if is_query(module) else module.readers
        visited = np.concatenate([run.training_cells, run.validation_cells])
        data = with_encoder_inputs(data, module, visited)
        alone = device.type == "cpu" and process.n_processes == 1
        n_drawn = config.n_features_per_step
        chances = () if n_drawn is None else feature_chances(module, data, run.training_cells, n_drawn)
        # In blocks of its own the gathering thread would change torch's number of threads under the step.
        is_narrow = alone and needs_one_thread(module, data, config.batch_size)
        counted = tuple(likelihood.normalised_over_features for likelihood in module.likelihoods)
        training, validation = _loaders(
            with_resident_values(data, device) if device.type == "cuda" else data,
            run,
            process,
            input_transforms(module) if device.type == "cpu" else None,
            draws_ahead(chances, config.seed, counted) if chances and is_narrow else None,
            _bags(readers, data),
        )
        keeper = StateKeeper(keep, training, process)
        # Whoever else reads or clips in the middle of a pass must find all rows up to date.
        rows = _rows(module, config, chances) if alone and not callbacks else None
        supervision = supervise(data, readers, run.training_cells)
        if resumed is None:
            module.covariates.learn_from(torch.from_numpy(data.batch[run.training_cells]).to(device))
            settle_heads(readers, supervision, data, run.training_cells)
        steps = None if training.bags is None else training.n_steps
        walks = alone and config.gradient_clip == 0
        plan = _plan(module, data, run, history, process, keeper, rows, chances, walks, supervision, steps)
        plan.is_watched = bool(callbacks)
        if is_narrow:
            plan.products.leave_narrow(part.encoder.hidden for part in module.parts)
        n_epochs = plan.schedule.n_epochs
        threads = training_threads(module, data, config.batch_size) if alone else nullcontext()
        if resumed is not None:
            check_processes(resumed, process)
            plan.restore(resumed)
            training.go_on(resumed.pass_start, resumed.progress.n_done)
            n_epochs -= resumed.progress.n_epochs
        trainer.fit_loop.max_epochs = 0 if plan.is_over else n_epochs
        # Lightning leaves modules in the mode they are in, and a trained model is in that of answers.
        module.train()
        try:
            with threads:
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
            plan.rows.overlap_no_more()
            plan.products.restore()
            plan.rounded.restore()
            plan.restore_best()
            release_kept_memory()
            module.eval()
    return TrainingResult(plan.best_epoch, plan.average.n_updates, interrupted, process)


def _loaders(
    data: MultimodalData,
    run: TrainingRun,
    process: Process,
    finish: Callable[[Minibatch], Minibatch] | None,
    draw: Callable[[Minibatch], Minibatch] | None,
    bags: Bags | None,
) -> tuple[MinibatchLoader, MinibatchLoader | None]:
    def loader(
        cells: np.ndarray,
        generator: np.random.Generator | None,
        *last: Callable[[Minibatch], Minibatch] | None,
    ) -> MinibatchLoader:
        size, calls = run.config.batch_size, [call for call in (finish, *last) if call is not None]

        def finished(minibatch: Minibatch) -> Minibatch:
            for call in calls:
                minibatch = call(minibatch)
            return minibatch

        return MinibatchLoader(data, cells, size, generator, process=process, finish=finished, bags=bags)

    training = loader(run.training_cells, np.random.default_rng(run.config.seed), draw)
    return training, loader(run.validation_cells, None) if len(run.validation_cells) else None


def _bags(readers: Sequence[OutcomeReader], data: MultimodalData) -> Bags | None:
    """Donors stay together where a head pools them, as many cells of each as the head that asks for most."""
    asked = [reader.head.cells_per_donor for reader in readers if reader.of_donors]
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
    chances: tuple[Tensor | None, ...],
    walks: bool,
    supervision: Mapping[str, Supervision],
    steps_per_epoch: int | None,
) -> TrainingPlan:
    balance = GradientBalance(module.n_modalities) if run.adaptive else None
    names = data.schema.modality_names
    strata = None if data.strata is None else torch.from_numpy(data.strata)  # (N,)
    penalties = build_penalties(
        run.objective.penalties,
        module.n_latent,
        len(names),
        data.schema.n_batches,
        run.config.seed,
        surroundings_of(run.objective.corrected, data, run.training_cells),
    )
    objective = Objective(
        run.objective,
        run.modality_weights,
        len(run.training_cells),
        watch=balance.watch if balance else None,
        penalties=penalties,
        strata=strata,
        supervision=supervision,
    )
    return TrainingPlan(
        module,
        objective,
        run.config,
        names,
        history,
        balance,
        process,
        keeper,
        rows,
        chances,
        walks,
        steps_per_epoch,
    )


def _rows(
    module: MultimodalModule, config: TrainingConfig, chances: tuple[Tensor | None, ...]
) -> TouchedRows | None:
    """Matrices of which a step sees a part only; None where the gradient as a whole is clipped."""
    return None if not chances or config.gradient_clip > 0 else TouchedRows.of(module, chances)


def _out_of_memory(batch_size: int) -> str:
    what = f"Memory ran out at batch_size={batch_size}."
    if batch_size == 1:
        return f"{what} Make the model smaller, or train elsewhere: model.train(accelerator='cpu')"
    return f"{what} Try half: model.train(batch_size={batch_size // 2})"
