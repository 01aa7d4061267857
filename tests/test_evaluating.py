"""`evaluate` and `consistency` of models that were trained, on ordinary and on bad input."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import mudata
import numpy as np
import pandas as pd
import pytest
import torch

from multiomics_vae import MultiVAE
from multiomics_vae.analysis.evaluation.labels import read_labels
from multiomics_vae.analysis.evaluation.report import EvaluationReport
from multiomics_vae.errors import InputError, MultiomicsWarning, NotFittedError
from small_models import fingerprint, make_cells, make_model, register, train

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mudata", "ignore::UserWarning:anndata")
N_CELLS = 160
QUICK: dict[str, Any] = {"n_importance_samples": 10, "n_importance_cells": 10}


@pytest.fixture(scope="module")
def cells() -> mudata.MuData:
    """Cells of which some lack RNA and some lack ATAC; read only."""
    lacking = {"atac": range(6), "rna": range(6, 12)}
    made = make_cells(n_cells=N_CELLS, n_features=30, lacking=lacking)
    return register(made, batch_key="batch", categorical_covariate_keys=["donor"])


@pytest.fixture(scope="module")
def model(cells: mudata.MuData) -> MultiVAE:
    choices = {"validation_size": 0.4, "kl_weight": 0.3, "subset_weight": 0.3}
    return train(make_model(cells), 30, learning_rate=2e-2, **choices)


@pytest.fixture(scope="module")
def report(model: MultiVAE) -> EvaluationReport:
    return model.evaluate(labels="donor", **QUICK)


def test_default_is_the_held_out_cells(model: MultiVAE, report: EvaluationReport) -> None:
    assert report.n_cells == len(model.validation_indices)
    elbo = model.get_elbo(indices=model.validation_indices)
    assert report.elbo[0] == pytest.approx(elbo.mean(), rel=1e-5)


def test_a_model_that_learned_is_well(report: EvaluationReport) -> None:
    assert report.is_well, str(report)
    assert report.active_units["all"] >= 2
    assert report.agreement["foscttm"].item() < 0.4
    scores = report.feature_scores.set_index(["modality", "score"])["overall"]
    assert scores["atac", "auroc"] > 0.6
    assert scores["rna", "spearman"] > 0.1


def test_verdicts_flip_for_a_model_made_to_collapse(cells: mudata.MuData) -> None:
    collapsed = train(make_model(cells), 10, learning_rate=2e-2, validation_size=0.4, kl_weight=1_000.0)
    found = collapsed.evaluate(**QUICK)
    wells = {verdict.subject: verdict.is_well for verdict in found.verdicts}
    wells = {name: is_well for name, is_well in wells.items() if not name.startswith("intervals")}
    assert wells == {"joint posterior": False, "rna": False, "atac": False, "entropy": True}
    assert not found.is_well
    assert found.active_units == {"all": 0, "rna": 0, "atac": 0}


def test_report_becomes_one_table(report: EvaluationReport) -> None:
    frame = report.to_frame()
    columns = ["measure", "modality", "given", "detail", "value", "standard_error", "n_cells"]
    assert list(frame.columns) == columns
    assert set(frame["measure"]) == {
        "elbo",
        "log_likelihood",
        "log_likelihood_gain",
        "importance_weighted_bound",
        "variance_of_log_weights",
        "active_units",
        "entropy",
        "interval_coverage",
        "foscttm",
        "procrustes",
        "auroc",
        "auprc",
        "auprc_of_chance",
        "pearson",
        "spearman",
    }
    assert not frame.duplicated(["measure", "modality", "given", "detail"]).any()
    assert frame["value"].notna().all()
    value = frame.set_index(["measure", "modality", "given", "detail"])["value"]
    assert value["log_likelihood", "atac", "rna", ""] == pytest.approx(
        model_value(report.log_likelihood, modality="atac", given="rna", column="mean")
    )
    assert value["auroc", "atac", "rna", "within_type"] == pytest.approx(
        model_value(report.feature_scores, score="auroc", column="within_type")
    )


def model_value(table: pd.DataFrame, column: str, **where: str) -> float:
    for key, name in where.items():
        table = table[table[key] == name]
    return float(table[column].item())


def test_a_recalibrated_model_is_measured_so(cells: mudata.MuData, model: MultiVAE) -> None:
    half, rest = np.array_split(model.validation_indices, 2)
    twin = copy.deepcopy(model)
    twin.calibrate(indices=half)
    found = twin.evaluate(rest, **QUICK)
    assert found.coverage["calibrated"].notna().all()
    assert "recalibrated 90%" in str(found)
    frame = found.to_frame()
    assert (frame["measure"] == "recalibrated_coverage").sum() == len(found.coverage)


def test_report_prints_every_measure(report: EvaluationReport) -> None:
    text = str(report)
    words = ("Evaluation of 64 cells", "[ok]", "ELBO", "S=10", "conditional", "rna+atac", "foscttm", "auroc")
    assert [word for word in words if word not in text] == []
    assert max(len(line) for line in text.splitlines() if not line.startswith("[")) < 120


def test_the_seed_decides_and_nothing_is_changed(
    model: MultiVAE, cells: mudata.MuData, report: EvaluationReport
) -> None:
    before, state = fingerprint(cells), (torch.random.get_rng_state(), np.random.get_state()[1].copy())  # noqa: NPY002
    again = model.evaluate(labels="donor", **QUICK)
    pd.testing.assert_frame_equal(again.to_frame(), report.to_frame())
    other = model.evaluate(labels="donor", seed=1, **QUICK)
    assert not np.allclose(other.bounds["mean"], report.bounds["mean"])
    assert fingerprint(cells) == before
    torch.testing.assert_close(torch.random.get_rng_state(), state[0])
    np.testing.assert_array_equal(np.random.get_state()[1], state[1])  # noqa: NPY002


def test_other_cells_with_labels_of_every_form(model: MultiVAE, cells: mudata.MuData) -> None:
    part = cells[model.validation_indices].copy()
    labels = part.obs["donor"]
    found = [
        model.evaluate(mdata=part, labels=given, **QUICK).feature_scores
        for given in (
            "donor",
            labels,
            labels.sample(frac=1.0, random_state=0),
            labels.to_numpy(),
            list(labels),
        )
    ]
    for each in found:
        pd.testing.assert_frame_equal(each, found[0])
    assert found[0]["within_type"].notna().all()
    own = model.evaluate(model.validation_indices, labels=cells.obs["donor"].to_numpy(), **QUICK)
    np.testing.assert_allclose(own.feature_scores["within_type"], found[0]["within_type"], atol=1e-4)


def test_missing_labels_are_none(cells: mudata.MuData, model: MultiVAE) -> None:
    labels = pd.Series(["a", None, np.nan, 3], index=model._data.cell_names[:4])
    found = read_labels(labels, cells.obs, model._data, np.arange(4))
    assert found is not None
    assert found.tolist() == ["a", None, None, "3"]
    assert read_labels(None, cells.obs, model._data, np.arange(4)) is None


def test_one_modality_alone(cells: mudata.MuData) -> None:
    alone = mudata.MuData({"rna": cells["rna"].copy()})
    MultiVAE.setup_mudata(alone, likelihoods={"rna": "nb"})
    model = train(make_model(alone), 3)
    found = model.evaluate(**QUICK)
    assert found.agreement.empty
    assert found.feature_scores.empty
    assert "Evaluation of" in str(found)
    assert len(found.plot()) == 6
    with pytest.raises(InputError, match=r"one modality, 'rna'.*setup_mudata"):
        model.consistency()


def test_a_modality_with_a_name_that_is_taken() -> None:
    kinds = {"rna": "nb", "all": "nb"}
    model = train(make_model(register(make_cells(kinds), kinds)), 1, validation_size=0.5)
    with pytest.raises(InputError, match=r"called 'all'.*MuData"):
        model.evaluate()


def test_training_cells_are_warned_of(model: MultiVAE) -> None:
    with pytest.warns(MultiomicsWarning, match=r"20 of the 20 evaluated cells were trained on"):
        model.evaluate(model.train_indices[:20], **QUICK)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (
            {"labels": "doner"},
            r"no column 'doner' in obs\. Did you mean 'donor'.*labels=mdata\.obs\['doner'\]",
        ),
        ({"labels": ["a", "b"]}, r"labels has shape \(2,\), but 64 cells"),
        ({"labels": pd.Series(["a"], index=["c0"])}, r"labels has no entry for .* of 64 cells"),
        ({"indices": [3]}, "two cells or more"),
        ({"indices": [3, 3]}, "1 of them different"),
        ({"indices": ["c1", "d1"]}, "names a cell 'd1'"),
        ({"n_samples": 0}, "n_samples"),
        ({"n_importance_samples": 1}, "n_importance_samples must be a whole number of at least 2"),
        ({"n_importance_cells": 0}, "n_importance_cells"),
        ({"n_features_scored": 0.5}, "n_features_scored"),
        ({"seed": -1}, "seed"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_row_70_bad_arguments_of_evaluate(model: MultiVAE, arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        model.evaluate(**arguments)


def test_row_66_not_before_training() -> None:
    for ask in (make_model().evaluate, make_model().consistency):
        with pytest.raises(NotFittedError, match="has not been trained"):
            ask()


def test_a_loaded_model_must_be_told_what_was_held_out(
    model: MultiVAE, cells: mudata.MuData, tmp_path: Path
) -> None:
    model.save(tmp_path / "model")
    loaded = MultiVAE.load(tmp_path / "model", cells)
    with pytest.raises(InputError, match=r"no held-out cells.*model\.evaluate\(test_indices\)"):
        loaded.evaluate()
    with pytest.raises(InputError, match=r"model\.consistency\(reference=test_indices\)"):
        loaded.consistency()
    found = loaded.consistency(reference=model.validation_indices)
    pd.testing.assert_frame_equal(found, model.consistency(), rtol=1e-4)


# Consistency


def test_consistency_has_a_row_for_every_cell(model: MultiVAE, cells: mudata.MuData) -> None:
    found = model.consistency()
    assert list(found.index) == list(cells.obs_names)
    columns = ["d2_rna_atac", "distance", "largest_distance", "p_value", "p_swapped"]
    assert list(found.columns) == columns
    lacks = ~model._data.present.all(1)
    for column in columns:
        np.testing.assert_array_equal(found[column].isna(), lacks)
    some = model.consistency(indices=["c30", "c100"])
    pd.testing.assert_frame_equal(some, found.loc[["c30", "c100"]], rtol=1e-4)


def test_cells_with_swapped_modalities_stand_out(model: MultiVAE, cells: mudata.MuData) -> None:
    held_out = cells[model.validation_indices].copy()
    both = held_out.obs_names[held_out.obs_names.isin(held_out["rna"].obs_names)]
    peaks = held_out["atac"].copy()
    peaks.X = peaks.X[np.random.default_rng(0).permutation(peaks.n_obs)]
    mixed = mudata.MuData({"rna": held_out["rna"].copy(), "atac": peaks})
    mixed.obs[["batch", "donor"]] = held_out.obs.loc[mixed.obs_names, ["batch", "donor"]]
    matched, swapped = (model.consistency(each).loc[both, "p_value"].dropna() for each in (held_out, mixed))
    assert (swapped < 0.1).mean() > 0.25
    assert (matched < 0.1).mean() < 0.2
    assert swapped.median() < matched.median() - 0.1


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"reference": ["c1", "x"]}, "names a cell 'x'"),
        ({"reference": [20, 21]}, r"Only 2 reference cells have \['rna', 'atac'\]"),
        ({"seed": 0.5}, "seed"),
        ({"batch_size": -1}, "batch_size"),
    ],
)
def test_row_70_bad_arguments_of_consistency(model: MultiVAE, arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        model.consistency(**arguments)


@pytest.mark.slow
def test_the_posterior_beside_nuts(model: MultiVAE) -> None:
    report = model.evaluate(model.validation_indices, reference="nuts", n_reference_cells=2, **QUICK)
    assert list(report.reference.columns)[:3] == ["mean_distance", "sd_ratio", "kl"]
    assert len(report.reference) == 2
    assert "Posterior beside NUTS" in str(report)
    rows = report.to_frame().set_index("measure").loc["nuts"]
    assert set(rows["detail"]) == set(report.reference.columns)


def test_an_unknown_reference_is_refused(model: MultiVAE) -> None:
    with pytest.raises(InputError, match=r"reference='nut'.*'nuts'"):
        model.evaluate(model.validation_indices, reference="nut", **QUICK)
