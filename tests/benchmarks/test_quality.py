"""Time to quality: when a curve reaches a value, and what is read of the records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from quality import records_of
from quality_curves import (
    HELD_OUT_ACCURACY,
    PEAKS_FROM_RNA,
    SCORES,
    Moment,
    best,
    compare,
    first_reaching,
    trajectory,
)
from quality_table import table
from records import CurvePoint, Record, read_json, write_json
from scores import EmbeddingScores


def scores(value: float) -> EmbeddingScores:
    return EmbeddingScores(value, value, value, value, None, None)


def make_record(
    values: list[float], *, seconds: float = 1.0, method: str = "product", seed: int = 0, last: float = 0.0
) -> Record:
    """A run scored after every epoch, of ``seconds`` of CPU time and twice as many by the clock."""
    curve = tuple(
        CurvePoint(epoch, 2 * seconds * epoch, seconds * epoch, scores(value), scores(value), value / 2)
        for epoch, value in enumerate(values, start=1)
    )
    n = len(values) + 1
    return Record(
        method, seed, "cells", 1, 60.0, 2 * seconds * n, seconds * n, n, "cap",
        scores(last), scores(last), None, None, (), curve, ("torch 2",), "cpu",
    )  # fmt: skip


def moments(*values: float) -> list[Moment]:
    return [Moment(i, 2.0 * i, float(i), value) for i, value in enumerate(values)]


def test_a_value_is_reached_at_the_first_moment_at_or_above_it() -> None:
    curve = moments(0.1, 0.5, 0.3, 0.9)
    assert first_reaching(curve, 0.5) == curve[1]
    assert first_reaching(curve, 0.4) == curve[1]
    assert first_reaching(curve, 0.50001) == curve[3]
    assert first_reaching(curve, 0.91) is None
    assert first_reaching([], 0.0) is None


def test_the_best_moment_is_the_first_of_equals() -> None:
    curve = moments(0.1, 0.8, 0.3, 0.8)
    assert best(curve) == curve[1]


def test_a_curve_that_stops_early_is_continued_by_the_finished_model() -> None:
    record = make_record([0.2, 0.6], seconds=5.0, last=0.7)
    assert trajectory(record, HELD_OUT_ACCURACY) == (
        Moment(1, 10.0, 5.0, 0.2),
        Moment(2, 20.0, 10.0, 0.6),
        Moment(3, 30.0, 15.0, 0.7),
    )
    # The record keeps no imputation of the finished model.
    assert [m.value for m in trajectory(record, PEAKS_FROM_RNA)] == [0.1, 0.3]
    complete = replace(record, epochs=2)
    assert len(trajectory(complete, HELD_OUT_ACCURACY)) == 2


def test_a_record_without_a_curve_says_what_to_run() -> None:
    record = replace(make_record([0.2]), curve=(), seed=3)
    with pytest.raises(ValueError, match="--methods product --seeds 3 --redo"):
        trajectory(record, HELD_OUT_ACCURACY)


def test_comparison_with_known_times() -> None:
    peer = make_record([0.2, 0.6, 0.5], seconds=100.0, method="multivi", last=0.4)
    runs = [make_record([0.1, 0.6], last=0.8), make_record([0.3, 0.5], seed=1, last=0.7)]
    found = compare(HELD_OUT_ACCURACY, peer, runs)
    assert found.peer_best == Moment(2, 400.0, 200.0, 0.6)
    assert found.peer_end.value == 0.4
    assert found.reached == (Moment(2, 4.0, 2.0, 0.6), Moment(3, 6.0, 3.0, 0.7))
    assert [m.value for m in found.ends] == [0.8, 0.7]
    text = table(peer, [("Ours", runs, [compare(score, peer, runs) for score in SCORES])])
    # 200 / mean(2, 3) and 200 / 3
    assert "| 2.5 (3.0) | 2.5 (3.0) | 5.0 (6.0) | 80 (67) | 80 (67) |" in text
    assert "cap of 1 minutes of CPU time" in text


def test_a_run_that_never_gets_there_is_said_to() -> None:
    peer = make_record([0.9], method="multivi", last=0.9)
    runs = [make_record([0.1], last=0.95), make_record([0.1], seed=1, last=0.2)]
    assert compare(HELD_OUT_ACCURACY, peer, runs).reached[1] is None
    text = table(peer, [("Ours", runs, [compare(score, peer, runs) for score in SCORES])])
    assert "never in 1 of 2" in text


def test_records_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    written = [make_record([0.2, 0.6], seed=seed) for seed in (0, 1)]
    for record in written:
        write_json(tmp_path / f"product_seed{record.seed}.json", record)
    assert records_of(tmp_path, "product") == written
    assert read_json(tmp_path / "product_seed1.json").curve[1].held_out.nmi == 0.6
    with pytest.raises(FileNotFoundError, match="--methods gated"):
        records_of(tmp_path, "gated")
