"""New cells on a fitted model: mapped, told from what it knows, and named after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd
import torch

from multiomics_vae.analysis.aids import aids_from_tensors
from multiomics_vae.analysis.evaluation.labels import read_labels
from multiomics_vae.analysis.latent import latent_table
from multiomics_vae.analysis.mapping.confidence import confidence_table
from multiomics_vae.analysis.mapping.labels import (
    BALANCE,
    N_NEIGHBORS,
    check_balance,
    check_share,
    labelled,
    neighbour_votes,
    transfer_table,
)
from multiomics_vae.analysis.mapping.memory import (
    MAX_MISSING,
    ReferenceMemory,
    learn_memory,
    memory_from_tensors,
    name_keys,
)
from multiomics_vae.analysis.mapping.query import (
    LEARNING_RATE,
    Reference,
    epochs_for,
    make_query,
    with_cohorts,
)
from multiomics_vae.answers import ANSWER_BATCH_SIZE
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.options import options_of
from multiomics_vae.data.registration import read
from multiomics_vae.data.selection import CellSelection
from multiomics_vae.data.tolerance import Tolerance
from multiomics_vae.errors import InputError, NotFittedError, warn
from multiomics_vae.extension import is_query
from multiomics_vae.trainable import TrainableModel
from multiomics_vae.training.config import TrainingConfig, check_whole
from multiomics_vae.training.saved import SavedModel, load_model

if TYPE_CHECKING:
    from mudata import MuData

MEMORY = "reference/"


class MappingModel(TrainableModel):
    """A model that other cells can be mapped onto, and that knows which of them it does not know."""

    # What a query was mapped onto, while it is at hand.
    _origin: Reference | None = None

    @classmethod
    def map_query(
        cls,
        mdata: MuData,
        reference: Self | str | Path,
        *,
        reference_mdata: MuData | None = None,
        max_missing: float = MAX_MISSING,
        train: bool = True,
        max_epochs: int | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> Self:
        """Map new cells onto a fitted model, whose weights stay as they are.

        Categories of batch and covariates that the reference has not seen get weights of their own, which
        start at the average of the known ones; they alone are learned, from the new cells (scArches,
        Lotfollahi et al. 2022). Where there is no new category nothing is learned. Heads and their
        calibration stay those of the reference, so the new cells need no labels. A batch correction within
        types is left out where the new cells have none.

        Features are matched by name. Extra ones, and extra modalities, are left out. Missing ones count as
        not measured: they leave the encoders where they are, are taken into account in the depth, and have
        no likelihood. Whole modalities may be missing.

        Parameters
        ----------
        mdata
            The new cells, with the layers and columns that the reference was set up with. Never changed.
        reference
            A trained model, or the folder of a saved one. Never changed.
        reference_mdata
            The cells of a saved reference, for one that was saved without a memory of them, and for an
            exact `mapping_confidence` where the new cells lack features.
        max_missing
            Largest share of the features of a modality that may be missing.
        train
            Learn the weights of new categories now; else later, by `train`, and until then they are the
            average of the known ones.
        max_epochs
            Passes over the new cells; None makes as many as give 400 steps, and at least 15.
        seed, progress
            As in `train`.

        Returns
        -------
        Self
            A model of the new cells, which answers, saves and loads like any other.

        Raises
        ------
        InputError
            For more missing features than may be (their numbers), and whatever else is wrong with the cells.
        CheckpointError
            If the folder is damaged or foreign.

        Examples
        --------
        >>> query = MultiVAE.map_query(new_mdata, reference="run/model")         # doctest: +SKIP
        >>> query.get_latent_representation(); query.mapping_confidence()        # doctest: +SKIP
        """
        found = cls._reference(reference, reference_mdata)
        made = make_query(mdata, found, max_missing)
        model = cls.__new__(cls)
        model._hold(made.data, options_of(made.data.schema), made.config, made.module)
        model._aids, model._memory, model._origin = made.aids, made.memory, found
        model.is_trained = True
        if train and any(made.n_new):
            batch_size = TrainingConfig.batch_size
            model.train(
                epochs_for(made.data.n_cells, batch_size) if max_epochs is None else max_epochs,
                batch_size=batch_size,
                learning_rate=LEARNING_RATE,
                seed=seed,
                progress=progress,
            )
        return model

    def mapping_confidence(
        self,
        mdata: MuData | None = None,
        indices: CellSelection = None,
        *,
        false_alarms: float = 0.05,
        shared: bool = False,
        batch_size: int = ANSWER_BATCH_SIZE,
    ) -> pd.DataFrame:
        """Whether the model knows cells like these, at a stated rate of false alarms.

        A cell is compared with cells of the reference that training held out, seen as it is seen: from the
        same modalities, without the features that it lacks. Three things speak against it, each as the normal
        score of its level among them:

        - ``distance``: z lies far from the known cells, the mean distance of the 50 nearest of them.
        - ``surprise``: one half of its features does not tell the other, the log likelihood of hidden
          features at the mean of z, less what is usual at the cell's depth.
        - ``shared``: what it shows speaks for the query's cells around it in z against the known ones around
          it, the log likelihood ratio of their two profiles, and so does what the query's cells next to it
          show.

        ``surprise`` weights modalities by how much each tells of z, ``shared`` adds log likelihood ratios up.
        ``strangeness`` = log(exp distance + exp surprise + 5 exp shared).

        Parameters
        ----------
        mdata, indices, batch_size
            As in `get_latent_representation`.
        false_alarms
            Share of cells like the reference's that are called unknown.
        shared
            Also look at what cells of the query share: it finds types that differ by little in many features,
            if dozens of their cells are there. Needs the cells of the reference, and 50 cells of the query.
            What three quarters of the query differ in is taken for the laboratory. Cells of a known type that
            an unknown one lies among are called unknown more often than is stated, and so may be those of a
            rare one that is commoner than in the reference. Codes are not looked at.

        Returns
        -------
        DataFrame
            A row a cell: ``p_value`` = (1 + number of held-out cells at least as strange) / (1 + number of
            held-out cells), a conformal p-value; ``strangeness``, ``distance``, ``surprise``, ``shared``
            (NaN where it was not looked at); ``verdict``, ``"unknown"`` where the p-value is below
            ``false_alarms``, else ``"known"``.

        Raises
        ------
        InputError
            If the reference held out fewer than 20 cells with the modalities of some cell; for ``shared`` of
            a model that is no query, or whose reference's cells are not at hand.

        Notes
        -----
        The rate holds for cells that are exchangeable with the held-out ones. Those of another laboratory are
        so only as far as the covariate weights take the difference out.

        Examples
        --------
        >>> table = query.mapping_confidence()                                  # doctest: +SKIP
        >>> new_mdata.obs["verdict"] = table["verdict"]                         # doctest: +SKIP
        """
        data, cells = self._ask(mdata, indices, batch_size)
        memory = self._needed_memory()
        if not shared:
            memory = replace(memory, cohorts={})
        elif not memory.cohorts:
            memory = self._memory = self._with_cohorts(memory)
        return confidence_table(self.module, data, cells, memory, false_alarms, batch_size)

    def transfer_labels(
        self,
        labels: str | pd.Series,
        reference_mdata: MuData | None = None,
        mdata: MuData | None = None,
        indices: CellSelection = None,
        *,
        n_neighbors: int = N_NEIGHBORS,
        balance: float = BALANCE,
        unlabelled: Sequence[str] = (),
        least_probability: float = 0.5,
        false_alarms: float = 0.05,
        batch_size: int = ANSWER_BATCH_SIZE,
    ) -> pd.DataFrame:
        """Name cells after the nearest reference cells in the latent space, or say that it cannot be told.

        Parameters
        ----------
        labels
            Column of ``reference_mdata.obs``, or a Series indexed by the names of its cells.
        reference_mdata
            Cells with labels, as a rule those that the reference was trained on; None for the model's own.
        mdata, indices, batch_size
            The cells to be named, as in `get_latent_representation`.
        n_neighbors
            How many reference cells vote; the near ones count more.
        balance
            How much more those with rare labels count: 0 not at all, which names most cells right; 1 as if
            all labels were equally common; by default between the two.
        unlabelled
            Labels that mean that there is none: their cells do not vote.
        least_probability, false_alarms
            A cell is ``"unknown"`` if no label has this share of the votes, or if `mapping_confidence` says
            so. 0 turns either off.

        Returns
        -------
        DataFrame
            A row a cell: ``label``; ``nearest_label``, also where the label is ``"unknown"``;
            ``probability``, its share of the votes; ``p_value`` of `mapping_confidence`.

        Raises
        ------
        InputError
            For a column that is not there, and if no cell has a label.

        Examples
        --------
        >>> query.transfer_labels("cell_type", reference_mdata)["label"]        # doctest: +SKIP
        """
        check_whole("n_neighbors", n_neighbors, 1, "n_neighbors=30")
        check_balance(balance)
        check_share("least_probability", least_probability, "least_probability=0.5")
        check_share("false_alarms", false_alarms, "false_alarms=0.05")
        known, everyone = self._ask(reference_mdata, None, batch_size)
        obs = self.adata.obs if reference_mdata is None else reference_mdata.obs
        names = read_labels(labels, obs, known, everyone)
        assert names is not None
        having = np.flatnonzero(labelled(names, unlabelled))
        data, cells = self._ask(mdata, indices, batch_size)
        votes = neighbour_votes(
            latent_table(self.module, known, having, batch_size).mean,
            names[having],
            latent_table(self.module, data, cells, batch_size).mean,
            n_neighbors,
            balance,
        )
        votes.index = pd.Index(data.cell_names[cells])
        p_values = np.full(len(cells), np.nan)
        if false_alarms > 0:
            memory = replace(self._needed_memory(), cohorts={})
            found = confidence_table(self.module, data, cells, memory, false_alarms, batch_size)
            p_values = found["p_value"].to_numpy()
        return transfer_table(votes, p_values, least_probability, false_alarms)

    # --- helpers ---------------------------------------------------------------------------------

    @classmethod
    def _reference(cls, reference: Self | str | Path, mdata: MuData | None) -> Reference:
        """What is known of a reference: a model, or a folder and perhaps its cells."""
        if isinstance(reference, str | Path):
            saved = load_model(reference, cls.__name__)
            kept = {n: t for n, t in saved.aids.items() if not n.startswith(MEMORY)}
            memory = memory_from_tensors(_memory_tensors(saved.aids), saved.module)
            data = training = held_out = None
            if mdata is not None:
                data = read(mdata, saved.schema)
                keys = np.empty(0, dtype=np.int64) if memory is None else memory.keys
                is_held_out = np.isin(name_keys(data.cell_names), keys)
                training, held_out = np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
                if not len(held_out):
                    warn(
                        "It is not known which of the reference's cells training held out, so the new cells "
                        "are compared with some that the model has seen, and more of them will seem unknown."
                    )
                    held_out = training
            aids = aids_from_tensors(kept, saved.module)
            return Reference(saved.config, saved.schema, saved.module, aids, memory, data, training, held_out)
        if not isinstance(reference, MappingModel):
            raise InputError(
                f"reference must be a trained model or the folder of a saved one, not a "
                f"{type(reference).__name__}: MultiVAE.map_query(mdata, reference=model)"
            )
        if not reference.is_trained:
            raise NotFittedError("The reference has not been trained. Train it: reference.train()")
        return Reference(
            reference.config,
            reference.schema,
            reference.module,
            reference._all_aids(),
            reference._own_memory(),
            reference._data,
            reference._reference_cells,
            reference.validation_indices,
        )

    def _own_memory(self) -> ReferenceMemory | None:
        """Of the reference's cells where this is a query; of the model's own otherwise, learned when needed.

        None for a loaded model that was saved without: which of its cells were held out is not known.
        """
        if self._memory is None and len(self.train_indices) and not is_query(self.module):
            self._memory = learn_memory(
                self.module, self._data, self.train_indices, self.validation_indices, ANSWER_BATCH_SIZE
            )
        return self._memory

    def _needed_memory(self) -> ReferenceMemory:
        memory = self._own_memory()
        if memory is None:
            raise InputError(
                "The model was saved without a memory of its cells, by an older version, and cannot tell "
                "what it knows. Map the cells with those that it was trained on: "
                "MultiVAE.map_query(mdata, reference, reference_mdata=reference_mdata)"
            )
        return memory

    def _with_cohorts(self, memory: ReferenceMemory) -> ReferenceMemory:
        if self._origin is None or self._origin.data is None:
            raise InputError(
                "What new cells share is told from the cells of the reference, which are not at hand. Give "
                "them: MultiVAE.map_query(mdata, reference, reference_mdata=reference_mdata)"
            )
        return with_cohorts(memory, self.module, self._data, self._origin)

    def _all_tensors(self) -> dict[str, torch.Tensor]:
        """What is saved beside the weights: aids of prediction, and the memory."""
        memory = self._own_memory()
        kept = {} if memory is None else memory.to_tensors()
        return {**self._all_aids().to_tensors(), **{f"{MEMORY}{name}": t for name, t in kept.items()}}

    def _restore_beside(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take over what `_all_tensors` gave."""
        own = {n: t for n, t in tensors.items() if not n.startswith(MEMORY)}
        self._aids = aids_from_tensors(own, self.module)
        self._memory = memory_from_tensors(_memory_tensors(tensors), self.module)

    @classmethod
    def _read_for(cls, saved: SavedModel, mdata: MuData) -> MultimodalData:
        """Cells for a saved model; those of a query may lack features."""
        if not is_query(saved.module):
            return read(mdata, saved.schema)
        return read(
            mdata, saved.schema, _tolerance(memory_from_tensors(_memory_tensors(saved.aids), saved.module))
        )

    def _feature_tolerance(self) -> Tolerance | None:
        return _tolerance(self._memory) if is_query(self.module) else None

    def _read(self, mdata: MuData) -> MultimodalData:
        """Other cells; those of a query may lack the features that it may."""
        if not is_query(self.module):
            return super()._read(mdata)
        return read(mdata, self._data.schema, _tolerance(self._memory))


def _memory_tensors(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {n.removeprefix(MEMORY): t for n, t in tensors.items() if n.startswith(MEMORY)}


def _tolerance(memory: ReferenceMemory | None) -> Tolerance:
    return Tolerance(MAX_MISSING) if memory is None else Tolerance(memory.max_missing, memory.norms)
