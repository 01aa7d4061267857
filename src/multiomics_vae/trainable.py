"""How a model is trained: the run that the user's arguments make, and going on with one that was stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from multiomics_vae.analysis.aids import PredictionAids
from multiomics_vae.analysis.mapping.memory import ReferenceMemory
from multiomics_vae.analysis.outcomes.finishing import finish_heads
from multiomics_vae.analysis.outcomes.leakage import split
from multiomics_vae.architecture import ModelConfig
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.options import SetupOptions, options_of
from multiomics_vae.data.registration import read
from multiomics_vae.data.selection import CellSelection, select_cells
from multiomics_vae.data.share import ALONE
from multiomics_vae.data.strata import with_strata
from multiomics_vae.errors import InputError, warn
from multiomics_vae.extension import check_something_to_learn, is_query
from multiomics_vae.module import MultimodalModule
from multiomics_vae.objective import (
    ObjectiveConfig,
    SubsetObjective,
    objective_for,
    penalty_weights,
    with_correction,
)
from multiomics_vae.penalties.correction import BatchCorrection
from multiomics_vae.predicting import PredictingModel
from multiomics_vae.training.balance import ModalityWeights, starting_weights
from multiomics_vae.training.config import TrainingConfig, check_whole
from multiomics_vae.training.fit import fit
from multiomics_vae.training.history import History
from multiomics_vae.training.keeper import Keep
from multiomics_vae.training.precision import Precision
from multiomics_vae.training.resumable import (
    UnfinishedTraining,
    check_free,
    check_same_cells,
    read_unfinished,
)
from multiomics_vae.training.run import TrainingRun, fingerprint, split_cells
from multiomics_vae.training.state import TrainingState

if TYPE_CHECKING:
    from lightning.pytorch import Callback
    from mudata import MuData


class TrainableModel(PredictingModel):
    """A model that learns from the cells it was registered with.

    After a training by several processes all of them hold the same model and go on with the user's
    script; ``process.is_first`` says which of them should write and speak.
    """

    def _hold(
        self,
        data: MultimodalData,
        options: SetupOptions,
        config: ModelConfig,
        module: MultimodalModule,
    ) -> None:
        super().__init__(data, options)
        self.module = module
        self.config = config
        self._options = options
        self._data = data
        self._history = History()
        self._aids = PredictionAids()
        self._memory: ReferenceMemory | None = None
        self.process = ALONE
        self.train_indices = self.validation_indices = self.test_indices = np.empty(0, dtype=np.int64)

    def train(  # type: ignore[override]
        self,
        max_epochs: int | None = TrainingConfig.max_epochs,
        *,
        batch_size: int = TrainingConfig.batch_size,
        learning_rate: float = TrainingConfig.learning_rate,
        weight_decay: float = TrainingConfig.weight_decay,
        gradient_clip: float = TrainingConfig.gradient_clip,
        warmup_epochs: int | None = TrainingConfig.warmup_epochs,
        weight_averaging: float = TrainingConfig.weight_averaging,
        validation_size: float = TrainingConfig.validation_size,
        validation_indices: CellSelection = None,
        allow_leakage: bool = False,
        early_stopping: bool = TrainingConfig.early_stopping,
        patience: int | None = TrainingConfig.patience,
        subset_objective: SubsetObjective | None = None,
        subset_weight: float | None = None,
        n_subsets: int | None = ObjectiveConfig.n_subsets,
        modality_dropout: float = ObjectiveConfig.modality_dropout,
        modality_weights: ModalityWeights = "equal",
        kl_weight: float = ObjectiveConfig.kl_weight,
        free_bits: float = ObjectiveConfig.free_bits,
        penalties: Mapping[str, float] | None = None,
        accelerator: str = TrainingConfig.accelerator,
        devices: int | str = TrainingConfig.devices,
        num_nodes: int = TrainingConfig.num_nodes,
        precision: Precision = TrainingConfig.precision,
        n_features_per_step: int | None = TrainingConfig.n_features_per_step,
        seed: int | None = None,
        checkpoint_folder: str | Path | None = None,
        checkpoint_every: int | None = None,
        progress: bool = True,
        callbacks: Sequence[Callback] = (),
    ) -> Self:
        """Fit the model; a second call goes on from the weights as they stand.

        Every call has its own schedule and history, and keeps its best weights; a second one has no
        warm-up of β unless asked. Ctrl-C stops and leaves a usable model with the best weights so far.

        Parameters
        ----------
        max_epochs, batch_size, learning_rate, weight_decay, gradient_clip, warmup_epochs,
        weight_averaging, validation_size, early_stopping, patience, accelerator, devices, num_nodes,
        precision, n_features_per_step
            As in `training.config.TrainingConfig`.
        validation_indices
            Cells to hold out, in place of a random ``validation_size``.
        allow_leakage
            Let cells of one donor be both trained on and held out although an outcome belongs to donors: it
            can then be told by recognising the donor, and held-out figures are too good. Otherwise whole
            donors are held out as soon as there is such an outcome, and ``validation_size`` is a share of
            donors.
        subset_objective, subset_weight
            What single modalities are trained to, and how much it counts, as in `objective.ObjectiveConfig`.
            None lets them follow from how much of the data is missing: ``"within"`` and 0.3 where every cell
            is whole, ``"both"`` and up to 1 in a mosaic; see `objective.following.objective_for`.
        n_subsets, modality_dropout, kl_weight, free_bits
            As in `objective.ObjectiveConfig`.
        penalties
            Name -> weight of what is added to the loss: ``"info_nce"``, ``"distance_nce"``, ``"mmd"``,
            ``"overconfidence"``, ``"triplet"``. None, or a weight of 0, adds nothing; each is in the history
            under its name. That of the model's ``batch_correction`` is added without being named; named here,
            it has this weight.
        modality_weights
            λ: ``"equal"``, ``"balanced"`` (by the marginal model's likelihood), ``"adaptive"`` (from
            gradient norms), or a mapping from modality names to numbers.
        seed
            Of the split, the shuffling and the noise; None takes the model's.
        checkpoint_folder
            A new folder in which the state of the training is kept, so that it can be gone on with after
            whatever stopped it: `MultiVAE.resume`.
        checkpoint_every
            Steps after which it is kept also within a pass; None keeps it at the end of every pass only.
        progress
            Show a progress bar.
        callbacks
            Lightning callbacks. In ``on_validation_end`` the weights that are validated (the average)
            are in place and the model can be asked.

        Returns
        -------
        Self
            Itself.

        Raises
        ------
        TrainingDivergedError
            If a term or gradient is no longer finite; the last good weights are in place.
        """
        config = TrainingConfig(
            max_epochs=max_epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            gradient_clip=gradient_clip,
            warmup_epochs=0 if self.is_trained and warmup_epochs is None else warmup_epochs,
            weight_averaging=weight_averaging,
            validation_size=validation_size,
            early_stopping=early_stopping,
            patience=patience,
            accelerator=accelerator,
            devices=devices,
            num_nodes=num_nodes,
            seed=self.config.seed if seed is None else seed,
            precision=precision,
            n_features_per_step=n_features_per_step,
        )
        held_out = None if validation_indices is None else select_cells(self._data, validation_indices)
        mapped = is_query(self.module)
        if mapped and held_out is None:
            # Its heads learn nothing, and a donor that was held out whole would take its new batch along.
            training, validation = split_cells(self._data.n_cells, validation_size, config.seed)
        else:
            training, validation = split(
                self._data, self.config.heads, held_out, validation_size, config.seed, allow_leakage or mapped
            )
        correction = self.config.batch_correction
        stratum = correction.conditional_on
        no_types = stratum is not None and self._data.strata is None
        if no_types and mapped:
            # Cells are mapped to learn their types, and without them types would be taken for batches.
            correction = BatchCorrection()
        kind, subset_weight = objective_for(self._data.present[training], subset_objective, subset_weight)
        objective = ObjectiveConfig(
            subset_objective=kind,
            subset_weight=subset_weight,
            n_subsets=n_subsets,
            modality_dropout=modality_dropout,
            kl_weight=kl_weight,
            free_bits=free_bits,
            penalties=penalty_weights(with_correction(penalties, correction)),
            corrected=correction.keys,
        )
        if no_types and not mapped:
            raise InputError(
                f"The batch correction is conditional on {stratum!r}, and obs has no such column. Add it "
                f"before the model is loaded: mdata.obs[{stratum!r}] = types"
            )
        weights = starting_weights(modality_weights, self._data, training, self.module)
        adaptive = isinstance(modality_weights, str) and modality_weights == "adaptive"
        if checkpoint_every is not None:
            check_whole("checkpoint_every", checkpoint_every, 1, "model.train(checkpoint_every=1_000)")
        run = TrainingRun(config, objective, weights, adaptive, training, validation)
        unfinished = UnfinishedTraining(
            self.config, self.schema, run, fingerprint(self._data.cell_names), checkpoint_every
        )
        keep = None
        if checkpoint_folder is not None:
            check_free(checkpoint_folder, type(self).__name__)
            keep = self._keep(unfinished, checkpoint_folder)
        return self._train(run, History(), keep, progress, callbacks)

    @classmethod
    def resume(
        cls,
        folder: str | Path,
        mdata: MuData,
        *,
        progress: bool = True,
        callbacks: Sequence[Callback] = (),
    ) -> Self:
        """Go on with a training that was stopped, as it was begun; on a CPU the result is bitwise the same.

        Parameters
        ----------
        folder
            The ``checkpoint_folder`` of `train`; the state goes on being kept there.
        mdata
            The same cells with the same values, in the same order.
        progress, callbacks
            As in `train`.

        Returns
        -------
        Self
            The trained model.

        Raises
        ------
        CheckpointError
            If the folder holds no such training, or the cells are not the same.

        Examples
        --------
        >>> model = MultiVAE.resume("run/training", mdata)        # doctest: +SKIP
        """
        found = read_unfinished(folder, cls.__name__)
        unfinished = found.training
        data = read(mdata, unfinished.schema).with_own_values()
        check_same_cells(unfinished, data.cell_names, folder)
        data = with_strata(data, mdata, unfinished.config.batch_correction.conditional_on)
        model = cls.__new__(cls)
        model._hold(data, options_of(unfinished.schema), unfinished.config, found.module)
        keep = model._keep(unfinished, folder)
        return model._train(unfinished.run, found.history, keep, progress, callbacks, found.state)

    def _keep(self, unfinished: UnfinishedTraining, folder: str | Path) -> Keep:
        name = type(self).__name__
        return Keep(lambda state: unfinished.write(folder, name, state), unfinished.every_n_steps)

    def _train(
        self,
        run: TrainingRun,
        history: History,
        keep: Keep | None,
        progress: bool,
        callbacks: Sequence[Callback],
        resumed: TrainingState | None = None,
    ) -> Self:
        check_something_to_learn(self.module)
        self.train_indices, self.validation_indices = run.training_cells, run.validation_cells
        before, was_trained = self._history, self.is_trained
        self._history = history
        # A query keeps them: its z means what it meant before, whatever its covariate weights are.
        aids = self._aids if is_query(self.module) else PredictionAids()
        if self._memory is not None:  # what the cells of a query share depends on its weights
            self._memory = replace(self._memory, cohorts={}) if is_query(self.module) else None
        self._aids = aids
        self.is_trained = True  # so that callbacks can ask
        try:
            result = fit(
                self.module,
                self._data,
                run,
                history,
                callbacks=callbacks,
                show_progress=progress,
                keep=keep,
                resumed=resumed,
            )
        finally:
            # What was learned from other weights, in a callback or before, holds no more.
            self._aids = aids
            # Also after an error: the weights of the best pass are in place.
            self.is_trained = was_trained or history.n_epochs > 0
            if not history.n_epochs:
                self._history = before
        if result.n_steps and not is_query(self.module):
            finish_heads(self.module, self._data, run.training_cells)
        self.process = result.process
        if result.interrupted:
            self.is_trained = self.is_trained or result.n_steps > 0
            warn(result.interruption)
        return self

    @property
    def history(self) -> History:
        """Losses by epoch: ``model.history["elbo_validation"]``."""
        return self._history
