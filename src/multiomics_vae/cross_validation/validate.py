"""`cross_validate`: how well an outcome is predicted of donors that training has not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from multiomics_vae.analysis.outcomes.folds import Fold, donor_folds
from multiomics_vae.analysis.outcomes.out_of_fold import OutOfFold
from multiomics_vae.analysis.outcomes.validated import CrossValidation, Run, judge
from multiomics_vae.cross_validation.donors import Donors, read_donors
from multiomics_vae.cross_validation.fold import FoldPrediction, Recipe, clinical_fold, predict_fold
from multiomics_vae.cross_validation.settings import ModelSettings, TrainingSettings
from multiomics_vae.data.options import SetupOptions
from multiomics_vae.errors import InputError
from multiomics_vae.heads import Head
from multiomics_vae.model import MultiVAE
from multiomics_vae.training.config import check_whole

if TYPE_CHECKING:
    from mudata import MuData

CLINICAL, MODEL, PERMUTED = "clinical", "model", "permuted"


def cross_validate(
    mdata: MuData,
    outcome: str,
    groups: str | None = None,
    *,
    covariates: Sequence[str] = (),
    head: Head | None = None,
    model: ModelSettings | None = None,
    training: TrainingSettings | None = None,
    n_folds: int = 5,
    n_repeats: int = 1,
    calibration_share: float = 0.2,
    level: float = 0.9,
    n_permuted: int = 1,
    n_draws: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> CrossValidation:
    """Train a model a fold on some donors, judge it on the others, beside a form and beside chance.

    Folds are of donors and balanced in the outcome; a donor is never on both sides. Everything is fitted
    anew in every fold on the training donors alone: features' statistics, projections, weights, and on some
    of them held out once more temperature and conformal sets. The MuData that a fold's model is asked about
    holds no column of any outcome. The same donors are predicted by a linear model of ``covariates``
    (without any, by the training donors' average), and by models trained on outcomes dealt anew to donors,
    which must come out at chance.

    Parameters
    ----------
    mdata
        Set up by `MultiVAE.setup_mudata` with ``outcomes``. Never changed.
    outcome
        Name of an outcome that is the same in all cells of a donor.
    groups
        Column of obs with the donor; None takes the ``donor_key`` of the set-up.
    covariates
        Columns of obs that a clinic knows without omics: numbers, or levels as text.
    head
        Of the outcome; None is ``Head(level="donor")``.
    model, training
        How every fold's model is made and trained.
    n_folds
        As many as donors leaves out one at a time. Risks of survival are compared within folds only.
    n_repeats
        Times that donors are dealt anew; predictions are averaged as scores, not as predictions.
    calibration_share
        Share of the training donors held out for temperature and sets; 0 holds out none, and every donor is
        trained on.
    level
        Promised coverage of the sets, and nominal coverage of the intervals' bootstrap is .95.
    n_permuted
        Runs of all folds of the first repeat with outcomes dealt anew; 0 for none. Each costs as much
        training as a repeat.
    n_draws
        Of donors for the intervals, and of permutations for the p-value.
    seed
        Of everything; the same seed gives the same numbers on the same machine.
    progress
        Print a line a fold.

    Returns
    -------
    CrossValidation
        Prints; ``.scores``, ``.differences``, ``.folds``, ``.predictions``, ``.to_frame()``, ``.plot()``.

    Raises
    ------
    InputError
        If there are no donors or no such outcome, donors contradict themselves, or folds cannot be made.

    Examples
    --------
    >>> MultiVAE.setup_mudata(mdata, donor_key="donor", outcomes={"response": "binary"})  # doctest: +SKIP
    >>> print(cross_validate(mdata, "response", covariates=["age", "stage"]))             # doctest: +SKIP
    """
    for name, value, lowest in (
        ("n_folds", n_folds, 2),
        ("n_repeats", n_repeats, 1),
        ("n_permuted", n_permuted, 0),
        ("n_draws", n_draws, 1),
        ("seed", seed, 0),
    ):
        check_whole(name, value, lowest, f"cross_validate(mdata, {outcome!r}, {name}={max(lowest, 5)})")
    for name, share in (("calibration_share", calibration_share), ("level", level)):
        if not 0.0 <= share < 1.0:
            raise InputError(f"{name} is a share from 0 to below 1, not {share!r}: {name}=0.2")
    if isinstance(covariates, str):
        raise InputError(f"covariates is a list of columns, not {covariates!r}: covariates=[{covariates!r}]")
    settings = model or ModelSettings()
    donors = read_donors(mdata, _options(mdata, outcome, groups), outcome, covariates, settings.columns)
    recipe = Recipe(
        head or Head(level="donor"),
        settings,
        training or TrainingSettings(),
        calibration_share,
        level,
        seed,
    )
    folds = donor_folds(donors.outcome.kind, donors.truth, donors.known, n_folds, n_repeats, seed)
    tell = print if progress else _silent
    runs = [
        _run(MODEL, donors, folds, lambda fold: predict_fold(donors, recipe, fold), tell),
        _run(CLINICAL, donors, folds, lambda fold: _plain(clinical_fold(donors, fold)), _silent),
    ]
    first = [fold for fold in folds if fold.repeat == 0]
    for number in range(n_permuted):
        permutation = permuted_outcomes(donors.known, np.random.default_rng([seed, 1, number]))
        shuffled = replace(donors, truth=donors.truth[permutation])
        name = PERMUTED if n_permuted == 1 else f"{PERMUTED} {number + 1}"

        def one(fold: Fold, permutation: np.ndarray = permutation) -> FoldPrediction:
            return predict_fold(donors, recipe, fold, permutation)

        runs.append(_run(name, shuffled, first, one, tell))
    classes = donors.outcome.categories
    return judge(
        donors.outcome.name,
        classes,
        donors.names[donors.known],
        runs,
        tuple(covariates),
        level,
        n_draws,
        seed,
    )


def permuted_outcomes(known: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Whose outcome each donor gets, ``(D,)``: those with one are shuffled, those without stay without."""
    permutation = np.arange(len(known))
    permutation[known] = generator.permutation(np.flatnonzero(known))
    return permutation


def _options(mdata: MuData, outcome: str, groups: str | None) -> SetupOptions:
    options = MultiVAE.setups.get(mdata)
    if options is None:
        raise InputError(
            "This MuData was not set up, so it is not known what is to be predicted: MultiVAE.setup_mudata("
            f'mdata, donor_key={groups or "donor"!r}, outcomes={{{outcome!r}: "binary"}})'
        )
    if groups is not None:
        options = replace(options, donor_key=groups)
    if options.donor_key is None:
        raise InputError(
            "Folds are of donors, and no column tells whose the cells are: "
            f'cross_validate(mdata, {outcome!r}, groups="donor")'
        )
    return options


def _run(
    name: str,
    donors: Donors,
    folds: list[Fold],
    predict: Callable[[Fold], FoldPrediction],
    tell: Callable[[str], None],
) -> Run:
    """All folds of all repeats, collected by donor."""
    labelled = np.flatnonzero(donors.known)
    n_repeats = 1 + max(fold.repeat for fold in folds)
    number = np.empty((n_repeats, len(labelled)), dtype=np.int64)
    found: list[tuple[Fold, np.ndarray, FoldPrediction]] = []
    for done, fold in enumerate(folds):
        place = np.searchsorted(labelled, fold.held_out)
        number[fold.repeat, place] = fold.number
        found.append((fold, place, predict(fold)))
        tell(f"{name}: {done + 1} of {len(folds)} folds")
    width = found[0][2].predicted.shape[1]
    predicted = np.empty((n_repeats, len(labelled), width))
    for fold, place, each in found:
        predicted[fold.repeat, place] = each.predicted
    sets = None
    if all(each.sets is not None for _, _, each in found):
        first = found[0][2].sets
        assert first is not None
        sets = np.empty((n_repeats, len(labelled), first.shape[1]), dtype=first.dtype)
        for fold, place, each in found:
            sets[fold.repeat, place] = each.sets
    results = OutOfFold(donors.outcome.kind, donors.truth[labelled], predicted, number)
    return Run(
        name,
        results,
        sets,
        np.array([each.temperature for _, _, each in found]),
        np.array([each.n_calibration for _, _, each in found]),
    )


def _plain(predicted: np.ndarray) -> FoldPrediction:
    return FoldPrediction(predicted, None, float("nan"), 0)


def _silent(_: str) -> None:
    """Say nothing."""
