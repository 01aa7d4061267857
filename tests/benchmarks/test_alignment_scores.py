"""The scores and the swapped cells of the alignment benchmark."""

from __future__ import annotations

import mudata
import numpy as np
import pytest

from alignment_data import AlignmentData, with_swapped
from alignment_scores import detection, foscttm, pearson_per_column, transferred_accuracy
from scores import held_out_split
from small_models import make_cells

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def test_foscttm_is_zero_for_matches_and_one_for_the_farthest() -> None:
    places = np.arange(5.0)[:, None]
    assert foscttm(places, places) == 0.0
    assert foscttm(np.array([[0.0], [1.0]]), np.array([[1.0], [0.0]])) == 1.0
    # By hand: cell 0 sees 1 before its own 2, cell 1 its own first, cell 2 both others before its own.
    first, second = np.array([[0.0], [1.0], [2.0]]), np.array([[1.6], [1.1], [-3.0]])
    forth, back = np.mean([1 / 2, 0 / 2, 2 / 2]), np.mean([2 / 2, 0 / 2, 2 / 2])
    assert foscttm(first, second) == pytest.approx((forth + back) / 2)


def test_foscttm_of_noise_is_a_half() -> None:
    rng = np.random.default_rng(0)
    assert foscttm(rng.normal(size=(800, 3)), rng.normal(size=(800, 3))) == pytest.approx(0.5, abs=0.03)


def test_pearson_is_numpys() -> None:
    rng = np.random.default_rng(0)
    truth, predicted = rng.poisson(4.0, (50, 3)), rng.gamma(2.0, 2.0, (50, 3))
    each = [np.corrcoef(np.log1p(truth[:, j]), np.log1p(predicted[:, j]))[0, 1] for j in range(3)]
    assert pearson_per_column(truth, predicted) == pytest.approx(np.mean(each))


def test_transfer_and_detection() -> None:
    Z = np.repeat([0.0, 5.0], 40)[:, None] + np.linspace(0, 1, 80)[:, None]
    labels = np.repeat(["a", "b"], 40)
    asked = np.arange(80) % 4 == 0
    assert transferred_accuracy(Z, labels, ~asked, asked) == 1.0
    assert np.isnan(transferred_accuracy(Z, labels, ~asked, np.zeros(80, dtype=bool)))
    assert detection(Z[:, 0], labels == "b") == 1.0


def test_swapped_cells_get_the_values_of_one_another() -> None:
    mdata = make_cells(n_cells=40, lacking={"atac": range(8)})
    data = AlignmentData(
        "small", "atac", {}, None, mdata, np.full(40, "a"), held_out_split(40), np.full(40, "", dtype="U4")
    )
    before: mudata.MuData = mdata.copy()
    spoiled = with_swapped(data, 0.5)
    assert data.paired.sum() == 32
    assert sorted(np.unique(spoiled.swapped, return_counts=True)[1].tolist()) == [8, 8, 24]
    assert (spoiled.swapped[~data.paired] == "").all()
    for name in ("rna", "atac"):
        old, new = (m[name].to_df() for m in (before, spoiled.mdata))
        cells = mdata.obs_names[spoiled.swapped == name]
        assert (old.drop(cells).to_numpy() == new.drop(cells).to_numpy()).all()
        assert (old.loc[cells].to_numpy() != new.loc[cells].to_numpy()).any()
        assert sorted(map(tuple, old.to_numpy())) == sorted(map(tuple, new.to_numpy()))
        np.testing.assert_array_equal(mdata[name].to_df(), old)  # what was given is as it was
