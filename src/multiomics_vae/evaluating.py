"""How good the model is on cells it has not seen, and which cells contradict themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from multiomics_vae.analysis.direction import Direction
from multiomics_vae.analysis.evaluation.consistency import consistency_table
from multiomics_vae.analysis.evaluation.coverage import Imputer
from multiomics_vae.analysis.evaluation.evaluate import REFERENCES, EvaluationOptions, evaluate
from multiomics_vae.analysis.evaluation.labels import read_labels
from multiomics_vae.analysis.evaluation.question import ALL, NOTHING, Question
from multiomics_vae.analysis.evaluation.report import EvaluationReport
from multiomics_vae.answers import ANSWER_BATCH_SIZE
from multiomics_vae.data.selection import CellSelection, select_cells
from multiomics_vae.errors import InputError, did_you_mean, warn
from multiomics_vae.exports import ExportingModel
from multiomics_vae.training.config import check_whole

if TYPE_CHECKING:
    from mudata import MuData


class EvaluatingModel(ExportingModel):
    """A model that can be judged."""

    def evaluate(
        self,
        indices: CellSelection = None,
        mdata: MuData | None = None,
        *,
        labels: str | pd.Series | np.ndarray | list[str] | None = None,
        n_samples: int = 5,
        n_importance_samples: int = EvaluationOptions.n_importance_samples,
        n_importance_cells: int = EvaluationOptions.n_importance_cells,
        n_features_scored: int = EvaluationOptions.n_features_scored,
        reference: str | None = EvaluationOptions.reference,
        n_reference_cells: int = EvaluationOptions.n_reference_cells,
        seed: int = 0,
        batch_size: int = ANSWER_BATCH_SIZE,
    ) -> EvaluationReport:
        """Judge the model on held-out cells: likelihoods, posteriors, agreement, imputation.

        Held-out log likelihood of every modality from all, from each and from no modality;
        importance-weighted bounds at 1, 10, 100 and 1000 draws (Burda et al. 2016); variance of the log
        importance weights (Wu & Goodman 2018); active latent dimensions; entropy of the posterior as evidence
        is taken away; FOSCTTM and Procrustes disparity between single modalities; coverage of intervals of
        imputed values; scores of imputation, overall and within cell types. Verdicts say what is
        not well and what to do.

        Parameters
        ----------
        indices
            Positions, mask or names of cells. None: those held out for validation, or all of ``mdata``.
        mdata
            Other cells of the same kind; None for the model's own.
        labels
            Types of cells, for scores within types: a column of ``mdata.obs`` (without ``mdata``, of the
            columns the model was set up with), a Series by cell name, or an array of as many entries as
            cells are asked about. Knowing the type alone already scores most of what imputation scores.
        n_samples
            Draws of z a cell for expected log likelihoods.
        n_importance_samples, n_importance_cells
            Draws for each cell and proposal of the importance weights, and the cells, drawn at random, that
            they are spent on.
        n_features_scored
            Most features of a modality that imputation is scored on, drawn from those seen in enough cells.
        reference
            ``"nuts"`` also draws from the exact posterior of a few cells with Pyro's NUTS and says how far q
            is from it, as `compare_with_nuts` does; seconds to tens of seconds a cell.
        n_reference_cells
            Those cells, the first of the ones that importance weights are drawn for.
        seed
            Of all that is drawn.
        batch_size
            Cells at a time.

        Returns
        -------
        EvaluationReport
            Prints, ``plot()``, ``to_frame()``, and holds every table.

        Raises
        ------
        InputError
            If there are no held-out cells, or an argument is wrong.

        Examples
        --------
        >>> report = model.evaluate(test_indices, labels=mdata.obs["cell_type"])  # doctest: +SKIP
        >>> print(report)                                                         # doctest: +SKIP
        """
        data, cells = self._ask(mdata, indices, batch_size, n_samples)
        if mdata is None and indices is None:
            cells = self._trusted("model.evaluate(test_indices)")
        self._check_evaluated(cells, own=mdata is None)
        check_whole("seed", seed, 0, "seed=0")
        for taken in (ALL, NOTHING):
            if taken in data.schema.modality_names:
                raise InputError(
                    f"A modality is called {taken!r}, which means something else in an evaluation. Give it "
                    f"another name: MuData({{'rna': mdata[{taken!r}], ...}})"
                )
        for name, value, least in (
            ("n_importance_samples", n_importance_samples, 2),
            ("n_importance_cells", n_importance_cells, 2),
            ("n_features_scored", n_features_scored, 1),
            ("n_reference_cells", n_reference_cells, 1),
        ):
            check_whole(name, value, least, f"{name}={getattr(EvaluationOptions, name)}")
        if reference is not None and reference not in REFERENCES:
            raise InputError(
                f"There is no reference={reference!r}. {did_you_mean(str(reference), REFERENCES)}"
            )
        types = read_labels(labels, self.adata.obs if mdata is None else mdata.obs, data, cells)
        question = Question(self.module, data, cells, batch_size, n_samples, seed)
        options = EvaluationOptions(
            n_importance_samples, n_importance_cells, n_features_scored, reference, n_reference_cells
        )
        shown = [Direction(*pair) for a, b in question.pairs() for pair in ((a, (b,)), (b, (a,)))]
        depths = {direction: self._depth(direction) for direction in shown}
        return evaluate(question, Imputer(depths, self._aids.calibration), options, types)

    def consistency(
        self,
        mdata: MuData | None = None,
        indices: CellSelection = None,
        *,
        reference: CellSelection = None,
        seed: int = 0,
        batch_size: int = ANSWER_BATCH_SIZE,
    ) -> pd.DataFrame:
        """How far apart the modalities of each cell are in what they say, and how unusual that is.

        d² = Σ_k (μ_a − μ_b)² / (σ²_a + σ²_b) between q(z | x_a) and q(z | x_b), for every pair of a cell's
        modalities. Cells whose modalities come from different cells, doublets and swapped samples stand out,
        as far as they are of different types. The p-value is calibrated on held-out cells and needs no
        assumption about d²; of cells like those of the reference a share α has a p-value of at most α, so
        correct for the number of cells (``scipy.stats.false_discovery_control``).

        Parameters
        ----------
        mdata, indices, batch_size
            As in `get_latent_representation`.
        reference
            Cells of the model that it was not trained on and whose modalities are trusted to belong
            together; None takes those held out for validation.
        seed
            Of the swaps.

        Returns
        -------
        DataFrame
            A row a cell: ``d2_<a>_<b>`` for every pair, ``distance`` (their mean), ``largest_distance``,
            ``p_value`` (share of reference cells at least as distant) and ``p_swapped`` (share of reference
            cells with swapped modalities at most as distant). NaN where a cell lacks a modality.

        Raises
        ------
        InputError
            If there is only one modality, or too few reference cells.

        Examples
        --------
        >>> model.consistency().query("p_value < 0.001")   # doctest: +SKIP
        """
        data, cells = self._ask(mdata, indices, batch_size)
        check_whole("seed", seed, 0, "seed=0")
        names = data.schema.modality_names
        if len(names) < 2:
            raise InputError(
                f"The model has one modality, {names[0]!r}, and consistency compares two. Set up more of "
                "them: MultiVAE.setup_mudata(mdata, modalities=['rna', 'atac'])"
            )
        if reference is None:
            known = self._trusted("model.consistency(reference=test_indices)")
        else:
            known = np.unique(select_cells(self._data, reference))
        trusted = Question(self.module, self._data, known, batch_size, 1, seed)
        return consistency_table(Question(self.module, data, cells, batch_size, 1, seed), trusted)

    def _trusted(self, mend: str) -> np.ndarray:
        """Cells held out for validation, which a loaded model no longer knows."""
        if not len(self.validation_indices):
            raise InputError(
                "The model knows of no held-out cells (it was loaded, or trained with validation_size=0). "
                f"Name cells that it was not trained on: {mend}"
            )
        return self.validation_indices

    def _check_evaluated(self, cells: np.ndarray, own: bool) -> None:
        if len(np.unique(cells)) < max(2, len(cells)):
            raise InputError(
                f"An evaluation needs two cells or more, each once; {len(cells)} were named, "
                f"{len(np.unique(cells))} of them different: model.evaluate(model.validation_indices)"
            )
        n_trained = int(np.isin(cells, self.train_indices).sum()) if own else 0
        if n_trained:
            warn(
                f"{n_trained} of the {len(cells)} evaluated cells were trained on, which flatters the model. "
                "Evaluate on others: model.evaluate(model.validation_indices)"
            )
