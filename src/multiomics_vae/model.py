"""`MultiVAE`, the class that users hold: register, train, ask.

How it is made and kept stands here; how it is trained, in `trainable.py`; what it answers, in
`answers.py`. Every method is short and hands the work to a room.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from multiomics_vae.architecture import build_module
from multiomics_vae.choices import ModelChoices, resolve
from multiomics_vae.data.describe import describe
from multiomics_vae.data.options import SetupOptions, options_of
from multiomics_vae.data.registration import register
from multiomics_vae.data.schema import UNLABELLED
from multiomics_vae.data.statistics import feature_statistics
from multiomics_vae.data.strata import with_strata
from multiomics_vae.errors import MultiomicsWarning, NotFittedError
from multiomics_vae.heads import Head
from multiomics_vae.mapping import MappingModel
from multiomics_vae.objective import start_heads
from multiomics_vae.penalties.correction import BatchCorrection
from multiomics_vae.training.history import History
from multiomics_vae.training.processes import say
from multiomics_vae.training.saved import SavedModel, load_model, save_model

if TYPE_CHECKING:
    from mudata import MuData


class MultiVAE(MappingModel):
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
        Shares of hidden units, and of encoder inputs, hidden in training. In an encoder of fewer than 32
        inputs nothing is hidden: each may be the only one that says something.
    fusion
        ``"product"``, ``"gated"``, ``"mixture"``, ``"mixture_of_products"``, ``"attention"`` or
        ``"concatenation"``.
    disagreement_gate
        Let experts that disagree by more than their variances allow lose weight (`get_disagreement`), with
        ``fusion="product"`` or ``"gated"``.
    prior
        ``"standard_normal"``, ``"gaussian_mixture"`` or ``"vamp"``.
    n_prior_components
        Components of a prior that is a mixture.
    transforms, projections, decoders, dispersions
        Input transform, directions of the fixed projection (0 for none), ``"linear"`` or ``"mlp"``
        decoder, dispersion; one for all modalities or a mapping from names. ``"auto"`` settles them
        from the data.
    batch_correction
        ``"conditional"``, ``"adversarial"``, ``"hsic"`` or ``"mmd"``, or a `BatchCorrection` that says more:
        how the effect of the batch and of further categorical covariates is kept out of z.
    encode_covariates
        Let encoders read batch and covariates (decoders always do).
    heads
        Outcome -> `Head`, for the outcomes that are to be predicted.
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
        disagreement_gate: bool = False,
        prior: str = "standard_normal",
        n_prior_components: int = 50,
        transforms: str | Mapping[str, str] = "auto",
        projections: str | int | Mapping[str, int] = "auto",
        decoders: str | Mapping[str, str] = "auto",
        dispersions: str | Mapping[str, str] = "feature",
        batch_correction: str | BatchCorrection = "conditional",
        encode_covariates: bool = True,
        heads: Mapping[str, Head] | None = None,
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
            disagreement_gate=disagreement_gate,
            prior=prior,
            n_prior_components=n_prior_components,
            encode_covariates=encode_covariates,
            seed=seed,
            transforms=transforms,
            projections=projections,
            decoders=decoders,
            dispersions=dispersions,
            batch_correction=batch_correction,
            heads={} if heads is None else heads,
        )
        everyone = np.arange(data.n_cells)
        statistics = tuple(feature_statistics(data, m, everyone) for m in range(len(data.schema.modalities)))
        resolved = resolve(choices, data, statistics)
        module = build_module(resolved.config, data.schema, resolved.statistics, resolved.projections)
        data = with_strata(data, mdata, resolved.config.batch_correction.conditional_on)
        start_heads(module.readers, data)
        self._hold(data, options or SetupOptions(), resolved.config, module)
        if options is None:
            say(f"No setup_mudata was called on this MuData; inferred:\n{describe(data)}")

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
        donor_key: str | None = None,
        outcomes: Mapping[str, str | Sequence[str]] | None = None,
        unlabelled: Sequence[str] = UNLABELLED,
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
        donor_key
            Column of obs that says whose cell it is; it may have gaps, and other data may have other donors.
        outcomes
            What may be predicted: column of obs -> ``"binary"``, ``"categorical"``, ``"ordinal"`` (an ordered
            pandas categorical, or numbers) or ``"continuous"``, and a name of one's own -> ``(time column,
            event column)`` for survival. Labels may be missing anywhere, as NaN, None, or the texts
            ``"nan"``, ``"NA"``, ``"None"`` and the like.
        unlabelled
            Names in columns of categories that mean that there is no label, whatever their case.

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
            donor_key=donor_key,
            outcomes={} if outcomes is None else outcomes,
            unlabelled=unlabelled,
        )
        register(mdata, options)
        cls.setups.put(mdata, options)

    # --- on disk ---------------------------------------------------------------------------------

    def save(self, dir_path: str | Path, overwrite: bool = False) -> None:  # type: ignore[override]
        """Write the model into a folder: safetensors and JSON, whole or not at all, no cells.

        Of several processes that trained it together only the first writes.

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
        if not self.process.is_first:
            return
        beside = self._all_tensors()
        saved = SavedModel(self.config, self._data.schema, self.module, self._history, beside)
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
        data = model._read_for(saved, mdata).with_own_values()
        # Only a further training wants them, and says so if they are not there.
        data = with_strata(data, mdata, saved.config.batch_correction.conditional_on, needed=False)
        model._hold(data, options_of(saved.schema), saved.config, saved.module)
        model._history = saved.history
        model._restore_beside(saved.aids)
        model.is_trained = True
        return model

    # --- copies ----------------------------------------------------------------------------------

    def __deepcopy__(self, memo: dict[int, object]) -> MultiVAE:
        """Copy the model; the copy learns on its own and reads the same registered cells."""
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin._hold(self._data, self._options, self.config, copy.deepcopy(self.module, memo))
        twin._history = History.from_json(self._history.to_json())
        twin._aids, twin._memory, twin._origin = self._aids, self._memory, self._origin
        twin.is_trained = self.is_trained
        twin.train_indices, twin.validation_indices = self.train_indices, self.validation_indices
        return twin
