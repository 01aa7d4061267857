"""The outcome of a cross-validation: scores with intervals, beside a form and beside chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from multiomics_vae.analysis.outcomes.conformal import abstains
from multiomics_vae.analysis.outcomes.curves import (
    Band,
    RiskGroups,
    precision_recall_band,
    risk_groups,
    roc_band,
)
from multiomics_vae.analysis.outcomes.measures import CLASS_KINDS, measures_of
from multiomics_vae.analysis.outcomes.out_of_fold import (
    OutOfFold,
    by_fold,
    difference,
    permutation_p_value,
    scored,
)
from multiomics_vae.analysis.outcomes.reliability import (
    Reliability,
    reliability,
    top_label_reliability,
    wilson_interval,
)
from multiomics_vae.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RELIABILITY_BINS = 5
BOOTSTRAP_LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class Run:
    """What one way of predicting said of every donor with a known outcome.

    Parameters
    ----------
    name
        ``"model"``, ``"clinical"``, ``"permuted"``.
    results
        Out-of-fold predictions.
    sets
        Conformal sets ``(R, D, K)`` or ends of intervals ``(R, D, 2)``; None without.
    temperatures, n_calibration
        One a fold: T, and the donors it was learned from.
    """

    name: str
    results: OutOfFold
    sets: np.ndarray | None
    temperatures: np.ndarray
    n_calibration: np.ndarray


@dataclass(frozen=True, eq=False, repr=False)
class CrossValidation:
    """How well an outcome is predicted of donors that were not trained on.

    Parameters
    ----------
    outcome, kind, categories
        What was predicted.
    covariates
        What the clinical baseline read; empty where it is the average of the training donors.
    scores
        A row a run and measure: ``value`` (out-of-fold predictions of all donors together, averaged over
        repeats), ``low`` and ``high`` (95 %, donors drawn anew), ``n_donors``.
    differences
        ``value`` of the model minus that of each other run of the same repeats and donors, with ``low`` and
        ``high`` on the same drawn donors. ``better`` is True if the interval lies on the better side of 0.
    folds
        A row a run, measure, ``repeat`` and ``fold``: ``value``, ``n_donors``.
    predictions
        A row a run, repeat and donor: fold, truth, prediction, and set where there is one.
    p_values
        By measure: permutation test of the model's predictions (`out_of_fold.permutation_p_value`).
    coverage
        Of the conformal sets: ``level`` (promised), ``covered``, ``low`` and ``high`` (Wilson, over donors),
        ``abstained``, ``n_donors``, ``calibration_donors`` (fewest a fold); empty where there are none.
    runs
        The arrays behind it all.

    Examples
    --------
    >>> result = cross_validate(mdata, "response")            # doctest: +SKIP
    >>> print(result); result.to_frame(); result.plot()        # doctest: +SKIP
    """

    outcome: str
    kind: str
    categories: tuple[str, ...]
    covariates: tuple[str, ...]
    scores: pd.DataFrame
    differences: pd.DataFrame
    folds: pd.DataFrame
    predictions: pd.DataFrame
    p_values: dict[str, float]
    coverage: pd.DataFrame
    runs: tuple[Run, ...]

    def run(self, name: str = "model") -> Run:
        """The arrays of one run.

        Raises
        ------
        KeyError
            If there is none of this name.
        """
        return {run.name: run for run in self.runs}[name]

    def reliability(self) -> dict[str, Reliability]:
        """By run of all repeats: whether what was said came true as often; of more classes the best guess."""
        curves = {}
        for run in self._comparable():
            truth = np.concatenate([run.results.truth] * len(run.results.predicted)).astype(np.int64)
            p = np.concatenate(list(run.results.predicted))
            if p.shape[1] == 2:
                curves[run.name] = reliability(truth == 1, p[:, 1], n_bins=RELIABILITY_BINS)
            else:
                curves[run.name] = top_label_reliability(truth, p, n_bins=RELIABILITY_BINS)
        return curves

    def roc_bands(self, seed: int = 0) -> dict[str, Band]:
        """ROC curves with bands over donors: by run, or of more than two classes by class of the model."""
        return self._bands(roc_band, seed)

    def precision_recall_bands(self, seed: int = 0) -> dict[str, Band]:
        """Curves of precision and recall, as in `roc_bands`."""
        return self._bands(precision_recall_band, seed)

    def risk_groups(self, n_groups: int = 2) -> RiskGroups:
        """Survival of the donors, parted by the model's out-of-fold risks."""
        return risk_groups(self.run().results, n_groups)

    def _comparable(self) -> list[Run]:
        self._check_classes()
        return [run for run in self.runs if not run.name.startswith("permuted")]

    def _bands(self, band: Callable[..., Band], seed: int) -> dict[str, Band]:
        self._check_classes()
        generator = np.random.default_rng([seed, 3])
        if len(self.categories) == 2:
            return {run.name: band(run.results, 1, generator) for run in self._comparable()}
        model = self.run().results
        return {name: band(model, code, generator) for code, name in enumerate(self.categories)}

    def _check_classes(self) -> None:
        if self.kind not in CLASS_KINDS:
            raise InputError(
                f"{self.outcome!r} is a {self.kind} outcome and has no probabilities of classes. Its scores "
                "are in .scores"
            )

    def to_frame(self) -> pd.DataFrame:
        """All figures, one a row.

        Returns
        -------
        DataFrame
            ``run``, ``measure``, ``what`` (``"score"``, ``"model minus <run>"``, ``"fold"``, ``"p_value"``),
            ``repeat``, ``fold``, ``value``, ``low``, ``high``, ``n_donors``.
        """
        gaps = self.differences.assign(run="model", what="model minus " + self.differences["against"])
        p_values = pd.DataFrame(
            [("model", measure, "p_value", value) for measure, value in self.p_values.items()],
            columns=["run", "measure", "what", "value"],
        )
        parts = [self.scores.assign(what="score"), gaps, self.folds.assign(what="fold"), p_values]
        columns = ["run", "measure", "what", "repeat", "fold", "value", "low", "high", "n_donors"]
        whole = pd.concat([part.reindex(columns=columns).astype({"value": float}) for part in parts])
        return whole.reset_index(drop=True)

    def plot(self, *, show: bool | None = None) -> list[Axes]:
        """One figure; `plotting.cross_validation` of this result."""
        from multiomics_vae.plotting.outcomes import cross_validation

        return cross_validation(self, show=show)

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        model = self.run().results
        n_repeats, n_folds = len(model.fold), len(np.unique(model.fold))
        form = ", ".join(self.covariates) or "none, so the training donors' average"
        lines = [
            f"{self.outcome!r} ({self.kind}) of {model.n_donors} donors, {n_repeats} × {n_folds} folds",
            f"clinical covariates: {form}",
            "",
            "Out-of-fold scores [95 % over donors, the models as trained]",
            _text(self.scores),
        ]
        if len(self.differences):
            lines += ["", "Model minus others, on the same drawn donors", _text(self.differences)]
        p = ", ".join(f"{measure} {value:.3g}" for measure, value in self.p_values.items())
        lines += ["", f"Permutation of outcomes against these predictions, p: {p}"]
        if len(self.coverage):
            row = self.coverage.iloc[0]
            lines.append(
                f"Conformal sets promised for {row['level']:.0%}: hold the truth of {row['covered']:.0%} "
                f"[{row['low']:.0%}, {row['high']:.0%}], leave {row['abstained']:.0%} open; calibrated on "
                f"{row['calibration_donors']:.0f} donors a fold or more"
            )
        else:
            most = int(self.run().n_calibration.max(initial=0))
            if self.kind != "survival":
                lines.append(
                    f"No conformal sets: {most} donors a fold were held out for them, which is too few."
                )
        return "\n".join(lines)


