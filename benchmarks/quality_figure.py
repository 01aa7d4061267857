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
    Moment,
    Score,
    best,
    first_reaching,
    trajectory,
)
from records import Record

PANELS = (HELD_OUT_ACCURACY, HELD_OUT_NMI, PEAKS_FROM_RNA)
MARKERS = "os^Dv"
GREY = "0.3"


def draw(path: Path, peer: Record, groups: Sequence[tuple[str, Sequence[Record]]]) -> None:
    """Three panels, score over CPU seconds; every seed a thin line, every method named at its lines.

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
    *ours, theirs = colours(len(groups) + 1)
    starts = [trajectory(run, score)[0] for _, runs in groups for run in runs]
    corner = min(m.cpu_seconds for m in starts), min(m.value for m in starts)
    for i, ((name, runs), colour) in enumerate(zip(groups, ours, strict=True)):
        for run in runs:
            _line(ax, trajectory(run, score), colour, MARKERS[i])
        _label(ax, name, corner, (-2, -18 - 12 * i), colour, "left")
    curve = trajectory(peer, score)
    _line(ax, curve, theirs, MARKERS[len(groups)])
    target = best(curve)
    half_way = (curve[0].value + target.value) / 2
    middle = min(curve, key=lambda moment: abs(moment.value - half_way))
    _label(ax, "MULTIVI", (middle.cpu_seconds, middle.value), (-8, 2), theirs, "right")
    _arrow(
        ax, target, [first_reaching(trajectory(r, score), target.value) for _, runs in groups for r in runs]
    )
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    ax.set(title=score.name, xlabel="CPU seconds of training")


def _line(ax: Axes, moments: Sequence[Moment], colour: str, marker: str) -> None:
    x, y = [m.cpu_seconds for m in moments], [m.value for m in moments]
    ax.plot(x, y, color=colour, marker=marker, markersize=2.5, linewidth=0.8)


def _label(
    ax: Axes, text: str, at: tuple[float, float], offset: tuple[float, float], colour: str, align: str
) -> None:
    ax.annotate(text, at, offset, textcoords="offset points", color=colour, ha=align, fontsize=9)


def _arrow(ax: Axes, target: Moment, reached: Sequence[Moment | None]) -> None:
    """From the peer's best moment to the slowest of our runs that had reached its value."""
    ax.axhline(target.value, color=GREY, linewidth=0.6, linestyle=":")
    found = [moment.cpu_seconds for moment in reached if moment is not None]
    if len(found) < len(reached):
        text = f"reached by {len(found)} of {len(reached)} runs"
        _label(ax, text, (target.cpu_seconds, target.value), (0, 4), GREY, "right")
        return
    slowest, start = max(found), (target.cpu_seconds, target.value)
    ax.annotate("", (slowest, target.value), start, arrowprops={"arrowstyle": "->", "color": GREY}, zorder=5)
    text = f"at least {int(target.cpu_seconds / slowest)} times sooner"
    _label(ax, text, (slowest, target.value), (8, -12), GREY, "left")
