"""A cross-validation as one figure: scores beside baselines, and the curves of its kind of outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd

from multiomics_vae.plotting.outcomes_curves import (
    GREY,
    Curve,
    Reliable,
    precision_recall,
    reliability,
    roc,
)
from multiomics_vae.plotting.outcomes_survival import Groups, kaplan_meier
from multiomics_vae.plotting.style import colours, finish

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_DONORS_NAMED = 40
CHANCE = {"auroc": 0.5, "macro_auroc": 0.5, "c_index": 0.5, "spearman": 0.0}


class Validated(Protocol):
    """What is drawn of a ``cross_validate(...)``."""

    @property
    def kind(self) -> str: ...
    @property
    def categories(self) -> tuple[str, ...]: ...
    @property
    def scores(self) -> pd.DataFrame: ...
    @property
    def folds(self) -> pd.DataFrame: ...
    @property
    def predictions(self) -> pd.DataFrame: ...
    def reliability(self) -> Mapping[str, Reliable]: ...
    def roc_bands(self) -> Mapping[str, Curve]: ...
    def precision_recall_bands(self) -> Mapping[str, Curve]: ...
    def risk_groups(self, n_groups: int = 2) -> Groups: ...


def cross_validation(result: Validated, *, show: bool | None = None) -> list[Axes]:
    """Scores with intervals, and what belongs to the kind of outcome.

    Binary: ROC, precision and recall, reliability. Categorical and ordinal: ROC of every class, reliability
    of the best guess, probabilities by donor. Continuous: predicted against true. Survival: Kaplan-Meier by
    predicted risk.

    Parameters
    ----------
    result
        ``cross_validate(...)``.
    show
        Whether to show the figure.

    Returns
    -------
    list of Axes

    Examples
    --------
    >>> mv.plotting.cross_validation(result)  # doctest: +SKIP
    """
    import matplotlib.pyplot as plt

    n_panels = {"binary": 4, "categorical": 4, "ordinal": 4}.get(result.kind, 2)
    figure = plt.figure(figsize=(4.2 * n_panels, 3.8), layout="constrained")
    axes = list(figure.subplots(1, n_panels, squeeze=False)[0])
    scores(result, ax=axes[0])
    if result.kind == "survival":
        kaplan_meier(result.risk_groups(), ax=axes[1])
    elif result.kind == "continuous":
        predicted_numbers(result.predictions, ax=axes[1])
    elif result.kind == "binary":
        truth = result.predictions.query("run == 'model' and repeat == 0")["truth"]
        roc(result.roc_bands(), ax=axes[1])
        precision_recall(
            result.precision_recall_bands(), share=float((truth == result.categories[1]).mean()), ax=axes[2]
        )
        reliability(result.reliability(), ax=axes[3])
    else:
        roc(result.roc_bands(), ax=axes[1])
        reliability(result.reliability(), ax=axes[2])
        donor_probabilities(result.predictions, result.categories, ax=axes[3])
    finish(axes, show)
    return axes


def scores(result: Validated, *, ax: Axes | None = None, show: bool | None = None) -> Axes:
    """Every score of every run with its interval; small points are folds.

    Parameters
    ----------
    result
        ``cross_validate(...)``.
    ax, show
        To draw into; whether to show the figure.

    Returns
    -------
    Axes
    """
    import matplotlib.pyplot as plt

    made: Axes = ax if ax is not None else plt.figure(figsize=(4.2, 3.8), layout="constrained").add_subplot()
    runs = list(dict.fromkeys(result.scores["run"]))
    measures = list(dict.fromkeys(result.scores["measure"]))
    palette = dict(zip(runs, colours(len(runs)), strict=True))
    labels = []
    place = 0.0
    for measure in measures:
        for run in runs:
            row = result.scores[(result.scores["run"] == run) & (result.scores["measure"] == measure)].iloc[0]
            folds = result.folds[(result.folds["run"] == run) & (result.folds["measure"] == measure)]["value"]
            shifts = place + 0.18 * np.linspace(-1, 1, len(folds)) if len(folds) > 1 else [place]
            made.plot(folds, shifts, "o", color=palette[run], markersize=2, alpha=0.35)
            made.plot([row["low"], row["high"]], [place, place], color=palette[run], linewidth=2.2)
            made.plot([row["value"]], [place], "o", color=palette[run], markersize=6)
            labels.append((place, f"{measure.replace('_', ' ')}\n{run}" if run == runs[0] else run))
            place += 1.0
        if measure in CHANCE:
            made.plot(
                2 * [CHANCE[measure]], [place - len(runs) - 0.4, place - 0.6], color=GREY, linestyle=":"
            )
        place += 0.6
    made.set_yticks([at for at, _ in labels], [text for _, text in labels], fontsize="small")
    made.invert_yaxis()
    made.set(title="Held-out donors", xlabel="score (line: 95 % over donors, points: folds)")
    finish([made], show)
    return made


def predicted_numbers(predictions: pd.DataFrame, *, ax: Axes, show: bool | None = None) -> Axes:
    """Predicted against true number of each donor, with conformal intervals where there are some.

    Parameters
    ----------
    predictions
        ``result.predictions`` of a continuous outcome; the first repeat of the model is drawn.
    ax, show
        To draw into; whether to show the figure.
    """
    rows = predictions[(predictions["run"] == "model") & (predictions["repeat"] == 0)]
    colour = colours(1)[0]
    if "lower" in rows and np.isfinite(rows[["lower", "upper"]]).all(axis=None):
        ax.vlines(rows["truth"], rows["lower"], rows["upper"], color=colour, alpha=0.4, linewidth=1)
    ax.plot(rows["truth"], rows["mean"], "o", color=colour, markersize=4)
    ends = [rows["truth"].min(), rows["truth"].max()]
    ax.plot(ends, ends, color=GREY, linestyle=":", linewidth=1, zorder=0)
    ax.set(title="Predicted of held-out donors", xlabel="true", ylabel="predicted")
    finish([ax], show)
    return ax


def donor_probabilities(
    predictions: pd.DataFrame, categories: Sequence[str], *, ax: Axes, show: bool | None = None
) -> Axes:
    """Probabilities of every held-out donor as stacked bars, donors sorted by their true class.

    Parameters
    ----------
    predictions
        ``result.predictions``; of the model, averaged over repeats.
    categories
        In their order.
    ax, show
        To draw into; whether to show the figure.
    """
    rows = predictions[predictions["run"] == "model"]
    columns = [f"p_{name}" for name in categories]
    mean = rows.groupby("donor")[columns].mean()
    truth = rows.groupby("donor")["truth"].first()
    rank = truth.map({name: code for code, name in enumerate(categories)}).astype(int)
    expected = mean.to_numpy() @ np.arange(len(categories))
    order = np.lexsort((expected, rank.to_numpy()))
    mean, truth = mean.iloc[order], truth.iloc[order]
    left = np.zeros(len(mean))
    place = np.arange(len(mean))
    for column, name, colour in zip(columns, categories, colours(len(categories)), strict=True):
        ax.barh(place, mean[column], 0.85, left=left, color=colour, label=name)
        left += mean[column].to_numpy()
    if len(mean) <= MOST_DONORS_NAMED:
        texts = [f"{donor}: {name}" for donor, name in zip(mean.index, truth, strict=True)]
        ax.set_yticks(place, texts, fontsize="small" if len(mean) <= 12 else "xx-small")
    else:
        ax.set_yticks([])
    ax.set(title="Held-out donors and their true class", xlabel="predicted probability", xlim=(0, 1))
    ax.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3)
    finish([ax], show)
    return ax
