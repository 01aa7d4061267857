"""Scores of imputation: those of a plain loop over features, on the cells and entries that were measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from handmade_models import mixed_data, module_for
from multiomics_vae.analysis.evaluation.feature_scores import feature_scores, groups_of, held_out_values
from multiomics_vae.analysis.evaluation.question import Question
from multiomics_vae.analysis.normalized import normalized_values


@pytest.fixture(scope="module")
def question() -> Question:
    """Counts, 0/1 values and real values with unmeasured entries; some cells lack a modality."""
    data = mixed_data(120)
    return Question(module_for(data), data, np.arange(120), 32, 5, 0)


def predicted(question: Question, target: int, source: int, scale: float | None = None) -> np.ndarray:
    n_features = question.data.modalities[target].values.shape[1]
    return normalized_values(
        question.module,
        question.data,
        question.cells,
        32,
        target,
        np.arange(n_features),
        None,
        None,
        scale,
        (source,),
    )


def means_of(question: Question, labels: np.ndarray | None = None, n_features: int = 100) -> dict:
    table = feature_scores(question, n_features, labels)
    return table.set_index(["modality", "given", "score"])[["overall", "within_type"]].to_dict("index")


def test_peaks_are_scored_as_scikit_learn_does(question: Question) -> None:
    both = question.having(0, 1)
    truth = both.data.modalities[1].loaded(both.cells).values.toarray() > 0
    score = predicted(both, 1, 0)
    found = means_of(question)
    columns = [g for g in range(15) if 10 <= truth[:, g].sum() <= len(truth) - 10]
    assert len(columns) > 5
    for name, of in (("auroc", roc_auc_score), ("auprc", average_precision_score)):
        expected = np.mean([of(truth[:, g], score[:, g]) for g in columns])
        assert found["m1", "m0", name]["overall"] == pytest.approx(expected, abs=1e-6)
    chance = found["m1", "m0", "auprc_of_chance"]["overall"]
    assert truth[:, columns].mean() < chance < truth[:, columns].mean() + 0.05


def test_counts_are_scored_as_scipy_does(question: Question) -> None:
    both = question.having(0, 1)
    part = both.data.modalities[0].loaded(both.cells)
    truth = part.values.toarray()
    score = predicted(both, 0, 1, 1e4)
    logs = np.log1p(truth / part.depth[:, None] * 1e4)
    found = means_of(question)
    spearman = [stats.spearmanr(truth[:, g], score[:, g])[0] for g in range(12)]
    pearson = [stats.pearsonr(logs[:, g], np.log1p(score[:, g]))[0] for g in range(12)]
    assert found["m0", "m1", "spearman"]["overall"] == pytest.approx(np.mean(spearman), abs=1e-5)
    assert found["m0", "m1", "pearson"]["overall"] == pytest.approx(np.mean(pearson), abs=1e-5)


def test_unmeasured_entries_do_not_count(question: Question) -> None:
    both = question.having(0, 2)
    part = both.data.modalities[2].loaded(both.cells)
    score = predicted(both, 2, 0)
    assert part.observed is not None
    expected = [
        stats.pearsonr(part.values[known, g], score[known, g])[0] for g, known in enumerate(part.observed.T)
    ]
    assert means_of(question)["m2", "m0", "pearson"]["overall"] == pytest.approx(np.mean(expected), abs=1e-5)


def test_every_modality_from_every_other(question: Question) -> None:
    found = means_of(question)
    assert {key[:2] for key in found} == {(f"m{a}", f"m{b}") for a in range(3) for b in range(3) if a != b}
    assert all(np.isnan(each["within_type"]) for each in found.values())


def test_one_type_is_no_type_and_unknown_types_are_left_out(question: Question) -> None:
    one = means_of(question, np.full(120, "a", dtype=object))
    for each in one.values():
        assert each["within_type"] == pytest.approx(each["overall"])
    unknown = np.where(np.arange(120) < 60, "a", None).astype(object)
    half = means_of(question, unknown)
    alone = means_of(replace(question, cells=np.arange(60)), None)
    rna = ("m0", "m1", "spearman")
    assert half[rna]["within_type"] == pytest.approx(alone[rna]["overall"], abs=1e-6)
    assert [list(group) for group in groups_of(np.array(["b", None, "a", "b"], dtype=object))] == [
        [2],
        [0, 3],
    ]


def test_features_are_drawn_from_those_seen_often_enough(question: Question) -> None:
    whole = held_out_values(question.having(1), 1, 100)
    some = held_out_values(question.having(1), 1, 4)
    assert len(some.features) == 4
    assert some.n_eligible == len(whole.features) == whole.n_eligible
    assert set(some.features) <= set(whole.features)
    other = held_out_values(replace(question.having(1), seed=1), 1, 4)
    assert set(other.features) != set(some.features)
    table = feature_scores(question, 4, None)
    assert (table["n_features"] <= 4).all()
    few = replace(question.having(1), cells=question.having(1).cells[:15])
    assert held_out_values(few, 1, 100).n_eligible == 0


def test_no_cells_with_both_have_no_scores(question: Question) -> None:
    data = mixed_data(40)
    lone = np.flatnonzero(data.present.sum(1) == 1)
    assert feature_scores(Question(question.module, data, lone, 8, 5, 0), 10, None).empty
