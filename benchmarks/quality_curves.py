"""When a learning curve reaches a value, and how much sooner one method gets there than another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from records import CurvePoint, Record
from scores import EmbeddingScores


@dataclass(frozen=True)
class Score:
    """One of the scores that a curve is drawn of.

    Parameters
    ----------
    name
        As it is written in the table and above a panel.
    at_point
        Its value at a point of a curve.
    at_end
        Its value for the finished model, where a record keeps it beside the curve.
    """

    name: str
    at_point: Callable[[CurvePoint], float]
    at_end: Callable[[Record], float] | None = None


def _of_embedding(name: str, of: Callable[[EmbeddingScores], float], held_out: bool) -> Score:
    if held_out:
        return Score(name, lambda point: of(point.held_out), lambda record: of(record.held_out))
    return Score(name, lambda point: of(point.scores), lambda record: of(record.all_cells))


HELD_OUT_ACCURACY = _of_embedding("15-NN accuracy, held out", lambda s: s.knn_accuracy, held_out=True)
HELD_OUT_NMI = _of_embedding("NMI, held out", lambda s: s.nmi, held_out=True)
PEAKS_FROM_RNA = Score("peaks from RNA, AUROC, held out", lambda point: point.peaks_from_rna)
SCORES = (
    HELD_OUT_ACCURACY,
    HELD_OUT_NMI,
    PEAKS_FROM_RNA,
    _of_embedding("15-NN accuracy, all cells", lambda s: s.knn_accuracy, held_out=False),
    _of_embedding("NMI, all cells", lambda s: s.nmi, held_out=False),
)


@dataclass(frozen=True)
class Moment:
    """A score part-way through a training, and when."""

    epoch: int
    wall_seconds: float
    cpu_seconds: float
    value: float


def trajectory(record: Record, score: Score) -> tuple[Moment, ...]:
    """Every moment of a run at which a score is known, the finished model last.

    Raises
    ------
    ValueError
        If the run left no curve.
    """
    if not record.curve:
        raise ValueError(
            f"{record.method}_seed{record.seed}.json holds no curve: run it again with "
            f"python benchmarks/embedding.py --methods {record.method} --seeds {record.seed} --redo"
        )
    moments = [Moment(p.epoch, p.wall_seconds, p.cpu_seconds, score.at_point(p)) for p in record.curve]
    # A curve that stops before the run does is continued by the scores of the finished model.
    if score.at_end is not None and record.epochs is not None and record.epochs > moments[-1].epoch:
        end = score.at_end(record)
        moments.append(Moment(record.epochs, record.wall_seconds, record.cpu_seconds, end))
    return tuple(moments)


def best(moments: Sequence[Moment]) -> Moment:
    """The moment of the highest value, the first of several."""
    return max(moments, key=lambda moment: moment.value)


def first_reaching(moments: Sequence[Moment], value: float) -> Moment | None:
    """The first moment that was scored at a value or above it; None if there is none.

    Nothing is interpolated: what lies between two scored moments counts as not reached.
    """
    return next((moment for moment in moments if moment.value >= value), None)


@dataclass(frozen=True)
class Comparison:
    """Runs of one method against the best value of a peer's run.

    Parameters
    ----------
    score
        What is compared.
    peer_best, peer_end
        The best moment of the peer's run, and its last.
    reached
        When each run first reached the peer's best value; None where it never did.
    ends
        The last moment of each run.
    """

    score: Score
    peer_best: Moment
    peer_end: Moment
    reached: tuple[Moment | None, ...]
    ends: tuple[Moment, ...]


def compare(score: Score, peer: Record, runs: Sequence[Record]) -> Comparison:
    """Set every run of a method beside the peer's run."""
    theirs = trajectory(peer, score)
    ours = [trajectory(run, score) for run in runs]
    target = best(theirs)
    return Comparison(
        score,
        peer_best=target,
        peer_end=theirs[-1],
        reached=tuple(first_reaching(moments, target.value) for moments in ours),
        ends=tuple(moments[-1] for moments in ours),
    )