def judge(
    outcome: str,
    categories: tuple[str, ...],
    donors: np.ndarray,
    runs: list[Run],
    covariates: tuple[str, ...],
    level: float,
    n_draws: int,
    seed: int,
) -> CrossValidation:
    """Score runs and compare the first, the model's, with the others.

    Parameters
    ----------
    outcome, categories, covariates
        What was predicted, and what the baseline read.
    donors
        Names of those with a known outcome, ``(D,)``.
    runs
        The model's first. Those of fewer repeats are scored and not compared with.
    level
        Promised by the sets.
    n_draws, seed
        Of bootstrap and permutation.
    """
    kind = runs[0].results.kind
    measures = measures_of(kind)
    generator = np.random.default_rng([seed, 2])
    scores, differences, folds = [], [], []
    for run in runs:
        for measure in measures:
            found = scored(measure, run.results, generator, BOOTSTRAP_LEVEL, n_draws)
            scores.append((run.name, measure.name, found.value, found.low, found.high, found.n))
            folds += [(run.name, measure.name, r, f, v, n) for r, f, n, v in by_fold(measure, run.results)]
    for run in runs[1:]:
        if run.results.predicted.shape[:2] != runs[0].results.predicted.shape[:2] or run.name != "clinical":
            continue
        for measure in measures:
            gap = difference(measure, runs[0].results, run.results, generator, BOOTSTRAP_LEVEL, n_draws)
            better = gap.low > 0 if measure.higher_is_better else gap.high < 0
            differences.append((measure.name, run.name, gap.value, gap.low, gap.high, gap.n, better))
    ends = ["value", "low", "high", "n_donors"]
    return CrossValidation(
        outcome=outcome,
        kind=kind,
        categories=categories,
        covariates=covariates,
        scores=pd.DataFrame(scores, columns=["run", "measure", *ends]),
        differences=pd.DataFrame(differences, columns=["measure", "against", *ends, "better"]),
        folds=pd.DataFrame(folds, columns=["run", "measure", "repeat", "fold", "value", "n_donors"]),
        predictions=pd.concat([_table(run, donors, categories) for run in runs], ignore_index=True),
        p_values={m.name: permutation_p_value(m, runs[0].results, generator, n_draws) for m in measures},
        coverage=set_coverage(runs[0], level),
        runs=tuple(runs),
    )


