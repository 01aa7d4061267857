"""The learning curves of all methods in one figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from multiomics_vae.plotting.style import colours, finish
from quality_curves import (
    HELD_OUT_ACCURACY,
    HELD_OUT_NMI,
    PEAKS_FROM_RNA,
    Score,
    best,
    first_reaching,
    trajectory,
)
from records import Record

PANELS = (HELD_OUT_ACCURACY, HELD_OUT_NMI, PEAKS_FROM_RNA)
MARKERS = "os^Dv"
GREY = "0.45"


def draw(path: Path, peer: Record, groups: Sequence[tuple[str, Sequence[Record]]]) -> None:
    """Three panels, score over CPU seconds; every seed a thin line, named at its method's first panel.

    Parameters
    ----------
    path
        PNG file.
    peer
        MULTIVI's run.
    groups
        Short name of a method and its runs.
    """
    figure = plt.figure(figsize=(11, 3.9), layout="constrained")
    axes = list(figure.subplots(1, len(PANELS), sharex=True))
    for ax, score in zip(axes, PANELS, strict=True):
        _panel(ax, score, peer, groups)
    finish(axes, show=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _panel(ax: Axes, score: Score, peer: Record, groups: Sequence[tuple[str, Sequence[Record]]]) -> None:
    methods = [("MULTIVI", [peer]), *groups]
    for (name, runs), colour, marker in zip(methods, colours(len(methods)), MARKERS, strict=False):
        for i, run in enumerate(runs):
            moments = trajectory(run, score)
            ax.plot(
                [m.cpu_seconds for m in moments],
                [m.value for m in moments],
                color=colour,
                marker=marker,
                markersize=2.5,
                linewidth=0.8,
                label=name if i == 0 else None,
            )
    target = best(trajectory(peer, score))
    _arrow(ax, score, target.value, target.cpu_seconds, groups)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    ax.set(title=score.name, xlabel="CPU seconds of training")


def _arrow(
    ax: Axes, score: Score, value: float, seconds: float, groups: Sequence[tuple[str, Sequence[Record]]]
) -> None:
    """From the peer's best moment to the slowest of our runs that had reached its value."""
    reached = [first_reaching(trajectory(run, score), value) for _, runs in groups for run in runs]
    ax.axhline(value, color=GREY, linewidth=0.6, linestyle=":")
    found = [moment.cpu_seconds for moment in reached if moment is not None]
    if len(found) < len(reached) or not found:
        ax.annotate("never reached by all", (seconds, value), color=GREY)
        return
    slowest = max(found)
    ax.annotate("", (slowest, value), (seconds, value), arrowprops={"arrowstyle": "->", "color": GREY})
    middle = (slowest * seconds) ** 0.5
    ax.annotate(
        f"{seconds / slowest:.0f} times sooner",
        (middle, value),
        (0, 4),
        textcoords="offset points",
        ha="center",
        color=GREY,
        fontsize=9,
    )
