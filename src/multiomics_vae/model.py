"""`MultiVAE`, the class that users hold: register, train, ask.

How it is made, trained and kept stands here; what it answers, in `answers.py`. Every method is short
and hands the work to a room.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from multiomics_vae.architecture import ModelConfig, build_module
from multiomics_vae.choices import ModelChoices, resolve
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.describe import describe
from multiomics_vae.data.options import SetupOptions, options_of
from multiomics_vae.data.registration import read, register
from multiomics_vae.data.selection import CellSelection, select_cells
from multiomics_vae.data.statistics import feature_statistics
from multiomics_vae.errors import MultiomicsWarning, NotFittedError, warn
from multiomics_vae.exports import ExportingModel
from multiomics_vae.module import MultimodalModule
from multiomics_vae.objective import ObjectiveConfig, SubsetObjective
from multiomics_vae.training.balance import ModalityWeights, starting_weights
from multiomics_vae.training.config import TrainingConfig
from multiomics_vae.training.fit import fit, split_cells
from multiomics_vae.training.history import History
from multiomics_vae.training.precision import Precision
from multiomics_vae.training.saved import SavedModel, load_model, save_model

if TYPE_CHECKING:
    from lightning.pytorch import Callback
    from mudata import MuData


class MultiVAE(ExportingModel):
    """A variational autoencoder over several modalities of the same cells.

    z ~ p(z);  x_m ~ p_m(x_m | z, s) for every modality m;  q(z | x_A) fuses the experts of the
    modalities A that a cell has (Wu & Goodman 2018).

    Parameters
    ----------
    mdata
        The cells. Set up before by `setup_mudata`, or registered now with inferred defaults. Never
        changed.
    n_latent
        Dimensions of z.
    n_hidden, n_layers
        Width and number of an encoder's hidden layers.
    dropout, input_dropout
        Shares of hidden units, and of encoder inputs, hidden in training.
    fusion
        ``"product"``, ``"gated"``, ``"mixture"``, ``"mixture_of_products"``, ``"attention"`` or
        ``"concatenation"``.
    prior
        ``"standard_normal"``, ``"gaussian_mixture"`` or ``"vamp"``.
    n_prior_components
        Components of a prior that is a mixture.
    transforms, projections, decoders, dispersions
        Input transform, directions of the fixed projection (0 for none), ``"linear"`` or ``"mlp"``
        decoder, dispersion; one for all modalities or a mapping from names. ``"auto"`` settles them
        from the data.
    encode_covariates
        Let encoders read batch and covariates (decoders always do).
    seed
        Of the start weights and projections.

    Examples
    --------
    >>> model = MultiVAE(mdata)                                               # doctest: +SKIP
    >>> model.train(); mdata.obsm["X_multivae"] = model.get_latent_representation()  # doctest: +SKIP
    """

    def __init__(
        self,
        mdata: MuData,
        *,
        n_latent: int = 20,
        n_hidden: int = 128,
        n_layers: int = 2,
        dropout: float = 0.1,
        input_dropout: float = 0.2,
        fusion: str = "product",
        prior: str = "standard_normal",
        n_prior_components: int = 50,
        transforms: str | Mapping[str, str] = "auto",
        projections: str | int | Mapping[str, int] = "auto",
        decoders: str | Mapping[str, str] = "auto",
        dispersions: str | Mapping[str, str] = "feature",
        encode_covariates: bool = True,
        seed: int = 0,
    ) -> None:
        options = self.setups.get(mdata)
        with warnings.catch_warnings():
            if options is not None:
                # setup_mudata has said it all already.
                warnings.simplefilter("ignore", MultiomicsWarning)
            data = register(mdata, options).with_own_values()
        choices = ModelChoices(
            n_latent=n_latent,
            n_hidden=n_hidden,
            n_layers=n_layers,
            dropout=dropout,
            input_dropout=input_dropout,
            fusion=fusion,
            prior=prior,
            n_prior_components=n_prior_components,
            encode_covariates=encode_covariates,
            seed=seed,
            transforms=transforms,
            projections=projections,
            decoders=decoders,
            dispersions=dispersions,
        )
        everyone = np.arange(data.n_cells)
        statistics = tuple(feature_statistics(data, m, everyone) for m in range(len(data.schema.modalities)))
        resolved = resolve(choices, data, statistics)
        module = build_module(resolved.config, data.schema, resolved.statistics, resolved.projections)
        self._hold(data, options or SetupOptions(), resolved.config, module)
        if options is None:
            print(f"No setup_mudata was called on this MuData; inferred:\n{describe(data)}")

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
        self.train_indices = self.validation_indices = self.test_indices = np.empty(0, dtype=np.int64)

    @classmethod
    def setup_mudata(
        cls,
        mdata: MuData,
        *,
        likelihoods: Mapping[str, str] | None = None,
        batch_key: str | None = None,
        layers: Mapping[str, str | None] | None = None,
        coverage_layers: Mapping[str, str] | None = None,
        categorical_covariate_keys: Sequence[str] | None = None,
        continuous_covariate_keys: Sequence[str] | None = None,
        size_factor_key: str | None = None,
        modalities: Sequence[str] | None = None,
    ) -> None:
        """Say how a MuData is to be read; whatever is left out is inferred from the data.

        The MuData is not written to. A copy of it inherits nothing: set it up too.

        Parameters
        ----------
        mdata
            Cells of several modalities, paired by name; a cell may lack any modality but not all.
        likelihoods
            Modality -> ``"nb"``, ``"zinb"``, ``"poisson"``, ``"bernoulli"``, ``"gaussian"``,
            ``"protein_mixture"``, ``"beta_binomial"`` or ``"categorical"``.
        batch_key
            Column of obs with the batch.
        layers, coverage_layers
            Modality -> layer of the values, and of the coverage of methylated counts.
        categorical_covariate_keys, continuous_covariate_keys
            Further columns of obs that encoders and decoders read.
        size_factor_key
            Column of obs that takes the place of the library size.
        modalities
            Which to use; None means all.

        Raises
        ------
        InputError
            What is wrong, where, the value seen, and a line that mends it.

        Examples
        --------
        >>> MultiVAE.setup_mudata(mdata, likelihoods={"rna": "nb"}, batch_key="donor")  # doctest: +SKIP
        """
        options = SetupOptions(
            likelihoods=dict(likelihoods or {}),
            layers=dict(layers or {}),
            coverage_layers=dict(coverage_layers or {}),
            batch_key=batch_key,
            categorical_covariate_keys=categorical_covariate_keys or (),
            continuous_covariate_keys=continuous_covariate_keys or (),
            size_factor_key=size_factor_key,
            modalities=modalities,
        )
        register(mdata, options)
        cls.setups.put(mdata, options)

    # --- training --------------------------------------------------------------------------------

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
        early_stopping: bool = TrainingConfig.early_stopping,
        patience: int | None = TrainingConfig.patience,
        subset_objective: SubsetObjective = ObjectiveConfig.subset_objective,
        subset_weight: float = ObjectiveConfig.subset_weight,
        n_subsets: int | None = ObjectiveConfig.n_subsets,
        modality_dropout: float = ObjectiveConfig.modality_dropout,
        modality_weights: ModalityWeights = "equal",
        kl_weight: float = ObjectiveConfig.kl_weight,
        free_bits: float = ObjectiveConfig.free_bits,
        accelerator: str = TrainingConfig.accelerator,
        devices: int | str = TrainingConfig.devices,
        precision: Precision = TrainingConfig.precision,
        n_features_per_step: int | None = TrainingConfig.n_features_per_step,
        seed: int | None = None,
        progress: bool = True,
        callbacks: Sequence[Callback] = (),
    ) -> MultiVAE:
        """Fit the model; a second call goes on from the weights as they stand.

        Every call has its own schedule and history, and keeps its best weights; a second one has no
        warm-up of β unless asked. Ctrl-C stops and leaves a usable model with the best weights so far.

        Parameters
        ----------
        max_epochs, batch_size, learning_rate, weight_decay, gradient_clip, warmup_epochs,
        weight_averaging, validation_size, early_stopping, patience, accelerator, devices, precision,
        n_features_per_step
            As in `training.config.TrainingConfig`.
        validation_indices
            Cells to hold out, in place of a random ``validation_size``.
        subset_objective, subset_weight, n_subsets, modality_dropout, kl_weight, free_bits
            As in `objective.ObjectiveConfig`.
        modality_weights
            λ: ``"equal"``, ``"balanced"`` (by the marginal model's likelihood), ``"adaptive"`` (from
            gradient norms), or a mapping from modality names to numbers.
        seed
            Of the split, the shuffling and the noise; None takes the model's.
        progress
            Show a progress bar.
        callbacks
            Lightning callbacks. In ``on_validation_end`` the weights that are validated (the average)
            are in place and the model can be asked.

        Returns
        -------
        MultiVAE
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
            seed=self.config.seed if seed is None else seed,
            precision=precision,
            n_features_per_step=n_features_per_step,
        )
        objective = ObjectiveConfig(
            subset_objective=subset_objective,
            subset_weight=subset_weight,
            n_subsets=n_subsets,
            modality_dropout=modality_dropout,
            kl_weight=kl_weight,
            free_bits=free_bits,
        )
        if validation_indices is None:
            training, validation = split_cells(self._data.n_cells, validation_size, config.seed)
        else:
            validation = np.unique(select_cells(self._data, validation_indices))
            training = np.setdiff1d(np.arange(self._data.n_cells), validation)
        weights = starting_weights(modality_weights, self._data, training, self.module)
        self.train_indices, self.validation_indices = training, validation
        before, history, was_trained = self._history, History(), self.is_trained
        self._history = history
        self.is_trained = True  # so that callbacks can ask
        try:
            result = fit(
                self.module,
                self._data,
                training,
                validation,
                weights,
                isinstance(modality_weights, str) and modality_weights == "adaptive",
                objective,
                config,
                history,
                progress,
                callbacks,
            )
        finally:
            # Also after an error: the weights of the best pass are in place.
            self.is_trained = was_trained or history.n_epochs > 0
            if not history.n_epochs:
                self._history = before
        if result.interrupted:
            self.is_trained = self.is_trained or result.n_steps > 0
            warn(result.interruption)
        return self

    @property
    def history(self) -> History:
        """Losses by epoch: ``model.history["elbo_validation"]``."""
        return self._history

    # --- on disk ---------------------------------------------------------------------------------

    def save(self, dir_path: str | Path, overwrite: bool = False) -> None:  # type: ignore[override]
        """Write the model into a folder: safetensors and JSON, whole or not at all, no cells.

        Parameters
        ----------
        dir_path
            A new folder; with ``overwrite=True`` a model that is there is replaced.

        Raises
        ------
        CheckpointError
            If something is there already, or the disk refuses.
        """
        if not self.is_trained:
            raise NotFittedError("There is nothing to save yet. Train the model: model.train()")
        saved = SavedModel(self.config, self._data.schema, self.module, self._history)
        save_model(dir_path, type(self).__name__, saved, overwrite)

    @classmethod
    def load(cls, dir_path: str | Path, mdata: MuData) -> MultiVAE:  # type: ignore[override]
        """Read a model and give it cells to answer about.

        Parameters
        ----------
        dir_path
            Folder that `save` wrote.
        mdata
            The training cells, or others of the same kind; features are matched by name.

        Raises
        ------
        CheckpointError
            If the folder is damaged, foreign, or of a newer format.
        """
        saved = load_model(dir_path, cls.__name__)
        model = cls.__new__(cls)
        data, options = read(mdata, saved.schema).with_own_values(), options_of(saved.schema)
        model._hold(data, options, saved.config, saved.module)
        model._history = saved.history
        model.is_trained = True
        return model

    # --- copies ----------------------------------------------------------------------------------

    def __deepcopy__(self, memo: dict[int, object]) -> MultiVAE:
        """Copy the model; the copy learns on its own and reads the same registered cells."""
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin._hold(self._data, self._options, self.config, copy.deepcopy(self.module, memo))
        twin._history = History.from_json(self._history.to_json())
        twin.is_trained = self.is_trained
        twin.train_indices, twin.validation_indices = self.train_indices, self.validation_indices
        return twin
