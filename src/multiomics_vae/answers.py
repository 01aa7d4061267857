"""The questions that a fitted model answers: one short method each, the work done in `analysis/`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, overload

import numpy as np
import pandas as pd

from multiomics_vae.analysis.bounds import Bounds, evidence_bounds
from multiomics_vae.analysis.cautions import given_modalities
from multiomics_vae.analysis.disagreement import disagreement_table
from multiomics_vae.analysis.latent import LatentTable, latent_samples, latent_table
from multiomics_vae.analysis.written import write_latent
from multiomics_vae.architecture import ModelConfig, describe_config
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.describe import describe
from multiomics_vae.data.registration import read
from multiomics_vae.data.schema import Schema
from multiomics_vae.data.selection import (
    CellSelection,
    select_cells,
)
from multiomics_vae.errors import InputError, NotFittedError
from multiomics_vae.module import MultimodalModule
from multiomics_vae.scvi_bridge import ScviModel
from multiomics_vae.training.config import check_batch_size, check_whole
from multiomics_vae.training.history import History

if TYPE_CHECKING:
    from mudata import MuData

ANSWER_BATCH_SIZE = 512


class AnsweringModel(ScviModel):
    """A model that has learned, and the data it belongs to; `MultiVAE` adds how it learns.

    Every answer takes ``mdata=None`` (the training cells, or others of the same kind), ``indices=None``
    (positions, a mask, or cell names) and ``batch_size``, and gives one row a cell, in order. A cell's
    answer never depends on the cells beside it.
    """

    is_trained: bool
    module: MultimodalModule
    config: ModelConfig
    _data: MultimodalData
    _history: History

    @overload
    def get_latent_representation(
        self,
        mdata: MuData | None = ...,
        indices: CellSelection = ...,
        *,
        modalities: Iterable[str] | None = ...,
        return_dist: Literal[False] = ...,
        batch_size: int = ...,
    ) -> np.ndarray: ...

    @overload
    def get_latent_representation(
        self,
        mdata: MuData | None = ...,
        indices: CellSelection = ...,
        *,
        modalities: Iterable[str] | None = ...,
        return_dist: Literal[True],
        batch_size: int = ...,
    ) -> tuple[np.ndarray, np.ndarray]: ...

    def get_latent_representation(
        self,
        mdata: MuData | None = None,
        indices: CellSelection = None,
        *,
        modalities: Iterable[str] | None = None,
        return_dist: bool = False,
        batch_size: int = ANSWER_BATCH_SIZE,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Mean (and variance) of q(z | x_A) for every cell, also those that lack a modality.

        Parameters
        ----------
        mdata
            Other cells of the same kind; None for those the model was trained on.
        indices
            Positions, mask or names of cells; None for all.
        modalities
            A: condition on these only. A cell that has none of them gets the prior, with a warning.
        return_dist
            Return the variance too.
        batch_size
            Cells at a time.

        Returns
        -------
        ndarray or tuple of ndarray
            ``(N, K)`` each.

        Examples
        --------
        >>> mean, variance = model.get_latent_representation(return_dist=True)  # doctest: +SKIP
        """
        table = self._latent(mdata, indices, modalities, batch_size)
        return (table.mean, table.variance) if return_dist else table.mean

    def get_latent_samples(
        self,
        mdata: MuData | None = None,
        indices: CellSelection = None,
        *,
        modalities: Iterable[str] | None = None,
        n_samples: int = 1,
        batch_size: int = ANSWER_BATCH_SIZE,
        seed: int = 0,
    ) -> np.ndarray:
        """Draws from q(z | x_A): ``(S, N, K)``; a cell's draws do not depend on the cells beside it."""
        data, cells = self._ask(mdata, indices, batch_size, n_samples)
        check_whole("seed", seed, 0, "seed=0")
        given = given_modalities(data, cells, modalities)
        return latent_samples(self.module, data, cells, batch_size, n_samples, given, seed)

    def get_expert_weights(
        self,
        mdata: MuData | None = None,
        indices: CellSelection = None,
        *,
        batch_size: int = ANSWER_BATCH_SIZE,
    ) -> pd.DataFrame:
        """How much each expert counted in each cell: gate weights, or shares of the precision.

        Returns
        -------
        DataFrame
            Cells by experts (``"prior"``, a modality, or modalities joined by ``+``); rows sum to 1.
        """
        data, cells = self._ask(mdata, indices, batch_size)
        table = latent_table(self.module, data, cells, batch_size)
        return pd.DataFrame(table.weights, index=data.cell_names[cells], columns=list(self.expert_names))

    def get_disagreement(
        self,
        mdata: MuData | None = None,
        indices: CellSelection = None,
        *,
        batch_size: int = ANSWER_BATCH_SIZE,
    ) -> pd.DataFrame:
        """How far what two modalities say of a cell is apart, over the most that their variances allow.

        d² / q, with d² = Σ_k (μ_a − μ_b)² / (σ_a² + σ_b²) of the two experts and q the 99 % quantile of
        chi-square with K degrees of freedom. Above 1 a ``disagreement_gate`` takes weight from one of them.

        Returns
        -------
        DataFrame
            Cells by pairs of modalities (``"rna|atac"``); NaN where a cell lacks one of the two.

        Raises
        ------
        InputError
            If the fusion rule has no experts of single modalities.
        """
        data, cells = self._ask(mdata, indices, batch_size)
        table = disagreement_table(self.module, data, cells, batch_size)
        return pd.DataFrame(table.values, index=data.cell_names[cells], columns=list(table.pairs))

    @property
    def expert_names(self) -> tuple[str, ...]:
        """Names of the fusion rule's experts."""
        names = self._data.schema.modality_names
        return tuple("+".join(names[m] for m in subset) or "prior" for subset in self.module.fusion.experts)

    def get_elbo(
        self,
        mdata: MuData | None = None,
        indices: CellSelection = None,
        *,
        n_samples: int = 5,
        batch_size: int = ANSWER_BATCH_SIZE,
    ) -> pd.Series:
        """Evidence lower bound of every cell, in nats, with every weight 1 whatever training used.

        Parameters
        ----------
        mdata, indices, batch_size
            As in `get_latent_representation`.
        n_samples
            Draws of z a cell.
        """
        bounds, names = self._bounds(mdata, indices, n_samples, batch_size)
        return pd.Series(bounds.elbo, index=names, name="elbo")

    def get_log_likelihood(
        self,
        mdata: MuData | None = None,
        indices: CellSelection = None,
        *,
        modalities: Iterable[str] | None = None,
        n_samples: int = 5,
        batch_size: int = ANSWER_BATCH_SIZE,
    ) -> pd.DataFrame:
        """E_q log p(x_m | z) of every cell and modality, in nats; NaN where a cell lacks the modality.

        Parameters
        ----------
        mdata, indices, batch_size
            As in `get_latent_representation`.
        modalities
            What q conditions on; None for all that a cell has.
        n_samples
            Draws of z a cell.
        """
        bounds, names = self._bounds(mdata, indices, n_samples, batch_size, modalities)
        return pd.DataFrame(
            bounds.log_likelihood, index=names, columns=list(self._data.schema.modality_names)
        )

    def write_results(
        self, mdata: MuData, *, key: str = "X_multivae", batch_size: int = ANSWER_BATCH_SIZE
    ) -> None:
        """Write the embedding into ``mdata``: the one call that changes what it is given.

        Writes ``mdata.obsm[key]`` and the same for each modality's cells, and in ``mdata.obs``
        ``multivae_entropy`` (of the posterior, nats), ``multivae_sd`` (mean over dimensions) and
        ``multivae_weight_<expert>`` (how much each expert counted).

        Parameters
        ----------
        mdata
            The training cells or others of the same kind.
        key
            Name of the embedding.
        """
        if mdata.is_view:
            raise InputError(
                "write_results cannot write into a view. Make it a MuData of its own first: "
                "mdata = mdata.copy()"
            )
        write_latent(mdata, self._latent(mdata, None, None, batch_size), self.expert_names, key)

    @property
    def schema(self) -> Schema:
        """What was registered: modalities, features, covariates."""
        return self._data.schema

    def summary(self) -> str:
        """What was registered and how it is modelled, as text."""
        return "\n".join([describe(self._data), describe_config(self.config, self._data.schema)])

    @property
    def summary_string(self) -> str:
        """`summary`, under the name that scvi-tools has for it."""
        return self.summary()

    def __repr__(self) -> str:
        state = f"trained, {self._history.n_epochs} epochs" if self.is_trained else "not trained yet"
        return f"{type(self).__name__} ({state})\n{self.summary()}"

    # --- helpers ---------------------------------------------------------------------------------

    def _ask(
        self, mdata: MuData | None, indices: CellSelection, batch_size: int, n_samples: int | None = None
    ) -> tuple[MultimodalData, np.ndarray]:
        """Check that the model can answer, and find the cells that the question is about."""
        if not self.is_trained:
            raise NotFittedError(f"This {type(self).__name__} has not been trained. Train it: model.train()")
        check_batch_size(batch_size)
        if n_samples is not None:
            check_whole("n_samples", n_samples, 1, "n_samples=10")
        data = self._data if mdata is None else self._read(mdata)
        return data, select_cells(data, indices)

    def _read(self, mdata: MuData) -> MultimodalData:
        """Other cells, under the model's schema."""
        return read(mdata, self._data.schema)

    def _latent(
        self, mdata: MuData | None, indices: CellSelection, modalities: Iterable[str] | None, batch_size: int
    ) -> LatentTable:
        data, cells = self._ask(mdata, indices, batch_size)
        given = given_modalities(data, cells, modalities)
        return latent_table(self.module, data, cells, batch_size, given)

    def _bounds(
        self,
        mdata: MuData | None,
        indices: CellSelection,
        n_samples: int,
        batch_size: int,
        modalities: Iterable[str] | None = None,
    ) -> tuple[Bounds, np.ndarray]:
        data, cells = self._ask(mdata, indices, batch_size, n_samples)
        given = given_modalities(data, cells, modalities)
        bounds = evidence_bounds(self.module, data, cells, batch_size, n_samples, given)
        return bounds, data.cell_names[cells]
