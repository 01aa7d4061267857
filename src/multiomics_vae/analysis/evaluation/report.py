"""The outcome of an evaluation: tables of figures and judgements, that print, plot and become one table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd

from multiomics_vae.analysis.evaluation.question import ALL, NOTHING
from multiomics_vae.analysis.evaluation.units import active_units
from multiomics_vae.analysis.evaluation.verdicts import Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False, repr=False)
class EvaluationReport:
    """How good a model is on some cells.

    Parameters
    ----------
    n_cells, n_importance_cells
        Cells evaluated, and those of them that the importance weights were drawn for.
    elbo
        Mean over cells and standard error, nats.
    log_likelihood
        `held_out.HeldOut.table`: expected log likelihood by ``modality`` and ``given``.
    bounds, weight_variances
        `importance.ImportanceTables`.
    unit_activity
        Variance over cells of the posterior means: dimensions by evidence.
    entropy
        `entropy.Entropies.table`: mean entropy of q(z | x_A) by A.
    agreement
        `agreement.agreement_table`: FOSCTTM and Procrustes disparity by pair of modalities.
    coverage
        `coverage.imputation_coverage`: share of held-out values inside intervals, by ``modality``,
        ``given`` and ``level``.
    feature_scores
        `feature_scores.feature_scores`: imputation by ``modality``, ``given`` and ``score``.
    verdicts
        What is well and what is not.
    reference
        `posterior_reference.PosteriorReference.to_frame`: q beside draws from the exact posterior, a row a
        cell; empty unless asked for.

    Examples
    --------
    >>> report = model.evaluate(test_indices)          # doctest: +SKIP
    >>> print(report); report.to_frame(); report.plot()  # doctest: +SKIP
    """

    n_cells: int
    n_importance_cells: int
    elbo: tuple[float, float]
    log_likelihood: pd.DataFrame
    bounds: pd.DataFrame
    weight_variances: pd.DataFrame
    unit_activity: pd.DataFrame
    entropy: pd.DataFrame
    agreement: pd.DataFrame
    coverage: pd.DataFrame
    feature_scores: pd.DataFrame
    verdicts: tuple[Verdict, ...]
    reference: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def active_units(self) -> dict[str, int]:
        """Number of active latent dimensions (variance of the posterior mean above .01), by evidence."""
        return active_units(self.unit_activity)

    @property
    def is_well(self) -> bool:
        """True if no verdict asks for something to be done."""
        return all(verdict.is_well for verdict in self.verdicts)

    def to_frame(self) -> pd.DataFrame:
        """All figures, one a row.

        Returns
        -------
        DataFrame
            ``measure``, ``modality`` (what is judged), ``given`` (what z was inferred from), ``detail``,
            ``value``, ``standard_error`` (NaN where there is none), ``n_cells``.
        """
        likelihood = self.log_likelihood.rename(columns={"mean": "value"}).assign(
            measure="log_likelihood", detail=""
        )
        gains = self.log_likelihood.drop(columns="standard_error").rename(
            columns={"gain": "value", "gain_error": "standard_error"}
        )
        gains = gains[gains["given"] != NOTHING].assign(measure="log_likelihood_gain", detail="")
        bounds = self.bounds.rename(columns={"mean": "value", "of": "modality"}).assign(
            measure="importance_weighted_bound", detail="S=" + self.bounds["n_draws"].astype(str)
        )
        variances = self.weight_variances.rename(
            columns={"variance": "value", "of": "modality", "kind": "detail"}
        ).assign(measure="variance_of_log_weights")
        entropy = self.entropy.rename(columns={"entropy": "value"}).assign(
            measure="entropy", modality="", detail=""
        )
        units = pd.DataFrame(
            [("active_units", given, n, self.n_cells) for given, n in self.active_units.items()],
            columns=["measure", "given", "value", "n_cells"],
        )
        pairs = self.agreement.rename(columns={"first": "modality", "second": "given"}).melt(
            ["modality", "given", "n_cells"], ["foscttm", "procrustes"], "measure"
        )
        scores = self.feature_scores.melt(
            ["modality", "given", "score", "n_cells"], ["overall", "within_type"], "detail"
        ).rename(columns={"score": "measure"})
        level = self.coverage["level"].map("{:.0%}".format)
        coverage = self.coverage.rename(columns={"coverage": "value"}).assign(
            measure="interval_coverage", detail=level
        )
        recalibrated = self.coverage[["modality", "given", "n_cells"]].assign(
            measure="recalibrated_coverage", detail=level, value=self.coverage["calibrated"]
        )
        recalibrated = recalibrated.dropna(subset="value")
        elbo = pd.DataFrame([("elbo", ALL, ALL, *self.elbo, self.n_cells)])
        elbo.columns = ["measure", "modality", "given", "value", "standard_error", "n_cells"]
        parts = [
            elbo,
            likelihood,
            gains,
            bounds,
            variances,
            units,
            entropy,
            pairs,
            coverage,
            recalibrated,
            scores,
        ]
        if len(self.reference):
            parts.append(
                self.reference.mean()
                .rename_axis("detail")
                .rename("value")
                .reset_index()
                .assign(measure="nuts", given=ALL, n_cells=len(self.reference))
            )
        columns = ["measure", "modality", "given", "detail", "value", "standard_error", "n_cells"]
        whole = pd.concat(
            [
                part.reindex(columns=columns).astype({"value": float, "standard_error": float})
                for part in parts
            ],
            ignore_index=True,
        )
        return whole.fillna({"modality": "", "given": "", "detail": ""})

    def plot(self, *, show: bool | None = None) -> list[Axes]:
        """One figure; `plotting.evaluation` of this report."""
        from multiomics_vae.plotting.evaluation import evaluation

        return evaluation(self, show=show)

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        widest = int(self.bounds["n_draws"].max()) if len(self.bounds) else 0
        units = ", ".join(f"{n} from {given}" for given, n in self.active_units.items())
        likelihood = self.log_likelihood[self.log_likelihood["given"] != NOTHING]
        bounds = self.bounds.pivot(index=["of", "given", "n_cells"], columns="n_draws", values="mean")
        bounds.columns = [f"S={size}" for size in bounds.columns]
        coverage = self.coverage.pivot(index=["modality", "given"], columns="level", values="coverage")
        again = self.coverage.pivot(index=["modality", "given"], columns="level", values="calibrated")
        coverage.columns = [f"{level:.0%}" for level in coverage.columns]
        again.columns = [f"recalibrated {level}" for level in coverage.columns]
        coverage = coverage.join(again.dropna(axis=1, how="all"))
        parts = [
            f"Evaluation of {self.n_cells} cells",
            "\n".join(str(verdict) for verdict in self.verdicts),
            f"ELBO {self.elbo[0]:.2f} ± {self.elbo[1]:.2f} nats a cell; active latent dimensions: {units}",
            _titled(
                "Expected log likelihood, nats a cell, and its gain over z ~ N(0, I) on the same cells",
                likelihood,
                1,
            ),
            _titled(
                "Importance-weighted bounds on log p by the number of draws, nats a cell",
                bounds.reset_index(),
                1,
            ),
            _titled(f"Variance of the log importance weights ({widest} draws)", self.weight_variances, 2),
            _titled("Mean entropy of q(z | x_A), nats", self.entropy.drop(columns="n_modalities"), 2),
            _titled("Agreement of single-modality embeddings", self.agreement, 3),
            _titled(
                "Held-out values inside intervals of imputed values, by nominal level",
                coverage.reset_index(),
                3,
            ),
            _titled("Imputation, means over features", self.feature_scores, 3),
            _titled("Posterior beside NUTS, a row a cell", self.reference, 2),
        ]
        return "\n\n".join(part for part in parts if part)


def _titled(title: str, table: pd.DataFrame, digits: int) -> str:
    """A table as text; nothing of an empty one."""
    if table.empty:
        return ""
    shown = table.dropna(axis=1, how="all")
    text = shown.to_string(index=False, float_format=f"{{:.{digits}f}}".format, na_rep="")
    return f"{title}\n{text}"
