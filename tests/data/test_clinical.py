"""What is known of patients as modalities, patients without cells included."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from multiomics_vae import Head, with_clinical
from multiomics_vae.errors import InputError, MultiomicsWarning
from small_models import USUAL, fingerprint, make_cells, make_model, register, train

BOTH = {"clinical": "gaussian", "clinical_categories": "categorical"}


def _cells(n_cells=36):
    mdata = make_cells(n_cells=n_cells)
    patient = np.array([int(name[1:]) % 6 for name in mdata.obs_names])
    mdata.obs["donor"] = [f"d{i}" for i in patient]
    mdata.obs["years"] = np.array([30.0, 40.0, np.nan, 50.0, 60.0, 70.0])[patient]
    mdata.obs["stage"] = np.array(["I", "II", "nan", "I", "II", "III"], dtype=object)[patient]
    mdata.obs["response"] = np.array(["no", "yes"])[(patient > 2).astype(int)]
    return mdata


PATIENTS = pd.DataFrame(
    {"donor": ["p1", "p2"], "years": [3.0, np.nan], "stage": ["I", None], "batch": "b0"}, index=["p1", "p2"]
)


def test_numbers_and_categories_become_modalities_and_gaps_stay_gaps():
    mdata = _cells()
    before = fingerprint(mdata)
    found = with_clinical(mdata, ["years", "stage"])
    assert fingerprint(mdata) == before
    assert list(found.mod) == ["rna", "atac", "clinical", "clinical_categories"]
    assert found["rna"].X is mdata["rna"].X
    assert found["clinical"].n_obs == 30  # nothing else is known of the cells of d2
    codes = found["clinical_categories"]
    assert codes.uns["categories"] == {"stage": ["I", "II", "III"]}
    assert codes[["c0", "c1", "c5"]].X[:, 0].tolist() == [0.0, 1.0, 2.0]
    assert "c2" not in codes.obs_names
    assert found.obs.loc["c1", "donor"] == "d1"


def test_patients_without_cells_are_observations_of_their_own():
    found = with_clinical(_cells(), ["years", "stage"], patients=PATIENTS.assign(stage=["I", "II"]))
    assert found.n_obs == 38
    assert found.obs.loc[["p1", "p2"], "donor"].tolist() == ["p1", "p2"]
    assert "p1" not in found["rna"].obs_names
    assert found["clinical"]["p1"].X[0, 0] == 3.0
    assert "p2" not in found["clinical"].obs_names


def test_like_gives_new_patients_the_same_codes():
    first = with_clinical(_cells(), ["years", "stage"])
    new = _cells(6)
    new.obs["stage"] = ["III", "IV", "I", "I", "I", "I"]
    with pytest.warns(MultiomicsWarning, match=r"'IV', which `like` does not have"):
        found = with_clinical(new, like=first)
    assert found["clinical_categories"]["c0"].X[0, 0] == 2.0
    assert "c1" not in found["clinical_categories"].obs_names
    with pytest.raises(InputError, match="Leave `columns` out"):
        with_clinical(new, ["years"], like=first)
    with pytest.raises(InputError, match="no clinical modality"):
        with_clinical(new, like=new)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"columns": "years"}, r"columns=\['years'\]"),
        ({"columns": []}, r"Name the columns"),
        ({"columns": ["yeers"]}, r"no column 'yeers'.*'years'"),
        ({"columns": ["empty"]}, r"'empty' has no value"),
        ({"columns": ["years"], "patients": PATIENTS[["donor"]]}, r"`patients` has no column 'years'"),
        (
            {"columns": ["years"], "patients": PATIENTS.set_axis(["c1", "p"], axis=0)},
            r"'c1', which is the name of a cell",
        ),
    ],
)
def test_what_is_refused(arguments, match):
    mdata = _cells()
    mdata.obs["empty"] = np.nan
    with pytest.raises(InputError, match=match):
        with_clinical(mdata, **arguments)


def test_twice_is_refused():
    with pytest.raises(InputError, match="a modality 'clinical' already"):
        with_clinical(with_clinical(_cells(), ["years"]), ["years"])


def test_a_patient_without_cells_is_predicted():
    mdata = with_clinical(_cells(), ["years", "stage"])
    register(mdata, USUAL | BOTH, donor_key="donor", outcomes={"response": "binary"})
    model = train(make_model(mdata, heads={"response": Head(level="donor")}))
    new = with_clinical(_cells(3), like=mdata, patients=PATIENTS.assign(years=[3.0, 50.0]))
    prediction = model.predict("response", new)
    assert prediction.table.index.tolist() == ["d0", "d1", "d2", "p1", "p2"]
    assert prediction.table.loc["p1", "n_cells"] == 1
    probabilities = prediction.table[["p_no", "p_yes"]]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
    alone = model.predict("response", new, ["p1"])
    np.testing.assert_allclose(alone.table.loc["p1", "p_yes"], prediction.table.loc["p1", "p_yes"], rtol=1e-5)
