"""Training curves and expert weights: what is drawn is what was given."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from multiomics_vae import plotting
from multiomics_vae.errors import InputError, NotFittedError
from multiomics_vae.plotting.style import MISSING
from multiomics_vae.training.history import History
from small_models import make_model, train

mpl.use("Agg")
PARTS = ("train", "validation")


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    plt.close("all")
    yield
    plt.close("all")


def history(n_epochs: int = 3, parts: tuple[str, ...] = PARTS) -> History:
    names = ("elbo", "kl", "klf4_log_likelihood", "rna_log_likelihood", "rna_subset_log_likelihood", "loss")
    return History(
        [{f"{n}_{p}": 10.0 * e + i for i, n in enumerate(names) for p in parts} for e in range(n_epochs)]
    )


def test_a_panel_for_every_quantity_that_matters() -> None:
    given = history()
    axes = plotting.training_curves(given)
    assert all(isinstance(ax, Axes) for ax in axes)
    assert [ax.get_title() for ax in axes] == ["ELBO", "KL", "klf4: log likelihood", "rna: log likelihood"]
    for ax, name in zip(axes, ("elbo", "kl", "klf4_log_likelihood", "rna_log_likelihood"), strict=True):
        lines = {line.get_label(): line for line in ax.lines}
        assert set(lines) == {"training", "held out"}
        np.testing.assert_array_equal(lines["training"].get_ydata(), given[f"{name}_train"])
        np.testing.assert_array_equal(lines["held out"].get_ydata(), given[f"{name}_validation"])
        np.testing.assert_array_equal(lines["training"].get_xdata(), [1, 2, 3])
        assert ax.get_xlabel() == "epoch"


def test_nothing_held_out() -> None:
    axes = plotting.training_curves(history(parts=("train",)))
    assert [len(ax.lines) for ax in axes] == [1, 1, 1, 1]


def test_one_epoch_is_seen() -> None:
    axes = plotting.training_curves(history(1))
    assert {line.get_marker() for ax in axes for line in ax.lines} == {"o"}


def test_a_model_that_was_trained() -> None:
    assert len(plotting.training_curves(train(make_model()).history)) == 4


def test_given_axes_are_used() -> None:
    figure, given = plt.subplots(1, 4)
    assert plotting.training_curves(history(), axes=list(given)) == list(given)
    assert plt.get_fignums() == [figure.number]


def test_curves_that_cannot_be_drawn_leave_no_figure_behind() -> None:
    with pytest.raises(NotFittedError, match=r"history is empty.*model\.train\(\)"):
        plotting.training_curves(History())
    assert plt.get_fignums() == []
    _, given = plt.subplots(1, 3)
    with pytest.raises(InputError, match=r"3 axes for 4 panels \(elbo, kl, klf4_log"):
        plotting.training_curves(history(), axes=list(given))
    assert not any(ax.lines for ax in given)


def weights() -> pd.DataFrame:
    table = np.array([[0.2, 0.8, 0.0], [0.4, 0.6, 0.0], [0.1, 0.1, 0.8], [0.1, 0.3, 0.6]])
    return pd.DataFrame(table, columns=["prior", "rna", "atac"], index=list("abcd"))


def test_bars_are_averages_by_group() -> None:
    groups = pd.Categorical(["y", "y", "x", "x"], categories=["y", "unused", "x"])
    ax = plotting.expert_weights(weights(), pd.Series(groups, index=list("efgh")))
    assert [text.get_text() for text in ax.get_yticklabels()] == ["y", "x"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["prior", "rna", "atac"]
    bars = {container.get_label(): container.patches for container in ax.containers}
    widths = {name: [bar.get_width() for bar in patches] for name, patches in bars.items()}
    assert widths["prior"] == pytest.approx([0.3, 0.1])
    assert widths["rna"] == pytest.approx([0.7, 0.2])
    assert widths["atac"] == pytest.approx([0.0, 0.7])
    assert [bar.get_x() for bar in bars["atac"]] == pytest.approx([1.0, 0.3])
    assert mpl.colors.to_hex(bars["prior"][0].get_facecolor()).upper() == MISSING
    top, bottom = ax.get_ylim()
    assert top > bottom


def test_cells_without_a_group_are_left_out() -> None:
    ax = plotting.expert_weights(weights(), np.array(["x", None, "x", None], dtype=object))
    assert [text.get_text() for text in ax.get_yticklabels()] == ["x"]


def test_experts_are_drawn_into_given_axes() -> None:
    figure, given = plt.subplots()
    assert plotting.expert_weights(weights(), np.array(["x"] * 4), ax=given) is given
    assert plt.get_fignums() == [figure.number]


def test_groups_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="3 groups for 4 cells"):
        plotting.expert_weights(weights(), np.array(["x"] * 3))
    assert plt.get_fignums() == []


def test_expert_weights_of_a_model() -> None:
    model = train(make_model(fusion="gated"), 1)
    ax = plotting.expert_weights(model.get_expert_weights(), np.full(40, "all"))
    assert sum(bar.get_width() for bar in ax.patches) == pytest.approx(1.0, abs=1e-5)
