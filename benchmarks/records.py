"""What a method returns, what is written about it, and how it is read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Literal

import mudata as md
import numpy as np
import torch
from numpy.typing import NDArray

from scores import EmbeddingScores, Split, held_out_split

CapClock = Literal["wall", "cpu"]


@dataclass(frozen=True)
class Task:
    """Data, split and limits that every method is given.

    Parameters
    ----------
    mdata
        All cells; a method fits on ``split.train`` only and embeds every cell.
    labels
        Cell types, for curves only: no method may fit on them.
    split
        Cells to fit on and cells held out.
    seed
        Seed of the method (the split is the same for every seed).
    cap_seconds
        Seconds of training allowed.
    cap_clock
        What the cap counts: on a machine shared with others, CPU seconds are the fairer measure.
    threads
        CPU threads allowed.
    """

    mdata: md.MuData
    labels: NDArray[np.str_]  # (N,)
    split: Split
    seed: int
    cap_seconds: float
    cap_clock: CapClock
    threads: int


@dataclass(frozen=True)
class CurvePoint:
    """Scores part-way through training; the time taken by scoring is not counted.

    Parameters
    ----------
    epoch, wall_seconds, cpu_seconds
        When.
    scores, held_out
        Of all cells, and of the held-out cells alone.
    peaks_from_rna
        Mean AUROC of a peak over the held-out cells, predicted from their RNA at a depth common to all.
    """

    epoch: int
    wall_seconds: float
    cpu_seconds: float
    scores: EmbeddingScores
    held_out: EmbeddingScores
    peaks_from_rna: float


@dataclass(frozen=True)
class HeldOutLikelihood:
    """Mean log likelihood of a held-out cell in one modality, with the marginal model's beside it."""

    modality: str
    model: float
    marginal: float


@dataclass(frozen=True)
class EmbeddingRun:
    """What a method hands back: an embedding of every cell, and what it cost."""

    embedding: NDArray[np.floating]  # (N, K)
    wall_seconds: float
    cpu_seconds: float
    embedding_rna: NDArray[np.floating] | None = None  # (N, K) from RNA alone
    epochs: int | None = None
    stopped_by: str | None = None
    likelihoods: tuple[HeldOutLikelihood, ...] = ()
    curve: tuple[CurvePoint, ...] = ()
    weights: Mapping[str, torch.Tensor] | None = None  # saved beside the record, for later questions


@dataclass(frozen=True)
class Record:
    """One method and seed, scored: a row of the table before averaging."""

    method: str
    seed: int
    data: str
    threads: int
    cap_seconds: float
    wall_seconds: float
    cpu_seconds: float
    epochs: int | None
    stopped_by: str | None
    all_cells: EmbeddingScores
    held_out: EmbeddingScores
    rna_all_cells: EmbeddingScores | None
    rna_held_out: EmbeddingScores | None
    likelihoods: tuple[HeldOutLikelihood, ...]
    curve: tuple[CurvePoint, ...]
    versions: tuple[str, ...]
    cap_clock: CapClock = "wall"


class Stopwatch:
    """Wall and CPU seconds since the start, less the time spent paused."""

    def __init__(self) -> None:
        self._wall, self._cpu = perf_counter(), process_time()
        self._paused_at: tuple[float, float] | None = None

    def __enter__(self) -> Stopwatch:
        """Pause: used as ``with stopwatch: ...`` around what must not be counted."""
        self._paused_at = perf_counter(), process_time()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._paused_at is not None
        self._wall += perf_counter() - self._paused_at[0]
        self._cpu += process_time() - self._paused_at[1]
        self._paused_at = None

    def is_past_cap(self, task: Task) -> bool:
        """Whether the task's clock has run past its cap."""
        return (self.cpu_seconds if task.cap_clock == "cpu" else self.wall_seconds) > task.cap_seconds

    @property
    def wall_seconds(self) -> float:
        return (self._paused_at[0] if self._paused_at else perf_counter()) - self._wall

    @property
    def cpu_seconds(self) -> float:
        return (self._paused_at[1] if self._paused_at else process_time()) - self._cpu


def read_task(
    path: Path, *, seed: int, cap_seconds: float, cap_clock: CapClock = "wall", threads: int
) -> Task:
    """Read a data set whose global ``obs`` holds ``cell_type``."""
    mdata = md.read_h5mu(path)
    labels = np.asarray(mdata.obs["cell_type"].astype(str), dtype=np.str_)
    return Task(mdata, labels, held_out_split(mdata.n_obs, 0), seed, cap_seconds, cap_clock, threads)


def write_json(path: Path, record: Record) -> None:
    """Write under a temporary name, then rename, so that a half-written record is never read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(record), indent=1) + "\n")
    temporary.replace(path)


def read_json(path: Path) -> Record:
    """Read back what ``write_json`` wrote."""
    raw = json.loads(path.read_text())
    for name in ("all_cells", "held_out", "rna_all_cells", "rna_held_out"):
        raw[name] = _scores(raw[name])
    raw["likelihoods"] = tuple(HeldOutLikelihood(**entry) for entry in raw["likelihoods"])
    raw["curve"] = tuple(
        CurvePoint(**{**entry, **{name: _scores(entry[name]) for name in ("scores", "held_out")}})
        for entry in raw["curve"]
    )
    raw["versions"] = tuple(raw["versions"])
    return Record(**raw)


def _scores(raw: dict[str, Any] | None) -> EmbeddingScores | None:
    return None if raw is None else EmbeddingScores(**raw)
