"""Association and nesting of two groupings, against scipy and known tables."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from multiomics_vae.data.confounding import STRONG, confounding, cramers_v, warn_of_label
from multiomics_vae.data.registration import SetupOptions, register
from multiomics_vae.errors import MultiomicsWarning
from small_models import make_cells


def test_v_is_that_of_scipys_chi_square_with_the_bias_taken_out():
    counts = np.array([[30, 10, 5], [8, 40, 7]])
    n, (r, c) = counts.sum(), counts.shape
    phi = chi2_contingency(counts, correction=False).statistic / n
    corrected = max(0, phi - (r - 1) * (c - 1) / (n - 1))
    smaller = min(r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)) - 1
    assert cramers_v(counts) == pytest.approx(np.sqrt(corrected / smaller))


def test_v_of_independent_groupings_is_near_zero_and_of_equal_ones_one():
    generator = np.random.default_rng(0)
    values = []
    for _ in range(200):
        first, second = generator.integers(4, size=30), generator.integers(5, size=30)
        values.append(confounding(first, second).cramers_v)
    assert np.median(values) < 0.1  # without the correction it is near 0.37
    assert confounding(first, first).cramers_v == pytest.approx(1.0)
    assert cramers_v(np.array([[5, 5]])) == cramers_v(np.zeros((0, 0))) == 0.0


def test_which_one_decides_the_other():
    site = ["a", "a", "b", "c"]
    response = ["yes", "yes", "yes", "no"]
    found = confounding(site, response, ("site", "response"))
    assert found.first_decides
    assert not found.second_decides
    assert found.inseparable
    turned = confounding(response, site)
    assert turned.second_decides
    assert not turned.first_decides
    crossed = confounding(["a", "a", "b", "b"], [0, 1, 0, 1])
    assert not crossed.inseparable
    assert not crossed.strong
    assert found.table.loc["a", "yes"] == 2
    assert found.table.columns.name == "response"


def test_one_category_is_confounded_with_nothing():
    assert not confounding(["a"] * 4, [0, 1, 0, 1]).inseparable
    assert not confounding([0, 1, 0, 1], ["a"] * 4).inseparable


def test_donors_are_counted_once_and_missing_values_are_left_out():
    donor = ["d1"] * 50 + ["d2"] * 3 + ["d3"] * 3 + ["d4"] * 2
    site = ["a"] * 53 + ["b"] * 5
    response = ["yes"] * 50 + ["no"] * 3 + ["yes"] * 3 + [None, None]
    found = confounding(site, response, units=donor)
    assert found.table.to_numpy().tolist() == [[1, 1], [0, 1]]


def test_other_lengths_are_refused():
    with pytest.raises(ValueError, match=r"\[3, 2\] entries"):
        confounding([1, 2, 3], [1, 2])


@pytest.mark.parametrize("share", [0.95, 0.5])
def test_a_strong_association_is_told_with_its_table(share):
    generator = np.random.default_rng(0)
    batch = generator.integers(2, size=400)
    label = np.where(generator.random(400) < share, batch, 1 - batch)
    if share == 0.5:
        assert warn_of_label(batch, label, ("site", "type")).cramers_v < STRONG  # and no warning, or it fails
        return
    with pytest.warns(MultiomicsWarning, match=r"'site' and 'type' go together(.|\n)*Cramér's V 0\.[89]"):
        found = warn_of_label(batch, label, ("site", "type"))
    assert found.strong
    assert not found.inseparable


def test_what_no_method_can_separate_is_told():
    with pytest.warns(
        MultiomicsWarning, match=r"'donor' decides 'severity'(.|\n)*Counts of donors(.|\n)*mild"
    ):
        warn_of_label(
            ["d1", "d1", "d2"], ["mild", "mild", "severe"], ("donor", "severity"), ["d1", "d1", "d2"]
        )


def test_long_tables_are_cut():
    found = confounding(np.arange(20), np.arange(20))
    assert "8 more rows, 12 more columns" in found.as_text()


def test_batches_of_one_modality_are_told_with_the_table():
    mdata = make_cells(n_cells=44, lacking={"atac": range(20)})
    mdata.obs["batch"] = ["first"] * 20 + ["second"] * 24
    with pytest.warns(MultiomicsWarning, match=r"2 sets of modalities in 2 batches(.|\n)*second +0 +24"):
        register(mdata, SetupOptions(batch_key="batch"))


def test_a_batch_with_mostly_one_modality_is_told():
    mdata = make_cells(n_cells=44, lacking={"atac": range(19)})
    mdata.obs["batch"] = ["first"] * 20 + ["second"] * 24
    with pytest.warns(
        MultiomicsWarning, match=r"which modalities a cell has go together(.|\n)*rna \+ atac|atac"
    ):
        register(mdata, SetupOptions(batch_key="batch"))


def test_modalities_that_are_missing_anywhere_are_not_told(recwarn):
    mdata = make_cells(n_cells=44, lacking={"atac": range(0, 44, 3)})
    mdata.obs["batch"] = ["first"] * 20 + ["second"] * 24
    register(mdata, SetupOptions(batch_key="batch"))
    assert not [
        w for w in recwarn if "odalities" in str(w.message) and issubclass(w.category, MultiomicsWarning)
    ]


# --- outcomes that were registered -----------------------------------------------------------------


def with_donors(n_donors=8):
    """Donors of two sites, with five cells each."""
    mdata = make_cells(n_cells=5 * n_donors)
    donor = np.arange(5 * n_donors) // 5
    mdata.obs["donor"] = [f"d{i}" for i in donor]
    mdata.obs["site"] = np.where(donor % 2 == 0, "a", "b")
    return mdata, donor


def registered(mdata, **outcomes):
    return register(mdata, SetupOptions(batch_key="site", donor_key="donor", outcomes=outcomes))


def test_an_outcome_that_goes_with_the_batch_is_told_in_donors():
    mdata, donor = with_donors()
    mdata.obs["response"] = np.where(donor % 2 == 0, "yes", "no")
    with pytest.warns(MultiomicsWarning, match=r"'site' decides 'response'(.|\n)*donors(.|\n)*a +0 +4"):
        registered(mdata, response="categorical")
    mdata.obs["response"] = donor + 10.0 * (donor % 2)
    with pytest.warns(MultiomicsWarning, match=r"'site'.*'response'(.|\n)*donors(.|\n)*third"):
        registered(mdata, response="continuous")


def test_an_outcome_that_does_not_is_not_told(recwarn):
    mdata, donor = with_donors()
    mdata.obs["response"] = np.where(donor % 4 < 2, "yes", "no")
    mdata.obs["age"] = 30.0 + donor // 2
    registered(mdata, response="categorical", age="continuous")
    assert not [w for w in recwarn if "Counts of" in str(w.message)]


def test_types_of_cells_are_counted_in_cells():
    mdata, donor = with_donors()
    mdata.obs["type"] = np.where(np.arange(40) % 5 == 0, "rare", np.where(donor % 2 == 0, "x", "y"))
    with pytest.warns(MultiomicsWarning, match=r"'site' and 'type' go together(.|\n)*Counts of cells"):
        registered(mdata, type="categorical")