def set_coverage(run: Run, level: float) -> pd.DataFrame:
    """How often a run's sets hold the truth, and how often they are no single answer; empty without sets."""
    columns = ["level", "covered", "low", "high", "abstained", "n_donors", "calibration_donors"]
    if run.sets is None:
        return pd.DataFrame(columns=columns)
    truth, n = run.results.truth, run.results.n_donors
    if run.results.kind in CLASS_KINDS:
        inside = np.take_along_axis(run.sets, truth.astype(np.int64)[None, :, None], 2)[..., 0]  # (R, D)
        open_ = np.stack([abstains(sets) for sets in run.sets])
    else:
        inside = (run.sets[..., 0] <= truth) & (truth <= run.sets[..., 1])
        open_ = ~np.isfinite(run.sets).all(-1)
    # Repeats ask the same donors again, so the interval is that of one repeat.
    low, high = wilson_interval(float(inside.mean() * n), n, BOOTSTRAP_LEVEL)
    row = (level, inside.mean(), low, high, open_.mean(), n, run.n_calibration.min())
    return pd.DataFrame([row], columns=columns)


def _table(run: Run, donors: np.ndarray, categories: tuple[str, ...]) -> pd.DataFrame:
    """A row a repeat and donor."""
    results = run.results
    parts = []
    for repeat in range(len(results.predicted)):
        predicted = results.predicted[repeat]
        table = pd.DataFrame(
            {"run": run.name, "repeat": repeat, "fold": results.fold[repeat], "donor": donors}
        )
        if results.kind in CLASS_KINDS:
            names = np.asarray(categories, dtype=object)
            table["truth"] = names[results.truth.astype(np.int64)]
            table["prediction"] = names[predicted.argmax(1)]
            table[[f"p_{name}" for name in categories]] = predicted
            if run.sets is not None:
                table["set"] = [" | ".join(names[inside]) for inside in run.sets[repeat]]
                table["abstain"] = abstains(run.sets[repeat])
        elif results.kind == "continuous":
            table["truth"] = results.truth
            table[["mean", "sd"]] = predicted
            if run.sets is not None:
                table[["lower", "upper"]] = run.sets[repeat]
        else:
            table[["time", "event"]] = results.truth
            table["risk"] = predicted[:, 0]
        parts.append(table)
    return pd.concat(parts, ignore_index=True)


def _text(table: pd.DataFrame) -> str:
    return table.to_string(index=False, float_format="{:.3f}".format, na_rep="")
