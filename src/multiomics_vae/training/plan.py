"""What Lightning runs: one optimiser, named terms, averaged weights, early stopping, no silent NaN."""

from __future__ import annotations

import math
from typing import Protocol

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from multiomics_vae.data.minibatch import Minibatch
from multiomics_vae.data.reading import PassStart
from multiomics_vae.data.share import ALONE, Process
from multiomics_vae.errors import TrainingDivergedError
from multiomics_vae.loss_terms import LossTerms
from multiomics_vae.module import MultimodalModule
from multiomics_vae.objective import HEAD_TERM, Economy, Objective
from multiomics_vae.training.averaging import WeightAverage
from multiomics_vae.training.balance import GradientBalance
from multiomics_vae.training.best import BestWeights
from multiomics_vae.training.checkpoint import check_tensors
from multiomics_vae.training.config import TrainingConfig
from multiomics_vae.training.epoch_sums import EpochSums
from multiomics_vae.training.gradient_check import GradientCheck
from multiomics_vae.training.groups import make_optimizer
from multiomics_vae.training.history import History
from multiomics_vae.training.precision import TrainingProducts, product_dtype
from multiomics_vae.training.processes import in_any
from multiomics_vae.training.rounded_gradients import RoundedGradients
from multiomics_vae.training.schedule import Schedule
from multiomics_vae.training.state import (
    Progress,
    TrainingState,
    dropout_states,
    joined,
    optimizer_tensors,
    restore_dropout,
    restore_optimizer,
)
from multiomics_vae.training.touched_rows import TouchedRows

VALIDATION_SEED = 20_181_206


class Keeper(Protocol):
    """Whoever keeps the state of a run, so that it can go on later."""

    def after_step(self, plan: TrainingPlan) -> None:
        """A step is done, and the pass is not over."""

    def after_pass(self, plan: TrainingPlan) -> None:
        """A pass is over and its held-out cells have been seen."""


