"""Survival of patients, parted by what they were predicted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from multiomics_vae.plotting.outcomes_curves import axes_for
from multiomics_vae.plotting.style import colours, finish

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Steps(Protocol):
    """A Kaplan-Meier estimate: ``analysis.outcomes.kaplan_meier.KaplanMeier``."""

    @property
    def time(self) -> np.ndarray: ...
    @property
    def survival(self) -> np.ndarray: ...
    @property
    def low(self) -> np.ndarray: ...
    @property
    def high(self) -> np.ndarray: ...
    @property
    def at_risk(self) -> np.ndarray: ...


class Groups(Protocol):
    """Patients by risk: ``analysis.outcomes.curves.RiskGroups``."""

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def curves(self) -> Sequence[Steps]: ...
    @property
    def p_value(self) -> float: ...


def kaplan_meier(groups: Groups, *, unit: str = "", ax: Axes | None = None, show: bool | None = None) -> Axes:
    """Share of each group that is without the event, with pointwise intervals and the log-rank p-value.

    Parameters
    ----------
    groups
        ``result.risk_groups()``.
    unit
        Of time, for the label.
    ax, show
        To draw into; whether to show the figure.

    Returns
    -------
    Axes

    Examples
    --------
    >>> mv.plotting.kaplan_meier(result.risk_groups(), unit="days")  # doctest: +SKIP
    """
    ax = axes_for(ax)
    for name, curve, colour in zip(groups.names, groups.curves, colours(len(groups.names)), strict=True):
        time = np.append(0.0, curve.time)
        label = f"{name}, n = {int(curve.at_risk[0]) if len(curve.at_risk) else 0}"
        ax.step(time, np.append(1.0, curve.survival), where="post", color=colour, linewidth=1.6, label=label)
        low, high = np.append(1.0, curve.low), np.append(1.0, curve.high)
        ax.fill_between(time, low, high, step="post", color=colour, alpha=0.15, linewidth=0)
        left = -np.diff(np.append(curve.at_risk, 0.0))
        steps = np.append(1.0, curve.survival[:-1]) if len(curve.survival) else curve.survival
        censored = (left > 0) & (curve.survival == steps)
        ax.plot(curve.time[censored], curve.survival[censored], "|", color=colour, markersize=5)
    p = f"log-rank p = {groups.p_value:.1g}" if np.isfinite(groups.p_value) else None
    ax.set(
        title="Survival by predicted risk",
        xlabel=f"time{f' ({unit})' if unit else ''}",
        ylabel="share without the event",
        ylim=(-0.03, 1.03),
    )
    ax.set_xlim(left=0.0)
    ax.legend(frameon=False, fontsize="small", loc="upper right", title=p, title_fontsize="small")
    finish([ax], show)
    return ax
