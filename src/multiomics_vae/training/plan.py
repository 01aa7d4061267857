"""What Lightning runs: one optimiser, named terms, averaged weights, early stopping, no silent NaN."""

from __future__ import annotations

import math
from collections import defaultdict

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from multiomics_vae.data.minibatch import Minibatch
from multiomics_vae.errors import TrainingDivergedError
from multiomics_vae.module import MultimodalModule
from multiomics_vae.objective import Economy, LossTerms, Objective
from multiomics_vae.training.averaging import WeightAverage
from multiomics_vae.training.balance import GradientBalance
from multiomics_vae.training.config import TrainingConfig
from multiomics_vae.training.history import History
from multiomics_vae.training.precision import TrainingProducts

VALIDATION_SEED = 20_181_206
WARM_STEPS = 100
LOWEST_RATE = 0.01


class EpochSums:
    """Averages of the loss terms over an epoch, in nats a cell, each over the cells that it concerns."""

    def __init__(self, modality_names: tuple[str, ...]) -> None:
        self.names = modality_names
        self.n_cells = 0
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, Tensor | int] = {}
        self.log_likelihood: Tensor | None = None
        self.n_with: Tensor | None = None

    def add(self, terms: LossTerms, n_cells: int) -> None:
        """Take a minibatch in."""
        self.n_cells += n_cells
        values: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=terms.elbo.device))
        values["elbo"] = terms.elbo
        values["loss"] = terms.loss.detach()
        counted: dict[str, Tensor | int] = defaultdict(int)
        for term in terms.terms:
            if term.name != "log_likelihood":
                name = term.name if term.modality is None else f"{self.names[term.modality]}_{term.name}"
                values[name] = values[name] + term.value.detach()
                counted[name] = counted[name] + (n_cells if term.n_counted is None else term.n_counted)
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value * n_cells
            self.counts[name] = self.counts.get(name, 0) + counted.get(name, n_cells)
        self.log_likelihood = terms.log_likelihood + (
            0.0 if self.log_likelihood is None else self.log_likelihood
        )
        self.n_with = terms.n_cells + (0 if self.n_with is None else self.n_with)

    def averages(self, suffix: str) -> dict[str, float]:
        """Names with a suffix (``"train"``, ``"validation"``), and their averages."""
        if self.log_likelihood is None or self.n_with is None:
            return {}
        each = self.log_likelihood / self.n_with.clamp(min=1)
        found = {
            f"{name}_{suffix}": float(total) / max(float(self.counts[name]), 1.0)
            for name, total in self.sums.items()
        }
        for name, value, n in zip(self.names, each.tolist(), self.n_with.tolist(), strict=True):
            found[f"{name}_log_likelihood_{suffix}"] = value if n else float("nan")
        return found


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
    """

    def __init__(
        self,
        module: MultimodalModule,
        objective: Objective,
        config: TrainingConfig,
        modality_names: tuple[str, ...],
        history: History,
        balance: GradientBalance | None = None,
    ) -> None:
        super().__init__()
        self.module = module
        self.objective = objective
        self.config = config
        self.warmup_epochs = config.n_warmup_epochs(objective.n_training_cells)
        self.patience = config.n_patient_epochs(objective.n_training_cells)
        self.modality_names = modality_names
        self.balance = balance
        self.history = history
        self.products = TrainingProducts(config.precision)
        self.average = WeightAverage(module, config.weight_averaging)
        self.best_elbo = -float("inf")
        self.best_epoch = 0
        self.best_state = self._snapshot()
        self._sums = EpochSums(modality_names)
        self._validation_sums = EpochSums(modality_names)
        self._generator: torch.Generator | None = None
        self._beta = 0.0

    # --- steps -----------------------------------------------------------------------------------

    def on_train_batch_start(self, batch: Minibatch, batch_idx: int) -> None:
        self.products.round_on(self.device)

    def training_step(self, minibatch: Minibatch, batch_idx: int) -> Tensor:
        economy = Economy(self.products.dtype, self.config.n_features_per_step)
        terms = self.objective(self.module, minibatch, self.kl_scale, self._noise(), economy)
        self._check_finite(terms)
        self._beta = self.objective.config.kl_weight * self.kl_scale
        self._sums.add(terms, minibatch.n_cells)
        return terms.loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        gradients = [p.grad for p in self.module.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if not torch.isfinite(norm):
            raise TrainingDivergedError(
                f"{self._diverged_gradient()} stopped being finite at step {self.global_step}. "
                f"{self._kept()} {self._mend()}"
            )

    def on_train_batch_end(self, outputs: object, batch: Minibatch, batch_idx: int) -> None:
        self.products.restore()
        self.average.update()
        self._last_minibatch = batch
        if self.balance is not None:
            self.objective.modality_weights = self.balance.weights()

    def validation_step(self, minibatch: Minibatch, batch_idx: int) -> None:
        if batch_idx == 0:
            self._validation_noise = torch.Generator(self.device).manual_seed(VALIDATION_SEED)
        terms = self.objective(self.module, minibatch, 1.0, self._validation_noise)
        self._check_finite(terms, " on held-out cells")
        self._validation_sums.add(terms, minibatch.n_cells)

    # --- epochs ----------------------------------------------------------------------------------

    def on_validation_start(self) -> None:
        self.average.swap()

    def on_validation_end(self) -> None:
        found = self._validation_sums.averages("validation")
        self._validation_sums = EpochSums(self.modality_names)
        if not self.trainer.sanity_checking:
            self._close_epoch(found)
        self.average.swap()

    def on_train_epoch_end(self) -> None:
        if not self.trainer.enable_validation:
            self.average.swap()
            self._try_average()
            self._close_epoch({})
            self.average.swap()

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
        elbo = validation.get("elbo_validation", float(epoch))
        if not self.config.early_stopping or elbo > self.best_elbo:
            self.best_elbo, self.best_epoch, self.best_state = elbo, epoch, self._snapshot()
        elif epoch - self.best_epoch >= self.patience:
            self.trainer.should_stop = True

    def keep_unfinished(self) -> None:
        """Where no pass was finished, keep the average of the steps there were, if there were any."""
        if self.best_epoch or not self.average.n_updates:
            return
        if not self.average.in_use:
            self.average.swap()
        if all(bool(torch.isfinite(parameter).all()) for parameter in self.average.parameters):
            self.best_state = self._snapshot()

    def restore_best(self) -> None:
        """Put the best weights in place, whichever are there now."""
        self.module.load_state_dict(self.best_state)

    # --- Lightning -------------------------------------------------------------------------------

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        matrices = [p for p in self.module.parameters() if p.requires_grad and p.ndim > 1]
        vectors = [p for p in self.module.parameters() if p.requires_grad and p.ndim <= 1]
        groups = [
            {"params": matrices, "weight_decay": self.config.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=self.config.learning_rate, betas=(0.9, 0.99), fused=True)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self._learning_rate_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _learning_rate_factor(self, step: int) -> float:
        """Up a straight line, then down a cosine to 1 % at the last step."""
        n_steps = max(int(self.trainer.estimated_stepping_batches), 1)
        rise = min(1.0, (step + 1) / max(1, min(WARM_STEPS, n_steps // 10)))
        progress = min(1.0, step / n_steps)
        return rise * (LOWEST_RATE + (1.0 - LOWEST_RATE) * 0.5 * (1.0 + math.cos(math.pi * progress)))

    def transfer_batch_to_device(
        self, batch: Minibatch, device: torch.device, dataloader_idx: int
    ) -> Minibatch:
        return batch.to(device)

    # --- helpers ---------------------------------------------------------------------------------

    @property
    def kl_scale(self) -> float:
        """Warm-up factor of β, a straight line over the steps."""
        steps = self.warmup_epochs * max(int(self.trainer.num_training_batches), 1)
        return 1.0 if steps <= 0 else min(1.0, (self.global_step + 1) / steps)

    def _noise(self) -> torch.Generator:
        if self._generator is None:
            self._generator = torch.Generator(self.device).manual_seed(self.config.seed)
        return self._generator

    def _snapshot(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.module.state_dict().items()}

    def _check_finite(self, terms: LossTerms, where: str = "") -> None:
        """Raise if the loss is not a number that can be trained on, naming the first term that is not."""
        if torch.isfinite(terms.loss + terms.elbo):
            return
        bad = next((term for term in terms.terms if not torch.isfinite(term.value)), None)
        if bad is None:
            what, value = "The loss", terms.loss
        else:
            modality = "" if bad.modality is None else f" of modality {self.modality_names[bad.modality]!r}"
            what, value = f"The term {bad.name!r}{modality}", bad.value
        raise TrainingDivergedError(
            f"{what} became {float(value.detach()):g}{where} at step {self.global_step}. "
            f"{self._kept()} {self._mend()}"
        )

    def _diverged_gradient(self) -> str:
        for name, parameter in self.module.named_parameters():
            if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
                room, _, rest = name.partition(".")
                number = rest.partition(".")[0]
                if room == "modalities":
                    return f"The gradient of {name} (modality {self.modality_names[int(number)]!r})"
                return f"The gradient of {name}"
        return "The norm of the gradient"

    def _kept(self) -> str:
        if self.best_epoch:
            return f"The model has the weights of epoch {self.best_epoch}."
        return "No pass was finished: the model has the weights it had before."

    def _mend(self) -> str:
        return (
            f"Try a smaller step: model.train(learning_rate={self.config.learning_rate / 10:g}, "
            "gradient_clip=10.0)"
        )