class TrainingPlan(pl.LightningModule):
    """Minimises an `Objective` over a `MultimodalModule`.

    Parameters
    ----------
    module, objective, config
        What is trained, on what, and how.
    modality_names
        For names in the history and in errors.
    history
        Gets a row an epoch.
    balance
        Adapts the modality weights from gradient norms; None leaves them as they are.
    process
        Which of the processes that train together this is.
    keeper
        Is told where training stands after every step and pass; None where nobody wants to know.
    rows
        Optimises wide matrices by the rows that were drawn; None where all rows are.
    chances
        Of each modality, those with which a step draws features; empty for steps that look at all.
    walks
        Whether optimiser and average go over wide matrices together; on a processor only.
    steps_per_epoch
        If it does not follow from the batch size.
    """

    def __init__(
        self,
        module: MultimodalModule,
        objective: Objective,
        config: TrainingConfig,
        modality_names: tuple[str, ...],
        history: History,
        balance: GradientBalance | None = None,
        process: Process = ALONE,
        keeper: Keeper | None = None,
        rows: TouchedRows | None = None,
        chances: tuple[Tensor | None, ...] = (),
        walks: bool = False,
        steps_per_epoch: int | None = None,
    ) -> None:
        super().__init__()
        self.module = module
        self.objective = objective
        # Registered here, so that their parameters are on the device and in step with other processes.
        self.penalties = nn.ModuleDict(objective.penalties)
        self._ramps = any(penalty.ramped for penalty in objective.penalties.values())
        self.config = config
        self.schedule = Schedule.of(config, objective.n_training_cells, process.n_processes, steps_per_epoch)
        self.process, self.keeper = process, keeper
        self.rows, self.walks, self.chances = rows or TouchedRows(), walks, chances
        self.is_watched = False  # by callbacks of others, which may change weights between two steps
        self.modality_names = modality_names
        self.balance = balance
        self.history = history
        self.products, self.rounded = TrainingProducts(config.precision), RoundedGradients()
        self.average = WeightAverage(module, config.weight_averaging)
        self.best_elbo = -float("inf")
        self.best_epoch = 0
        self.best = BestWeights(module)
        self._sums = EpochSums(modality_names)
        self._validation_sums = EpochSums(modality_names)
        self._generator: torch.Generator | None = None
        self._beta = 0.0
        self.n_steps = self.n_done = 0
        self._resumed: TrainingState | None = None

    # --- steps -----------------------------------------------------------------------------------

    def on_train_batch_start(self, batch: Minibatch, batch_idx: int) -> None:
        self.products.round_on(self.device)

    def training_step(self, minibatch: Minibatch, batch_idx: int) -> Tensor:
        economy = Economy(self.products.dtype, self.chances, self.rows)
        self.rows.before_encoders()
        terms = self.objective(self.module, minibatch, self.kl_scale, self._noise(), economy)
        self._stop_if(self._gradients.after_walks())
        self._check_finite(terms)
        self._beta = self.objective.config.kl_weight * self.kl_scale
        self._add(self._sums, terms, minibatch)
        return terms.loss * self.process.loss_scale(minibatch.share)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        self.rows.before_step()
        self._stop_if(self._gradients.before_step(self.n_steps))

    def on_train_batch_end(self, outputs: object, batch: Minibatch, batch_idx: int) -> None:
        self.products.restore()
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.Optimizer)
        self._stop_if(self._gradients.after_step(self.n_steps))
        if self.is_watched:
            self._stop_if(self._gradients.after_walks())
        self.average.update()
        # The next gradients are made before Lightning lets go of these.
        optimizer.zero_grad()
        self._last_minibatch = batch
        if self.balance is not None:
            self.objective.modality_weights = self.balance.weights()
        self.n_steps += 1
        self.n_done += 1
        if self.keeper is not None and self.n_done < self.schedule.steps_per_epoch:
            self.keeper.after_step(self)

    def validation_step(self, minibatch: Minibatch, batch_idx: int) -> None:
        if batch_idx == 0:
            self._validation_noise = torch.Generator(self.device).manual_seed(VALIDATION_SEED)
        terms = self.objective(self.module, minibatch, 1.0, self._validation_noise)
        self._check_finite(terms, " on held-out cells")
        self._add(self._validation_sums, terms, minibatch)

    # --- epochs ----------------------------------------------------------------------------------

    def on_validation_start(self) -> None:
        self._swap()

    def on_validation_end(self) -> None:
        found = self._validation_sums.averages("validation")
        self._validation_sums = EpochSums(self.modality_names)
        if not self.trainer.sanity_checking:
            self._close_epoch(found)
        self._swap()

    def on_train_epoch_end(self) -> None:
        if not self.trainer.enable_validation:
            self._swap()
            self._try_average()
            self._close_epoch({})
            self._swap()
        self.n_done = 0
        if self.keeper is not None:
            self.keeper.after_pass(self)

    def _swap(self) -> None:
        """Exchange the live weights and their average."""
        self._settle()
        self.average.swap()

    def _settle(self) -> None:
        """Bring all weights up to date: before anything but a training step reads them."""
        self.rows.settle()
        self._stop_if(self._gradients.after_walks())

    @torch.no_grad()
    def _try_average(self) -> None:
        """With no cells held out, see on the last minibatch that the average is fit to be kept."""
        self.module.eval()
        noise = torch.Generator(self.device).manual_seed(VALIDATION_SEED)
        self._check_finite(self.objective(self.module, self._last_minibatch, 1.0, noise))
        self.module.train()

    def _close_epoch(self, validation: dict[str, float]) -> None:
        """Record the epoch, keep the best weights (now in place: the average), and decide to stop."""
        self.history.append({**self._sums.averages("train"), **validation, "kl_weight": self._beta})
        self._sums = EpochSums(self.modality_names)
        epoch = self.history.n_epochs
        score = self._score(validation) if "elbo_validation" in validation else float(epoch)
        if self._ramps and self.kl_scale < 1.0:
            # Weights that have not felt all of a penalty must not win because of it: the next are better.
            score = -float("inf")
        if not self.config.early_stopping or score > self.best_elbo or score == -float("inf"):
            self.best_elbo, self.best_epoch = score, epoch
            self.best.keep()
        elif epoch - self.best_epoch >= self.schedule.patience:
            self.trainer.should_stop = True

    def _score(self, validation: dict[str, float]) -> float:
        """The held-out ELBO less the costs of heads, as far as held-out cells have labels."""
        score = validation["elbo_validation"]
        for reader in self.module.readers:
            cost = validation.get(f"{HEAD_TERM}{reader.name}_validation", math.nan)
            score -= 0.0 if math.isnan(cost) else reader.head.weight * cost
        return score

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to be done: all passes are made, or patience has run out."""
        n_epochs = self.history.n_epochs
        waited = n_epochs - self.best_epoch
        tired = self.config.early_stopping and waited >= self.schedule.patience and self.best_epoch > 0
        return n_epochs >= self.schedule.n_epochs or tired

    def keep_unfinished(self) -> None:
        """Where no pass was finished, keep the average of the steps there were, if there were any."""
        if self.best_epoch or not self.average.n_updates:
            return
        if not self.average.in_use:
            self.rows.settle()
            self.average.swap()
        if all(bool(torch.isfinite(parameter).all()) for parameter in self.average.parameters):
            self.best.keep()

    def restore_best(self) -> None:
        """Put the best weights in place, whichever are there now."""
        self.best.restore()

    # --- stopping and going on -------------------------------------------------------------------

    def state(self, pass_start: PassStart) -> TrainingState:
        """Where training stands, between two steps or two passes; all processes must ask.

        Parameters
        ----------
        pass_start
            Of the pass under way, or of the next one.
        """
        self._settle()
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.Optimizer)
        return TrainingState(
            Progress(
                n_epochs=self.history.n_epochs,
                n_done=self.n_done,
                n_steps=self.n_steps,
                best_epoch=self.best_epoch,
                best_elbo=None if self.best_elbo == -float("inf") else self.best_elbo,
                n_averaged=self.average.n_updates,
                modality_weights=self.objective.modality_weights,
                gradient_norms=tuple(self.balance.norms) if self.balance else (),
            ),
            pass_start,
            self.history.to_json(),
            joined(
                weights=self.module.state_dict(),
                average={str(i): tensor for i, tensor in enumerate(self.average.average)},
                best=self.best.tensors,
                optimizer=optimizer_tensors(optimizer),
                penalties=self.penalties.state_dict(),
                sums=self._sums.tensors(),
                noise={"objective": self._noise().get_state()},
                dropout=dropout_states(self.device),
            ),
        )

    def restore(self, state: TrainingState) -> None:
        """Go on from a state; before Lightning begins. The history must hold its passes already."""
        progress = state.progress
        self._resumed = state
        self.n_steps, self.n_done = progress.n_steps, progress.n_done
        self.best_epoch = progress.best_epoch
        self.best.take_over(state.under("best"))
        self.best_elbo = -float("inf") if progress.best_elbo is None else progress.best_elbo
        self.objective.modality_weights = progress.modality_weights
        if self.balance is not None:
            self.balance.restore(progress.gradient_norms, progress.modality_weights)
        self.module.load_state_dict(state.under("weights"))
        check_tensors(state.under("penalties"), self.penalties.state_dict())
        self.penalties.load_state_dict(state.under("penalties"))
        self.average.restore(state.under("average"), progress.n_averaged)

    def on_train_start(self) -> None:
        # Only now are the weights on the device that trains.
        self.average.follow()
        self.chances = tuple(None if each is None else each.to(self.device) for each in self.chances)
        if self._resumed is not None:
            self._noise().set_state(self._resumed.tensors["noise/objective"])
            restore_dropout(self._resumed.tensors[f"dropout/{self.process.rank}"], self.device)
            self._sums.restore(
                {name: tensor.to(self.device) for name, tensor in self._resumed.under("sums").items()}
            )
            self._resumed = None

    # --- Lightning -------------------------------------------------------------------------------

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        learned = [parameter for _, parameter in self._learned()]
        optimizer = make_optimizer(learned, self.module.heads, self.config, self.walks)
        done = 0
        if self._resumed is not None:
            restore_optimizer(optimizer, self._resumed.under("optimizer"))
            done = self._resumed.progress.n_steps
        self.rows.attach(optimizer, self.average)
        if not self.is_watched:
            outputs = (layer for part in self.module.parts for layer in part.decoder.last_layers)
            self.rows.overlap(late=[layer.weight for layer in outputs])
        self._gradients = GradientCheck(self._learned(), self.modality_names, self.rows, optimizer)
        self.rounded = RoundedGradients.of(self.module, optimizer, not self.is_watched, self.rows.read)
        self.rounded.ask_for(product_dtype(self.config.precision, self.device))
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: self.schedule.learning_rate_factor(done + step)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def transfer_batch_to_device(
        self, batch: Minibatch, device: torch.device, dataloader_idx: int
    ) -> Minibatch:
        return batch.to(device)

    # --- helpers ---------------------------------------------------------------------------------

    @property
    def kl_scale(self) -> float:
        """Warm-up factor of β at the step under way."""
        return self.schedule.kl_scale(self.n_steps)

    def _learned(self) -> list[tuple[str, nn.Parameter]]:
        """Every parameter of the module, then those of the penalties, by name."""
        return [*self.module.named_parameters(), *self.penalties.named_parameters(prefix="penalties")]

    def _add(self, sums: EpochSums, terms: LossTerms, minibatch: Minibatch) -> None:
        """Take a minibatch into the averages, unless its only cell is a spare one."""
        if minibatch.share.n_own:
            sums.add(terms, minibatch.n_cells)

    def _noise(self) -> torch.Generator:
        if self._generator is None:
            self._generator = torch.Generator(self.device).manual_seed(self.config.seed)
        return self._generator

    def _check_finite(self, terms: LossTerms, where: str = "") -> None:
        """Raise if the loss is not a number that can be trained on, naming the first term that is not."""
        finite = torch.isfinite(terms.loss + terms.elbo)
        if not in_any(~finite):
            return
        bad = next((term for term in terms.terms if not torch.isfinite(term.value)), None)
        if finite:
            what, value = "The loss of another process", terms.loss * torch.nan
        elif bad is None:
            what, value = "The loss", terms.loss
        else:
            modality = "" if bad.modality is None else f" of modality {self.modality_names[bad.modality]!r}"
            what, value = f"The term {bad.name!r}{modality}", bad.value
        raise TrainingDivergedError(
            f"{what} became {float(value.detach()):g}{where} at step {self.n_steps}. "
            f"{self._kept()} {self._mend()}"
        )

    def _stop_if(self, diverged: str | None) -> None:
        if diverged is not None:
            raise TrainingDivergedError(f"{diverged} {self._kept()} {self._mend()}")

    def _kept(self) -> str:
        if self.best_epoch:
            return f"The model has the weights of epoch {self.best_epoch}."
        return "No pass was finished: the model has the weights it had before."

    def _mend(self) -> str:
        rate = self.config.learning_rate / 10
        return f"Try a smaller step: model.train(learning_rate={rate:g}, gradient_clip=10.0)"
