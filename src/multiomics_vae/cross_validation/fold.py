"""One fold: a model of the training donors, asked about those that were held out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from multiomics_vae.analysis.outcomes.baselines import linear_predictions
from multiomics_vae.analysis.outcomes.clinical import ClinicalDesign
from multiomics_vae.analysis.outcomes.folds import Fold, inner_split
from multiomics_vae.analysis.outcomes.measures import CLASS_KINDS
from multiomics_vae.cross_validation.donors import Donors
from multiomics_vae.cross_validation.settings import ModelSettings, TrainingSettings
from multiomics_vae.heads import Head
from multiomics_vae.model import MultiVAE

if TYPE_CHECKING:
    from multiomics_vae.analysis.outcomes.prediction import Prediction


@dataclass(frozen=True)
class Recipe:
    """How every fold is done.

    Parameters
    ----------
    head, model, training
        Of the model.
    calibration_share
        Of the training donors, held out from the training for temperature and conformal sets.
    level
        Promised coverage of the sets.
    seed
        Of all chance; repeats and folds go on from it.
    """

    head: Head
    model: ModelSettings
    training: TrainingSettings
    calibration_share: float
    level: float
    seed: int


@dataclass(frozen=True, eq=False)
class FoldPrediction:
    """What the held-out donors of a fold were predicted.

    Parameters
    ----------
    predicted
        As `analysis.outcomes.measures` has it, ``(n, …)``.
    sets
        Classes inside the conformal set of each, ``(n, K)``, or ends of its interval, ``(n, 2)``; None where
        nothing could be calibrated.
    temperature
        T; NaN where nothing was calibrated.
    n_calibration
        Donors that were held out for it.
    """

    predicted: np.ndarray
    sets: np.ndarray | None
    temperature: float
    n_calibration: int


def model_of_fold(
    donors: Donors, recipe: Recipe, fold: Fold, permutation: np.ndarray | None = None
) -> MultiVAE:
    """Train on the donors of the training side, of which some are held out for calibration.

    Parameters
    ----------
    donors, recipe, fold
        Who, how, which.
    permutation
        Whose outcome each donor gets, ``(D,)``; None for their own.
    """
    seed = recipe.seed + 1000 * fold.repeat + fold.number
    truth = donors.truth if permutation is None else donors.truth[permutation]
    known = donors.known if permutation is None else donors.known[permutation]
    inner = inner_split(donors.outcome.kind, truth, known, fold.training, recipe.calibration_share, seed)
    mdata = donors.labelled(fold.training, permutation)
    MultiVAE.setups.put(mdata, donors.options)
    model = recipe.model.make(mdata, {donors.outcome.name: recipe.head}, seed)
    names = set(donors.names[inner])
    whose = mdata.obs[donors.options.donor_key].astype(str).to_numpy()
    held_out = np.flatnonzero([name in names for name in whose])
    return recipe.training.apply(model, held_out, seed)


def predict_fold(
    donors: Donors, recipe: Recipe, fold: Fold, permutation: np.ndarray | None = None
) -> FoldPrediction:
    """Train, and predict the held-out donors, whose outcomes are not even in the MuData that is asked about.

    Parameters
    ----------
    donors, recipe, fold, permutation
        As in `model_of_fold`.
    """
    model = model_of_fold(donors, recipe, fold, permutation)
    asked = donors.unlabelled(fold.held_out)
    found = model.predict(donors.outcome.name, mdata=asked, level=recipe.level, seed=recipe.seed)
    whose = found.table.index
    if recipe.head.level == "cell":
        whose = asked.obs[donors.options.donor_key].loc[found.table.index]
    code = pd.Index(donors.names[fold.held_out]).get_indexer(pd.Index(whose.astype(str)))
    predicted = by_donor(predicted_array(donors, found), code, len(fold.held_out))
    one_row_each = len(code) == len(fold.held_out)
    calibration = found.calibration
    sets = set_array(donors, found) if one_row_each and calibration is not None else None
    return FoldPrediction(
        predicted,
        None if sets is None else sets[np.argsort(code)],
        float("nan") if calibration is None else calibration.temperature,
        0 if calibration is None else calibration.n_groups,
    )


def predicted_array(donors: Donors, found: Prediction) -> np.ndarray:
    """The table of a prediction as `measures` wants it; classes that training did not have get 0."""
    if donors.outcome.kind in CLASS_KINDS:
        columns = [f"p_{name}" for name in donors.outcome.categories]
        return found.table.reindex(columns=columns).fillna(0.0).to_numpy(np.float64)
    if donors.outcome.kind == "continuous":
        return found.table[["mean", "sd"]].to_numpy(np.float64)
    return found.table[["risk"]].to_numpy(np.float64)


def set_array(donors: Donors, found: Prediction) -> np.ndarray | None:
    """Conformal sets ``(n, K)`` or ends of intervals ``(n, 2)``; None of survival."""
    if donors.outcome.kind in CLASS_KINDS and found.sets is not None:
        inside = found.sets.reindex(columns=list(donors.outcome.categories)).fillna(False)
        return inside.to_numpy(bool)
    if donors.outcome.kind == "continuous":
        return found.table[["lower", "upper"]].to_numpy(np.float64)
    return None


def by_donor(rows: np.ndarray, code: np.ndarray, n_donors: int) -> np.ndarray:
    """Means over the cells of each donor, ``(n_cells, …)`` -> ``(n_donors, …)``; of one row itself."""
    sums = np.zeros((n_donors, rows.shape[1]))
    np.add.at(sums, code, rows)
    return np.asarray(sums / np.bincount(code, minlength=n_donors)[:, None])


def clinical_fold(donors: Donors, fold: Fold) -> np.ndarray:
    """The linear model of the clinical covariates, fitted on the same training donors."""
    training = fold.training[donors.known[fold.training]]
    design = ClinicalDesign.fit(donors.clinical.iloc[training])
    return linear_predictions(
        donors.outcome.kind,
        donors.truth[training],
        design.encode(donors.clinical.iloc[training]),
        design.encode(donors.clinical.iloc[fold.held_out]),
        donors.n_classes,
    )
