"""Whose the cells are, and what their cells agree on."""

from __future__ import annotations

import numpy as np
import pytest

from multiomics_vae.data.donors import donor_outcomes, is_of_donors
from multiomics_vae.data.options import SetupOptions
from multiomics_vae.data.registration import read, register
from multiomics_vae.errors import InputError
from small_models import make_cells


def _data(response, donor=("d0", "d1", "d2"), n_cells=12):
    mdata = make_cells(n_cells=n_cells)
    repeats = n_cells // 3
    mdata.obs["donor"] = list(donor) * repeats
    mdata.obs["response"] = response if len(response) == n_cells else list(response) * repeats
    return register(mdata, SetupOptions(donor_key="donor", outcomes={"response": "binary"}))


def test_donors_are_coded_by_name_and_may_have_gaps():
    data = _data(["no", "yes", "no"], donor=("b", "nan", "a"))
    assert data.labels.donor_names == ("a", "b")
    assert data.donor.tolist() == [1, -1, 0] * 4
    numbered = _data(["no", "yes", "no"], donor=(3, 10, 3.0))
    assert numbered.labels.donor_names == ("10", "3")


def test_a_donor_is_what_its_cells_say_and_gaps_say_nothing():
    response = ["no", "yes", None] + [None, None, "yes"] + [None] * 6
    data = _data(response)
    outcome = data.schema.outcome("response")
    assert donor_outcomes(data, outcome)[:, 0].tolist() == [0.0, 1.0, 1.0]
    assert is_of_donors(data, outcome)
    unknown = _data(["no", "yes", None])
    assert np.isnan(donor_outcomes(unknown, outcome)[2, 0])


def test_a_donor_whose_cells_contradict_one_another_is_named():
    data = _data(["no", "yes", "no"] * 3 + ["no", "no", "no"])
    outcome = data.schema.outcome("response")
    with pytest.raises(InputError, match=r"cells of donor 'd1', such as 'c1' and 'c10'.*level='cell'"):
        donor_outcomes(data, outcome)
    assert not is_of_donors(data, outcome)


def test_one_labelled_donor_or_none_tells_nothing():
    assert not is_of_donors(_data(["no"] + ["yes"] * 11), _data(["no", "yes", "no"]).schema.outcomes[0])
    mdata = make_cells(n_cells=12)
    mdata.obs["response"] = ["no", "yes"] * 6
    data = register(mdata, SetupOptions(outcomes={"response": "binary"}))
    assert not is_of_donors(data, data.schema.outcomes[0])
    with pytest.raises(InputError, match=r'donor_key="donor"'):
        donor_outcomes(data, data.schema.outcomes[0])


def test_no_donor_at_all_is_refused_and_a_wrong_column_named():
    with pytest.raises(InputError, match=r"names no donor"):
        _data(["no", "yes", "no"], donor=("nan", None, ""))
    with pytest.raises(InputError, match=r"`donor_key`: there is no column 'doner'.*'donor'"):
        register(make_cells(), SetupOptions(donor_key="doner"))


def test_other_cells_may_be_of_other_donors_or_of_nobody_known():
    schema = _data(["no", "yes", "no"]).schema
    assert schema.donor_key == "donor"
    other = make_cells(n_cells=6)
    other.obs["donor"] = ["x", "y"] * 3
    assert read(other, schema).labels.donor_names == ("x", "y")
    del other.obs["donor"]
    assert (read(other, schema).donor == -1).all()
    with pytest.raises(InputError, match=r"`donor_key`: there is no column 'donor'"):
        read(other, schema, donor_needed=True)


def test_a_schema_names_no_patient():
    from multiomics_vae.data.schema_json import to_json

    assert "d1" not in str(to_json(_data(["no", "yes", "no"]).schema))


def test_new_batches_are_refused_unless_they_may_be_averaged():
    mdata = make_cells(n_cells=6)
    schema = register(mdata, SetupOptions(batch_key="batch")).schema
    other = make_cells(n_cells=6)
    other.obs["batch"] = ["b1", "new"] * 3
    with pytest.raises(InputError, match="'new'"):
        read(other, schema)
    assert read(other, schema, average_new_batches=True).batch.tolist() == [1, -1] * 3
