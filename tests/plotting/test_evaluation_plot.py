"""The figure of an evaluation: what is drawn is what the report says."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from multiomics_vae import plotting
from multiomics_vae.analysis.evaluation.report import EvaluationReport
from small_models import make_cells, make_model, register, train

mpl.use("Agg")


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    plt.close("all")
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def report() -> EvaluationReport:
    cells = register(make_cells(n_cells=100), batch_key="batch")
    model = train(make_model(cells), 3, validation_size=0.5)
    return model.evaluate(
        labels=cells.obs["donor"], n_importance_samples=100, n_importance_cells=5, n_samples=2
    )


def test_six_panels_with_what_was_measured(report: EvaluationReport) -> None:
    axes = report.plot()
    assert len(axes) == 6
    assert [ax.get_title() != "" for ax in axes] == [True] * 6
    likelihood, bounds, weights, units, entropy, scores = axes
    gains = report.log_likelihood[report.log_likelihood["given"] != "nothing"]
    assert sorted(bar.get_height() for bar in likelihood.patches) == pytest.approx(sorted(gains["gain"]))
    assert len(bounds.lines) == 5
    for line in bounds.lines:
        np.testing.assert_array_equal(line.get_xdata(), [1, 10, 100])
        assert line.get_ydata()[0] == 0.0
    assert [bar.get_width() for bar in weights.patches] == pytest.approx(
        list(report.weight_variances["variance"])
    )
    np.testing.assert_allclose(
        units.lines[0].get_ydata(), np.sort(report.unit_activity["all"].to_numpy())[::-1]
    )
    assert {text.get_text() for text in entropy.texts} == {"nothing", "rna", "atac", "rna+atac"}
    shown = report.feature_scores[report.feature_scores["score"] != "auprc_of_chance"]
    widths = [bar.get_width() for bar in scores.patches]
    assert widths == pytest.approx([*shown["overall"], *shown["within_type"]])


def test_chance_is_marked(report: EvaluationReport) -> None:
    scores = plotting.evaluation(report)[5]
    chance = report.feature_scores.set_index("score").loc["auprc_of_chance"]
    names = [label.get_text() for label in scores.get_yticklabels()]
    marks = {names.index("atac from rna\nAUROC"): 0.5, names.index("atac from rna\nAUPRC"): chance["overall"]}
    drawn = {round(np.mean(line.get_ydata()) + 0.2, 6): line.get_xdata()[0] for line in scores.lines}
    for place, level in marks.items():
        assert drawn[place] == pytest.approx(level)


def test_no_figure_is_left_open_but_one(report: EvaluationReport) -> None:
    report.plot()
    assert len(plt.get_fignums()) == 1
