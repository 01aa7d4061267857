"""How the model of every fold is made and trained: the arguments of `MultiVAE` and `train` as records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from multiomics_vae.heads import Head
from multiomics_vae.model import MultiVAE
from multiomics_vae.objective import ObjectiveConfig, SubsetObjective
from multiomics_vae.penalties.correction import BatchCorrection
from multiomics_vae.training.balance import ModalityWeights
from multiomics_vae.training.config import TrainingConfig

if TYPE_CHECKING:
    from mudata import MuData


@dataclass(frozen=True)
class ModelSettings:
    """Arguments of `MultiVAE`, with its defaults; see there.

    Parameters
    ----------
    n_latent, n_hidden, n_layers, dropout, input_dropout, fusion, disagreement_gate, prior, transforms,
    projections, decoders, dispersions, encode_covariates, batch_correction
        As in `MultiVAE`.
    other_heads
        Heads of further outcomes that are trained beside the one that is judged. Their labels of held-out
        donors are no more seen than those of the judged one.

    Examples
    --------
    >>> ModelSettings(n_latent=8, n_hidden=32).n_layers
    2
    """

    n_latent: int = 20
    n_hidden: int = 128
    n_layers: int = 2
    dropout: float = 0.1
    input_dropout: float = 0.2
    fusion: str = "product"
    disagreement_gate: bool = False
    prior: str = "standard_normal"
    transforms: str | Mapping[str, str] = "auto"
    projections: str | int | Mapping[str, int] = "auto"
    decoders: str | Mapping[str, str] = "auto"
    dispersions: str | Mapping[str, str] = "feature"
    encode_covariates: bool = True
    batch_correction: str | BatchCorrection = "conditional"
    other_heads: Mapping[str, Head] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of obs that such a model reads beside those of its set-up."""
        correction = self.batch_correction
        if isinstance(correction, str) or correction.conditional_on is None:
            return ()
        return (correction.conditional_on,)

    def make(self, mdata: MuData, heads: Mapping[str, Head], seed: int) -> MultiVAE:
        """A model of cells that are set up.

        Parameters
        ----------
        mdata
            The cells.
        heads
            What is predicted.
        seed
            Of the start weights.
        """
        return MultiVAE(
            mdata,
            n_latent=self.n_latent,
            n_hidden=self.n_hidden,
            n_layers=self.n_layers,
            dropout=self.dropout,
            input_dropout=self.input_dropout,
            fusion=self.fusion,
            disagreement_gate=self.disagreement_gate,
            prior=self.prior,
            transforms=self.transforms,
            projections=self.projections,
            decoders=self.decoders,
            dispersions=self.dispersions,
            encode_covariates=self.encode_covariates,
            batch_correction=self.batch_correction,
            heads={**self.other_heads, **heads},
            seed=seed,
        )


@dataclass(frozen=True)
class TrainingSettings:
    """Arguments of `MultiVAE.train`, with its defaults; see there.

    Parameters
    ----------
    max_epochs, batch_size, learning_rate, weight_decay, gradient_clip, warmup_epochs, weight_averaging,
    early_stopping, patience, accelerator, subset_objective, subset_weight, n_subsets, modality_dropout,
    modality_weights, kl_weight
        As in `MultiVAE.train`. Where donors are held out from a training for calibration, they are the ones
        that ``early_stopping`` watches too.

    Examples
    --------
    >>> TrainingSettings(max_epochs=100).batch_size
    128
    """

    max_epochs: int | None = TrainingConfig.max_epochs
    batch_size: int = TrainingConfig.batch_size
    learning_rate: float = TrainingConfig.learning_rate
    weight_decay: float = TrainingConfig.weight_decay
    gradient_clip: float = TrainingConfig.gradient_clip
    warmup_epochs: int | None = TrainingConfig.warmup_epochs
    weight_averaging: float = TrainingConfig.weight_averaging
    early_stopping: bool = TrainingConfig.early_stopping
    patience: int | None = TrainingConfig.patience
    accelerator: str = TrainingConfig.accelerator
    subset_objective: SubsetObjective | None = None
    subset_weight: float | None = None
    n_subsets: int | None = ObjectiveConfig.n_subsets
    modality_dropout: float = ObjectiveConfig.modality_dropout
    modality_weights: ModalityWeights = "equal"
    kl_weight: float = ObjectiveConfig.kl_weight

    def apply(self, model: MultiVAE, held_out: np.ndarray, seed: int) -> MultiVAE:
        """Train a model.

        Parameters
        ----------
        model
            Not trained yet.
        held_out
            Positions of cells that are not trained on; none holds out nobody, and then all epochs are run.
        seed
            Of shuffling and noise.
        """
        return model.train(
            self.max_epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            gradient_clip=self.gradient_clip,
            warmup_epochs=self.warmup_epochs,
            weight_averaging=self.weight_averaging,
            validation_size=0.0,
            validation_indices=held_out if len(held_out) else None,
            early_stopping=self.early_stopping and len(held_out) > 0,
            patience=self.patience,
            accelerator=self.accelerator,
            subset_objective=self.subset_objective,
            subset_weight=self.subset_weight,
            n_subsets=self.n_subsets,
            modality_dropout=self.modality_dropout,
            modality_weights=self.modality_weights,
            kl_weight=self.kl_weight,
            seed=seed,
            progress=False,
        )
