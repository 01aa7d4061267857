"""The markdown of the time-to-quality benchmark."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from quality_curves import SCORES, Comparison
from records import Record


def table(peer: Record, groups: Sequence[tuple[str, Sequence[Record], Sequence[Comparison]]]) -> str:
    """Everything between the markers.

    Parameters
    ----------
    peer
        The run whose best values are to be reached.
    groups
        Description of a method, its runs, and its comparisons, one a score of ``SCORES``.
    """
    parts = [_clocks(peer, [run for _, runs, _ in groups for run in runs]), _reached(groups), _ends(groups)]
    return "\n\n".join([*parts, _curves(peer, [(text, runs) for text, runs, _ in groups])])


def _clocks(peer: Record, ours: Sequence[Record]) -> str:
    """What the seconds mean, and why the peer stopped."""
    threads = " or ".join(str(n) for n in sorted({r.threads for r in [peer, *ours]}))
    clock = {"cpu": "CPU time", "wall": "wall-clock time"}[peer.cap_clock]
    why = (
        f"the cap of {peer.cap_seconds / 60:g} minutes of {clock}; it had not finished"
        if peer.stopped_by == "cap"
        else f"{peer.stopped_by}"
    )
    versions = ", ".join(sorted({v for r in [peer, *ours] for v in r.versions}))
    return (
        f"Seconds of training (CPU threads: {threads}), scoring not counted; MULTIVI's begin at its first "
        f"step, ours at the raw counts. MULTIVI, seed {peer.seed}, was stopped after {peer.epochs} epochs "
        f"({peer.cpu_seconds:.0f} CPU s, {peer.wall_seconds:.0f} s of wall clock) by: {why}. "
        f"Versions: {versions}."
    )


def _reached(groups: Sequence[tuple[str, Sequence[Record], Sequence[Comparison]]]) -> str:
    lines = [
        "The peer's best value, and when each method was first scored at or above it; mean over seeds, the "
        "slowest seed in brackets.",
        "",
        "| score | MULTIVI's best | its CPU s | its wall s | method | seeds | epoch | CPU s | wall s "
        "| times sooner, CPU | times sooner, wall |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for rows in zip(*(comparisons for _, _, comparisons in groups), strict=True):
        for (text, runs, _), row in zip(groups, rows, strict=True):
            peer = row.peer_best
            lines.append(
                f"| {row.score.name} | {peer.value:.3f} at epoch {peer.epoch} | {peer.cpu_seconds:.0f} "
                f"| {peer.wall_seconds:.0f} | {text} | {len(runs)} | {_times(row)} |"
            )
    return "\n".join(lines)


def _times(row: Comparison) -> str:
    reached = [moment for moment in row.reached if moment is not None]
    if len(reached) < len(row.reached):
        return f"never in {len(row.reached) - len(reached)} of {len(row.reached)} | | | | "
    cpu, wall = [m.cpu_seconds for m in reached], [m.wall_seconds for m in reached]
    return " | ".join(
        [
            _mean_and([m.epoch for m in reached], max, 1),
            _mean_and(cpu, max, 1),
            _mean_and(wall, max, 1),
            _sooner(row.peer_best.cpu_seconds, cpu),
            _sooner(row.peer_best.wall_seconds, wall),
        ]
    )


def _sooner(peer: float, ours: Sequence[float]) -> str:
    """The peer's time over the mean of ours, and over the longest of ours."""
    return f"{peer / np.mean(ours):.0f} ({peer / max(ours):.0f})"


def _ends(groups: Sequence[tuple[str, Sequence[Record], Sequence[Comparison]]]) -> str:
    """Finished models."""
    names = " | ".join(f"{text}, mean (worst seed)" for text, _, _ in groups)
    lines = [
        "Where each ends.",
        "",
        f"| score | MULTIVI, best | MULTIVI, last | {names} |",
        "|---" * (3 + len(groups)) + "|",
    ]
    for rows in zip(*(comparisons for _, _, comparisons in groups), strict=True):
        ends = " | ".join(_mean_and([m.value for m in row.ends], min, 3) for row in rows)
        peer = rows[0]
        lines.append(
            f"| {peer.score.name} | {peer.peer_best.value:.3f} | {peer.peer_end.value:.3f} | {ends} |"
        )
    return "\n".join(lines)


def _curves(peer: Record, groups: Sequence[tuple[str, Sequence[Record]]]) -> str:
    """The figure in numbers: means over seeds, of what was scored while training went on."""
    names = " | ".join(score.name for score in SCORES)
    lines = [
        "The curves in numbers while training goes on, means over the seeds that got so far.",
        "",
        f"| method | epoch | seeds | CPU s | {names} |",
        "|---" * (4 + len(SCORES)) + "|",
    ]
    for text, runs in [("MULTIVI", [peer]), *groups]:
        points = [p for run in runs for p in run.curve if p.cpu_seconds < run.cpu_seconds]
        for epoch in sorted({point.epoch for point in points}):
            found = [point for point in points if point.epoch == epoch]
            scores = " | ".join(f"{np.mean([s.at_point(p) for p in found]):.3f}" for s in SCORES)
            cpu = np.mean([point.cpu_seconds for point in found])
            lines.append(f"| {text} | {epoch} | {len(found)} | {cpu:.0f} | {scores} |")
    return "\n".join(lines)


def _mean_and(values: Sequence[float], worst: Callable[[Sequence[float]], float], digits: int) -> str:
    """The mean, and the worst in brackets."""
    return f"{np.mean(values):.{digits}f} ({worst(values):.{digits}f})"
