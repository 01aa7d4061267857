"""Outcomes of cells and donors, predicted by the model's heads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from multiomics_vae.analysis.aids import PredictionAids
from multiomics_vae.analysis.cautions import given_modalities
from multiomics_vae.analysis.outcomes.calibrated_outcome import OutcomeCalibration
from multiomics_vae.analysis.outcomes.explanation import Explanation, category_code, explain
from multiomics_vae.analysis.outcomes.held_out import held_out_calibration
from multiomics_vae.analysis.outcomes.prediction import Prediction, prediction_of
from multiomics_vae.analysis.outcomes.scores import OutcomeScores, outcome_scores, reader_of
from multiomics_vae.answers import ANSWER_BATCH_SIZE
from multiomics_vae.checking import CheckableModel
from multiomics_vae.data.columns import find_column
from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.registration import read
from multiomics_vae.data.selection import CellSelection, select_cells
from multiomics_vae.data.sources import shown
from multiomics_vae.data.tolerance import Tolerance
from multiomics_vae.errors import InputError, warn
from multiomics_vae.extension import is_query
from multiomics_vae.heads.reader import OutcomeReader
from multiomics_vae.training.config import check_whole

if TYPE_CHECKING:
    from mudata import MuData

N_SAMPLES = 50
LEVEL = 0.9


class PredictingModel(CheckableModel):
    """A model that predicts what becomes of a patient, or what a cell is."""

    def predict(
        self,
        outcome: str,
        mdata: MuData | None = None,
        indices: CellSelection = None,
        *,
        modalities: Iterable[str] | None = None,
        n_samples: int = N_SAMPLES,
        level: float = LEVEL,
        seed: int = 0,
        batch_size: int = ANSWER_BATCH_SIZE,
    ) -> Prediction:
        """Predict an outcome of cells, or of the donors that they are of: p(y | x) = E_{q(z|x)} p(y | z).

        Probabilities are averages over draws of z; their intervals say how much they depend on what the
        measurements leave open about z, and not how well the head has learned. Of the training's own cells
        and donors the predictions are better than of any others.

        Donors (of outcomes of cells: cells) that training held out, ``validation_size``, set the temperature
        of probabilities and say how large conformal sets must be to hold the truth of ``level`` of new
        donors. If they are too few ``.note`` says so, and there are no sets. Early stopping has looked at
        them too, so the promise is a little too good; `cross_validate` shows what it is worth.

        Parameters
        ----------
        outcome
            Its name.
        mdata, indices, batch_size
            As in `get_latent_representation`. A donor is predicted from those of its cells that are asked
            about. Columns of outcomes may be absent. Cells of a batch that the model does not know are
            encoded with the average of those that it knows, with a warning.
        modalities
            What z is inferred from; None for all that a cell has.
        n_samples
            Draws of z a cell.
        level
            Promised coverage of conformal sets and intervals; share of the draws that the interval ``lower``
            to ``upper`` of a probability holds, and, where there are too few held-out donors for sets, that
            must agree on a category if it is not to be left open.
        seed
            Of the draws.

        Returns
        -------
        Prediction
            Prints; ``.table``, ``.attention``, ``.labels``, ``.survival_at(times)``.

        Raises
        ------
        InputError
            If the model has no such head, or donors are to be predicted and are not known.

        Examples
        --------
        >>> model.predict("response", indices=model.validation_indices).table  # doctest: +SKIP
        """
        if not isinstance(level, float | int) or not 0.0 < level < 1.0:
            raise InputError(f"level is a share between 0 and 1, not {level!r}: level=0.9")
        check_whole("n_samples", n_samples, 1, "n_samples=50")
        scores = self.predict_scores(
            outcome,
            mdata,
            indices,
            modalities=modalities,
            n_samples=n_samples,
            seed=seed,
            batch_size=batch_size,
        )
        reader = reader_of(self.module, self._data, outcome)
        calibration = None if modalities is not None else self._outcome_calibration(reader)
        return prediction_of(scores, reader.output, level, calibration)

    def predict_scores(
        self,
        outcome: str,
        mdata: MuData | None = None,
        indices: CellSelection = None,
        *,
        modalities: Iterable[str] | None = None,
        n_samples: int = N_SAMPLES,
        seed: int = 0,
        batch_size: int = ANSWER_BATCH_SIZE,
    ) -> OutcomeScores:
        """What a head says before it becomes a probability, with the labels that are known.

        For categories the scores are logits. Arguments as in `predict`; ``n_samples`` may be 0.

        Returns
        -------
        OutcomeScores
            At the mean of z and at draws of it, with labels and attention.

        Examples
        --------
        >>> model.predict_scores("response").at_mean  # doctest: +SKIP
        """
        self._ask(None, [], batch_size)
        check_whole("n_samples", n_samples, 0, "n_samples=50")
        check_whole("seed", seed, 0, "seed=0")
        reader = reader_of(self.module, self._data, outcome)
        data = self._data if mdata is None else self._others(mdata, reader.of_donors)
        cells = select_cells(data, indices)
        given = given_modalities(data, cells, modalities)
        return outcome_scores(self.module, data, cells, batch_size, reader, n_samples, given, seed)

    def explain(
        self,
        outcome: str,
        mdata: MuData | None = None,
        indices: CellSelection = None,
        *,
        category: str | None = None,
        n_steps: int = 32,
        seed: int = 0,
    ) -> Explanation:
        """What drove predictions: integrated gradients by feature and modality.

        Along the straight way from the mean input of the training cells to each cell (all cells of a donor at
        once) the gradient of the prediction is averaged; times the way it says what each feature added
        (Sundararajan et al. 2017). The prediction is that at the mean of z: the log odds of a category, a
        number, or a risk. Attributions add up to its difference from that of the typical cell. They say what
        the model used: they are no effects and no tests. Needs captum: ``pip install
        'multiomics-vae[explain]'``.

        Parameters
        ----------
        outcome
            Its name.
        mdata, indices
            As in `predict`.
        category
            Of an outcome with categories; None takes the last one (of a binary outcome the yes).
        n_steps
            Points along the way.
        seed
            Of the draw of at most 500 training cells, whose mean is the start.

        Returns
        -------
        Explanation
            Prints; ``.features``, ``.modalities``, ``.error``.

        Raises
        ------
        UnsupportedError
            If captum is not installed.
        InputError
            If there is no such outcome or category.

        Examples
        --------
        >>> model.explain("response", indices=model.validation_indices).features.head()  # doctest: +SKIP
        """
        self._ask(None, [], ANSWER_BATCH_SIZE)
        check_whole("n_steps", n_steps, 1, "n_steps=32")
        check_whole("seed", seed, 0, "seed=0")
        reader = reader_of(self.module, self._data, outcome)
        target = category_code(reader.output.outcome, category)
        data = self._data if mdata is None else self._others(mdata, reader.of_donors)
        cells = select_cells(data, indices)
        reference = (self._data, self._reference_cells)
        return explain(self.module, data, cells, reader, target, reference, n_steps, seed)

    # --- helpers ---------------------------------------------------------------------------------

    def _outcome_calibration(self, reader: OutcomeReader) -> OutcomeCalibration | None:
        """Learned from what training held out when it is first needed; None if that was nothing."""
        place = list(self.module.readers).index(reader)
        if place not in self._aids.outcomes:
            found = None
            # The heads of a query are its reference's: new cells say nothing of their probabilities.
            if len(self.validation_indices) and not is_query(self.module):
                found = held_out_calibration(self.module, self._data, self.validation_indices, reader)
            self._aids = self._aids.with_outcome(place, found)
        return self._aids.outcomes[place]

    def _all_aids(self) -> PredictionAids:
        """What is to be saved: also the calibration of every head."""
        for reader in self.module.readers:
            self._outcome_calibration(reader)
        return super()._all_aids()

    def _feature_tolerance(self) -> Tolerance | None:
        """How many features other cells may lack; None for none."""
        return None

    def _others(self, mdata: MuData, donor_needed: bool) -> MultimodalData:
        """Other cells, of batches that the model may not know."""
        schema = self._data.schema
        tolerance = self._feature_tolerance()
        data = read(mdata, schema, tolerance, average_new_batches=True, donor_needed=donor_needed)
        new = data.batch < 0
        if new.any() and schema.batch is not None:
            column = find_column(mdata, schema.batch.key, "batch_key").values
            names = column[new].astype(str).unique()
            warn(
                f"{int(new.sum())} of {data.n_cells} cells are of batches that the model does not know "
                f"({shown(names)}). They are encoded with the average of the batches that it knows; what is "
                "peculiar to theirs is taken for biology."
            )
        return data
