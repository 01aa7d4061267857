"""How a model is trained: one frozen record of every choice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import get_args

from multiomics_vae.errors import InputError, did_you_mean
from multiomics_vae.training.precision import Precision

FEWEST_EPOCHS = 30
FEWEST_STEPS = 1_000
FEWEST_PATIENT = 5


@dataclass(frozen=True)
class TrainingConfig:
    """Choices of a training run.

    Parameters
    ----------
    max_epochs
        Passes over the training cells at the most; None makes 30, or for few cells as many as give
        `FEWEST_STEPS` steps. The learning rate falls over just these.
    batch_size
        Cells in a minibatch.
    learning_rate
        Of AdamW, at its height: it rises over the first 100 steps (in a short run over a tenth of them)
        and falls along a cosine to 1 %.
    weight_decay
        Decoupled weight decay of AdamW, on matrices only.
    gradient_clip
        Largest norm of the whole gradient; 0 turns clipping off.
    warmup_epochs
        Passes over which β rises from 0 to its final value; None takes a quarter of ``max_epochs``.
    weight_averaging
        Decay of the exponential moving average of the weights, a step; the average is what is validated
        and kept. 0 turns it off.
    validation_size
        Share of the cells held out for early stopping.
    early_stopping
        Stop when the held-out ELBO has not risen for ``patience`` passes, and keep the best weights.
    patience
        See ``early_stopping``; None takes a quarter of ``max_epochs``, at least 5.
    accelerator, devices, num_nodes
        As Lightning knows them. With several devices every one has a process of its own, which takes
        ``batch_size`` cells of every step: a step of W devices is a step of one device with W times the
        batch size.
    seed
        Of the split, the shuffling and the noise.
    precision
        Of matrix products in training steps: ``"float32"``; ``"bfloat16"``, which rounds their factors
        to 8 bits and is several times faster where the processor knows the type; ``"auto"``, bfloat16
        where it is fast, which makes results depend on the machine. On a processor narrow layers are not
        rounded where they are all narrow. Everything else, and held-out cells and answers altogether, are
        float32.
    n_features_per_step
        Features of a modality that a training step looks at on average, drawn at random and shared by its
        cells; those with more counts are drawn more often. The log likelihood of each is divided by its
        chance, so that the loss and its gradient have the same expectation. None takes all.
        ``"bernoulli"``, ``"nb"`` and ``"poisson"`` can draw; the means of the latter two are shares among
        all features, whose normaliser is not estimated, so that more than half of them would save nothing
        and all are kept. The other likelihoods keep all features, and so do held-out cells and answers.
    """

    max_epochs: int | None = None
    batch_size: int = 128
    learning_rate: float = 4e-3
    weight_decay: float = 0.0
    gradient_clip: float = 0.0
    warmup_epochs: int | None = None
    weight_averaging: float = 0.995
    validation_size: float = 0.1
    early_stopping: bool = True
    patience: int | None = None
    accelerator: str = "auto"
    devices: int | str = 1
    num_nodes: int = 1
    seed: int = 0
    precision: Precision = "float32"
    n_features_per_step: int | None = None

    def __post_init__(self) -> None:
        check_batch_size(self.batch_size)
        for name in ("max_epochs", "patience"):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name), 1, f"model.train({name}=20)")
        check_whole("seed", self.seed, 0, "model.train(seed=0)")
        check_whole("num_nodes", self.num_nodes, 1, "model.train(num_nodes=1)")
        if not (_is_number(self.learning_rate) and self.learning_rate > 0):
            raise InputError(
                f"learning_rate must be above 0, not {self.learning_rate!r}: model.train(learning_rate=4e-3)"
            )
        for name in ("weight_decay", "gradient_clip", "warmup_epochs"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and value >= 0):
                raise InputError(
                    f"{name} must be a number of at least 0, not {value!r}: model.train({name}=0)"
                )
        if not (_is_number(self.validation_size) and 0.0 <= self.validation_size < 1.0):
            raise InputError(
                f"validation_size is a share of the cells, from 0 to below 1, not "
                f"{self.validation_size!r}: model.train(validation_size=0.1)"
            )
        if not (_is_number(self.weight_averaging) and 0.0 <= self.weight_averaging < 1.0):
            raise InputError(
                f"weight_averaging is a decay from 0 to below 1, not {self.weight_averaging!r}: "
                "model.train(weight_averaging=0.995)"
            )

        if self.precision not in get_args(Precision):
            raise InputError(
                f"There is no precision={self.precision!r}. "
                f"{did_you_mean(str(self.precision), get_args(Precision))}"
            )
        if self.n_features_per_step is not None:
            mend = "model.train(n_features_per_step=10_000)"
            check_whole("n_features_per_step", self.n_features_per_step, 1, mend)

    def n_epochs(self, n_cells: int, step_size: int | None = None) -> int:
        """Passes at the most for a number of training cells, in steps of ``step_size`` (``batch_size``)."""
        if self.max_epochs is not None:
            return self.max_epochs
        steps = -(-n_cells // (step_size or self.batch_size))
        return max(FEWEST_EPOCHS, -(-FEWEST_STEPS // steps))

    def n_patient_epochs(self, n_cells: int, step_size: int | None = None) -> int:
        """Passes without a better held-out ELBO after which training stops."""
        if self.patience is not None:
            return self.patience
        return max(FEWEST_PATIENT, self.n_epochs(n_cells, step_size) // 4)

    def n_warmup_epochs(self, n_cells: int, step_size: int | None = None) -> float:
        """Passes over which β rises."""
        return self.n_epochs(n_cells, step_size) / 4 if self.warmup_epochs is None else self.warmup_epochs


def check_batch_size(batch_size: object) -> None:
    """Say what is wrong with a batch size.

    Raises
    ------
    InputError
        If it is not a whole number of at least 1.
    """
    check_whole("batch_size", batch_size, 1, "batch_size=128")


def check_whole(name: str, value: object, lowest: int, mend: str) -> None:
    """Refuse what is not a whole number of at least ``lowest``; numpy's whole numbers are good ones."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < lowest:
        raise InputError(f"{name} must be a whole number of at least {lowest}, not {value!r}: {mend}")


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
