"""Curves that judge probabilities: reliability, ROC, precision and recall."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pandas as pd

from multiomics_vae.plotting.style import colours, finish

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GREY = "#888888"


class Curve(Protocol):
    """A curve with its band: ``analysis.outcomes.curves.Band``."""

    @property
    def x(self) -> np.ndarray: ...
    @property
    def y(self) -> np.ndarray: ...
    @property
    def low(self) -> np.ndarray: ...
    @property
    def high(self) -> np.ndarray: ...


class Reliable(Protocol):
    """Predicted against observed: ``analysis.outcomes.reliability.Reliability``."""

    @property
    def table(self) -> pd.DataFrame: ...
    @property
    def expected_calibration_error(self) -> float: ...


def reliability(
    curves: Mapping[str, Reliable] | Reliable, *, ax: Axes | None = None, show: bool | None = None
) -> Axes:
    """Observed share against predicted probability, with Wilson intervals; the diagonal is honest.

    Parameters
    ----------
    curves
        One reliability table, or several by name.
    ax
        To draw into; None makes a figure.
    show
        Whether to show the figure.

    Returns
    -------
    Axes

    Examples
    --------
    >>> mv.plotting.reliability(result.reliability())  # doctest: +SKIP
    """
    ax = axes_for(ax)
    named = curves if isinstance(curves, Mapping) else {"": curves}
    ax.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1, zorder=0)
    for (name, curve), colour in zip(named.items(), colours(len(named)), strict=True):
        table = curve.table
        below, above = table["observed"] - table["lower"], table["upper"] - table["observed"]
        error = f"ECE {curve.expected_calibration_error:.2f}"
        ax.errorbar(
            table["predicted"],
            table["observed"],
            yerr=np.clip([below, above], 0.0, None),
            fmt="o-",
            markersize=4,
            elinewidth=1,
            color=colour,
            label=f"{name}: {error}" if name else error,
        )
    ax.set(
        title="Reliability", xlabel="predicted probability", ylabel="share that came true",
        xlim=(-0.03, 1.03), ylim=(-0.03, 1.03),
    )  # fmt: skip
    ax.legend(frameon=False, fontsize="small", loc="upper left")
    finish([ax], show)
    return ax


def roc(curves: Mapping[str, Curve], *, ax: Axes | None = None, show: bool | None = None) -> Axes:
    """True against false positive rate, with bands over donors; the diagonal is chance.

    Parameters
    ----------
    curves
        By name, which goes into the legend.
    ax, show
        As in `reliability`.

    Returns
    -------
    Axes

    Examples
    --------
    >>> mv.plotting.roc(result.roc_bands())  # doctest: +SKIP
    """
    ax = axes_for(ax)
    ax.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1, zorder=0)
    _bands(ax, curves)
    ax.set(title="ROC", xlabel="false positive rate", ylabel="true positive rate")
    ax.legend(frameon=False, fontsize="small", loc="lower right")
    finish([ax], show)
    return ax


def precision_recall(
    curves: Mapping[str, Curve],
    *,
    share: float | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes:
    """Precision against recall, with bands over donors.

    Parameters
    ----------
    curves
        By name.
    share
        Of those with the outcome, which is the precision of chance; drawn as a line.
    ax, show
        As in `reliability`.

    Returns
    -------
    Axes

    Examples
    --------
    >>> mv.plotting.precision_recall(result.precision_recall_bands())  # doctest: +SKIP
    """
    ax = axes_for(ax)
    if share is not None:
        ax.axhline(share, color=GREY, linestyle=":", linewidth=1, zorder=0)
    _bands(ax, curves)
    ax.set(title="Precision and recall", xlabel="recall", ylabel="precision", ylim=(-0.03, 1.03))
    ax.legend(frameon=False, fontsize="small", loc="lower left")
    finish([ax], show)
    return ax


def _bands(ax: Axes, curves: Mapping[str, Curve]) -> None:
    for (name, curve), colour in zip(curves.items(), colours(len(curves)), strict=True):
        ax.plot(curve.x, curve.y, color=colour, linewidth=1.6, label=name)
        ax.fill_between(curve.x, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)


def axes_for(ax: Axes | None) -> Axes:
    """The axes to draw into; new ones where none are given."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    made: Axes = plt.figure(figsize=(4.2, 3.8), layout="constrained").add_subplot()
    return made
