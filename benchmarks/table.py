"""The markdown table of embedding runs, written between markers so that text around it stays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from markers import write_between_markers
from records import Record
from scores import EmbeddingScores

SCORE_NAMES = "15-NN | balanced | NMI | ARI | ASW"


def write_table(path: Path, records: Sequence[Record], descriptions: Sequence[tuple[str, str]]) -> None:
    """Replace what stands between the markers; a missing file is begun, missing markers are added at the end.

    Parameters
    ----------
    path
        Markdown file.
    records
        Every run to put into the tables.
    descriptions
        Name and description of each method, in the order of the rows.
    """
    write_between_markers("embedding", render(records, descriptions), path)


def render(records: Sequence[Record], descriptions: Sequence[tuple[str, str]]) -> str:
    """All tables, methods without a run left out."""
    groups = [(text, [r for r in records if r.method == name]) for name, text in descriptions]
    groups = [(text, runs) for text, runs in groups if runs]
    if not groups:
        return "No runs yet.\n"
    methods = " ".join(runs[0].method for _, runs in groups)
    seeds = " ".join(str(seed) for seed in sorted({r.seed for r in records}))
    caps = " ".join(f"{cap / 60:g}" for cap in sorted({r.cap_seconds for r in records}))
    # The clock of a cap that nobody met says nothing.
    met = [record for record in records if record.stopped_by == "cap"] or records
    clocks = " ".join(sorted({r.cap_clock for r in met}))
    threads = " ".join(str(n) for n in sorted({r.threads for r in records}))
    lines = [
        "```bash",
        f"python benchmarks/embedding.py --methods {methods} --seeds {seeds} "
        f"--cap-minutes {caps} --cap-clock {clocks} --threads {threads}",
        "```",
        "",
        f"Versions: {', '.join(sorted({v for r in records for v in r.versions}))}. "
        "Mean over seeds, the worst seed in brackets where there are several.",
        "",
        f"| all cells | seeds | {SCORE_NAMES} | epochs | seconds | CPU seconds | stopped by |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for text, runs in groups:
        lines.append(
            f"| {text} | {len(runs)} | {_scores([r.all_cells for r in runs])} | {_epochs(runs)} | "
            f"{_seconds([r.wall_seconds for r in runs])} | {_seconds([r.cpu_seconds for r in runs])} | "
            f"{', '.join(sorted({r.stopped_by or '' for r in runs}))} |"
        )
    lines += ["", f"| held-out cells alone | {SCORE_NAMES} |", "|---|---|---|---|---|---|"]
    lines += [f"| {text} | {_scores([r.held_out for r in runs])} |" for text, runs in groups]
    lines += _rna_lines(groups) + _likelihood_lines(groups)
    return "\n".join(lines) + "\n"


def _rna_lines(groups: Sequence[tuple[str, list[Record]]]) -> list[str]:
    lines = []
    for text, runs in groups:
        every = [r.rna_all_cells for r in runs if r.rna_all_cells is not None]
        alone = [r.rna_held_out for r in runs if r.rna_held_out is not None]
        if every and alone:
            lines += [f"| {text}, all cells | {_scores(every)} |", f"| {text}, held out | {_scores(alone)} |"]
    return ["", f"| from RNA alone | {SCORE_NAMES} |", "|---|---|---|---|---|---|", *lines] if lines else []


def _likelihood_lines(groups: Sequence[tuple[str, list[Record]]]) -> list[str]:
    lines = []
    for text, runs in groups:
        for modality in sorted({entry.modality for r in runs for entry in r.likelihoods}):
            entries = [e for r in runs for e in r.likelihoods if e.modality == modality]
            lines.append(
                f"| {text} | {modality} | {_mean_and_worst([e.model for e in entries], 1)} | "
                f"{np.mean([e.marginal for e in entries]):.1f} |"
            )
    head = [
        "",
        "| log likelihood of a held-out cell | modality | model | marginal model |",
        "|---|---|---|---|",
    ]
    return head + lines if lines else []


def _scores(scores: Sequence[EmbeddingScores]) -> str:
    columns = [
        [s.knn_accuracy for s in scores],
        [s.knn_balanced for s in scores],
        [s.nmi for s in scores],
        [s.ari for s in scores],
        [np.nan if s.asw is None else s.asw for s in scores],
    ]
    return " | ".join(_mean_and_worst(column, 3) for column in columns)


def _mean_and_worst(values: Sequence[float], digits: int) -> str:
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ({np.min(values):.{digits}f})"


def _epochs(runs: Sequence[Record]) -> str:
    epochs = [r.epochs for r in runs if r.epochs is not None]
    return f"{np.mean(epochs):.0f}" if epochs else ""


def _seconds(values: Sequence[float]) -> str:
    mean = np.mean(values)
    return f"{mean:.1f}" if mean < 10 else f"{mean:.0f}"
