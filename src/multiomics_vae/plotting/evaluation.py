"""An evaluation as one figure: what it found, a panel each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd

from multiomics_vae.plotting.style import MISSING, colours, finish

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ACTIVE_ABOVE = 0.01
MOST_LABELS = 16
CHANCE = "auprc_of_chance"
BARS = {"overall": -0.2, "within_type": 0.2}


class Evaluated(Protocol):
    """What is drawn of a report: the tables of ``model.evaluate()``."""

    @property
    def log_likelihood(self) -> pd.DataFrame: ...
    @property
    def bounds(self) -> pd.DataFrame: ...
    @property
    def weight_variances(self) -> pd.DataFrame: ...
    @property
    def unit_activity(self) -> pd.DataFrame: ...
    @property
    def entropy(self) -> pd.DataFrame: ...
    @property
    def feature_scores(self) -> pd.DataFrame: ...


def evaluation(report: Evaluated, *, show: bool | None = None) -> list[Axes]:
    """Six panels: likelihoods, bounds, importance weights, active dimensions, entropy, imputation.

    Parameters
    ----------
    report
        ``model.evaluate()``.
    show
        Whether to show the figure.

    Returns
    -------
    list of Axes

    Examples
    --------
    >>> mv.plotting.evaluation(model.evaluate(test_indices))  # doctest: +SKIP
    """
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(13.0, 7.4), layout="constrained")
    axes = list(figure.subplots(2, 3).ravel())
    _likelihoods(axes[0], report.log_likelihood)
    _bounds(axes[1], report.bounds)
    _weights(axes[2], report.weight_variances)
    _units(axes[3], report.unit_activity)
    _entropy(axes[4], report.entropy)
    _scores(axes[5], report.feature_scores)
    finish(axes, show)
    return axes


def _likelihoods(ax: Axes, table: pd.DataFrame) -> None:
    """What z is worth to each modality, by where it comes from: nats above knowing nothing."""
    gains = table.pivot(index="modality", columns="given", values="gain")
    errors = table.pivot(index="modality", columns="given", values="gain_error")
    modalities = list(dict.fromkeys(table["modality"]))
    evidence = [given for given in dict.fromkeys(table["given"]) if given != "nothing"]
    width = 0.8 / len(evidence)
    place = np.arange(len(modalities))
    for i, (given, colour) in enumerate(zip(evidence, _evidence_colours(evidence), strict=True)):
        ax.bar(
            place + (i - (len(evidence) - 1) / 2) * width,
            gains[given][modalities],
            width,
            yerr=errors[given][modalities],
            color=colour,
            label=f"from {given}",
        )
    ax.set_xticks(place, modalities)
    ax.axhline(0.0, color="black", linewidth=0.8)
    ax.set(title="Log likelihood above z ~ N(0, I)", ylabel="nats a cell")
    ax.legend(frameon=False, fontsize="small")


def _bounds(ax: Axes, table: pd.DataFrame) -> None:
    """What more draws add to each bound."""
    for (of, given), rows in table.groupby(["of", "given"], sort=False):
        rows = rows.sort_values("n_draws")
        label = f"p({'x' if of == 'all' else of}) by q(z | {'x' if given == 'all' else given})"
        ax.plot(rows["n_draws"], rows["mean"] - rows["mean"].iloc[0], marker="o", label=label)
    ax.set_xscale("log")
    ax.set(title="Importance-weighted bounds above S = 1", xlabel="draws S", ylabel="nats a cell")
    low, high = ax.get_ylim()
    ax.set_ylim(low, high + 0.6 * (high - low))  # room for the legend above the curves, all of which rise
    ax.legend(frameon=False, fontsize="small", loc="upper left")


def _weights(ax: Axes, table: pd.DataFrame) -> None:
    """How unequal the importance weights are."""
    names = []
    for kind, of, given in zip(table["kind"], table["of"], table["given"], strict=True):
        what = {"joint": "log p(x)", "marginal": f"log p({of})"}.get(kind, f"log p({of} | {given})")
        names.append(f"{what}\nz from {given}")
    kinds = list(dict.fromkeys(table["kind"]))
    palette = dict(zip(kinds, colours(len(kinds)), strict=True))
    ax.barh(
        names,
        table["variance"],
        xerr=table["standard_error"],
        color=[palette[kind] for kind in table["kind"]],
    )
    ax.invert_yaxis()
    ax.set(title="Variance of log importance weights", xlabel="nats²")


def _units(ax: Axes, table: pd.DataFrame) -> None:
    """Variance of the posterior mean, sorted, for each evidence."""
    for given, colour in zip(table.columns, _evidence_colours(list(table.columns)), strict=True):
        sorted_values = np.sort(table[given].to_numpy())[::-1]
        n_active = int((sorted_values > ACTIVE_ABOVE).sum())
        label = f"from {given}: {n_active} active"
        ax.plot(np.arange(1, len(sorted_values) + 1), sorted_values, ".-", color=colour, label=label)
    ax.axhline(ACTIVE_ABOVE, color="black", linestyle=":", linewidth=0.8)
    if (table.to_numpy() > 0).any():
        ax.set_yscale("log")
    ax.set(title="Latent dimensions", xlabel="dimension, sorted", ylabel="variance of the posterior mean")
    ax.legend(frameon=False, fontsize="small")


def _entropy(ax: Axes, table: pd.DataFrame) -> None:
    """Entropy by the number of modalities seen."""
    ax.errorbar(
        table["n_modalities"], table["entropy"], yerr=table["standard_error"], fmt="o", color=colours(1)[0]
    )
    for row in table.to_dict("records") if len(table) <= MOST_LABELS else ():
        ax.annotate(
            row["given"],
            (row["n_modalities"], row["entropy"]),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize="small",
        )
    best = table.groupby("n_modalities")["entropy"].mean()
    ax.plot(best.index, best, color=MISSING, zorder=0)
    ax.set_xticks(sorted(set(table["n_modalities"])))
    ax.margins(x=0.25)
    ax.set(title="Uncertainty of z", xlabel="modalities seen", ylabel="entropy of q(z | x_A), nats")


def _scores(ax: Axes, table: pd.DataFrame) -> None:
    """Imputation, overall and within types, and what chance scores."""
    is_chance = table["score"] == CHANCE
    shown, chance = table[~is_chance], table[is_chance].set_index(["modality", "given"])
    place = np.arange(len(shown))
    # Without labels there is nothing within types.
    bars = {column: shift for column, shift in BARS.items() if shown[column].notna().any()}
    names = []
    for at, row in zip(place, shown.to_dict("records"), strict=True):
        score, pair = row["score"], (row["modality"], row["given"])
        names.append(f"{pair[0]} from {pair[1]}\n{score.upper() if score.startswith('au') else score}")
        for column, shift in bars.items():
            level = chance[column].get(pair, np.nan) if score == "auprc" else float(score == "auroc") / 2
            ax.plot(2 * [level], [at + shift - 0.2, at + shift + 0.2], color="black", zorder=3)
    for (column, shift), colour in zip(bars.items(), colours(2), strict=False):
        ax.barh(place + shift, shown[column], 0.4, color=colour, label=column.replace("_", " "))
    ax.set_yticks(place, names)
    ax.invert_yaxis()
    ax.set(title="Imputation (black: chance)", xlabel="mean over features")
    if bars:
        ax.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)


def _evidence_colours(evidence: list[str]) -> list[str]:
    """The same colour for the same evidence in every panel; grey for all."""
    palette = iter(colours(len(evidence)))
    return ["#555555" if given == "all" else next(palette) for given in evidence]
