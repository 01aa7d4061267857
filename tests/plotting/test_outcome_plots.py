"""Pictures of outcomes show what they were given, and say what cannot be drawn."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from known_results import CATEGORIES, make_result
from multiomics_vae import plotting
from multiomics_vae.analysis.outcomes.curves import risk_groups
from multiomics_vae.analysis.outcomes.discrimination import auroc
from multiomics_vae.errors import InputError


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.mark.parametrize(("kind", "n_panels"), [
    ("binary", 4), ("categorical", 4), ("ordinal", 4), ("continuous", 2), ("survival", 2),
])  # fmt: skip
def test_a_cross_validation_of_every_kind_is_drawn(kind: str, n_panels: int) -> None:
    axes = make_result(kind).plot(show=False)
    assert len(axes) == n_panels
    assert axes[0].get_title() == "Held-out donors"
    texts = [label.get_text() for label in axes[0].get_yticklabels()]
    assert sum("clinical" in text for text in texts) == len(texts) // 3


def test_roc_curves_enclose_the_scored_area_and_lie_in_their_bands() -> None:
    result = make_result("binary", n_repeats=1)
    bands = result.roc_bands()
    assert set(bands) == {"model", "clinical"}
    run = result.run().results
    area = np.trapezoid(bands["model"].y, bands["model"].x)
    assert area == pytest.approx(auroc(run.truth == 1, run.predicted[0, :, 1]), abs=0.02)
    assert (
        (bands["model"].low <= bands["model"].y) & (bands["model"].y <= bands["model"].high)
    ).mean() > 0.95
    ax = plotting.roc(bands, show=False)
    drawn = next(line for line in ax.get_lines() if line.get_label() == "model")
    np.testing.assert_array_equal(drawn.get_ydata(), bands["model"].y)
    assert set(make_result("ordinal").roc_bands()) == set(CATEGORIES["ordinal"])
    plotting.precision_recall(result.precision_recall_bands(), share=0.5, show=False)


def test_reliability_draws_what_is_in_its_table() -> None:
    curve = make_result("binary").reliability()["model"]
    ax = plotting.reliability(curve, show=False)
    line = next(each for each in ax.get_lines() if each.get_marker() == "o")
    np.testing.assert_allclose(np.asarray(line.get_xdata(), float), curve.table["predicted"])
    np.testing.assert_allclose(np.asarray(line.get_ydata(), float), curve.table["observed"])


def test_patients_of_higher_predicted_risk_die_sooner() -> None:
    groups = make_result("survival").risk_groups()
    assert groups.names == ("low risk", "high risk")
    assert groups.p_value < 0.01
    low, high = (curve.at(np.array([300.0]))[0] for curve in groups.curves)
    assert low > high
    ax = plotting.kaplan_meier(groups, unit="days", show=False)
    assert "days" in ax.get_xlabel()
    assert "log-rank p" in ax.get_legend().get_title().get_text()
    three = make_result("survival").risk_groups(3)
    assert [int(curve.at_risk[0]) for curve in three.curves] == [20, 20, 20]


def test_curves_of_other_kinds_are_refused() -> None:
    with pytest.raises(InputError, match="has no probabilities of classes"):
        make_result("survival").roc_bands()
    with pytest.raises(InputError, match="has no survival curve"):
        risk_groups(make_result("binary").run().results)


def test_attention_is_relative_to_the_average_cell_of_a_donor() -> None:
    cells = pd.Index([f"c{i}" for i in range(6)])
    weights = pd.Series([0.5, 0.25, 0.25, 0.8, 0.1, 0.1], index=cells)
    types = pd.Series(["B", "T", "T", "B", "T", "T"], index=cells)
    donors = pd.Series(["d0"] * 3 + ["d1"] * 3, index=cells)
    ax = plotting.attention(weights, types, donors, show=False)
    widths = {t.get_text(): bar.get_width() for t, bar in zip(ax.get_yticklabels(), ax.patches, strict=True)}
    assert widths["B"] == pytest.approx((1.5 + 2.4) / 2)
    assert widths["T"] == pytest.approx((0.75 + 0.3) / 2)
    with pytest.raises(InputError, match="There is no attention to draw"):
        plotting.attention(weights[:0], types, donors)
    with pytest.raises(InputError, match="1 cells with attention, such as 'c5'"):
        plotting.attention(weights, types[:5], donors)
