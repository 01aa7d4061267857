"""Outcomes of every kind as codes and numbers, gaps allowed, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from multiomics_vae.data.describe import describe
from multiomics_vae.data.options import SetupOptions, options_of
from multiomics_vae.data.registration import read, register
from multiomics_vae.data.schema import OutcomeSchema
from multiomics_vae.data.schema_json import from_json, to_json
from multiomics_vae.errors import CheckpointError, InputError, MultiomicsWarning
from small_models import make_cells

N = 12


def _cells(**columns):
    mdata = make_cells(n_cells=N)
    for key, values in columns.items():
        mdata.obs[key] = values
    return mdata


def _register(column, kind, key="y", **options):
    return register(_cells(**{key: column}), SetupOptions(outcomes={key: kind}, **options))


def _only(data):
    (outcome,) = data.schema.outcomes
    return outcome, data.outcomes[:, data.schema.label_columns(outcome.name)]


@pytest.mark.parametrize(
    ("column", "categories"),
    [
        (["no", "yes"] * 6, ("no", "yes")),
        ([0, 1] * 6, ("0", "1")),
        ([0.0, 1.0, np.nan] * 4, ("0", "1")),
        ([False, True] * 6, ("False", "True")),
        ([True, None, False] * 4, ("False", "True")),
        (pd.Categorical(["R", "NR"] * 6, categories=["NR", "R", "never seen"]), ("NR", "R")),
        (["no", "yes", "nan"] * 4, ("no", "yes")),
        (["no", "yes", "Unknown"] * 4, ("no", "yes")),
    ],
)
def test_two_categories_in_every_form(column, categories):
    outcome, labels = _only(_register(column, "binary"))
    assert outcome == OutcomeSchema("y", "binary", ("y",), categories)
    names = [None if np.isnan(code) else categories[int(code)] for code in labels[:, 0]]
    written = [
        None if pd.isna(v) or str(v) in ("nan", "Unknown") else str(v).removesuffix(".0") for v in column
    ]
    assert names == written


def test_an_order_is_that_of_the_categorical_or_of_the_numbers():
    stages = pd.Categorical(["low", "high", "mid"] * 4, categories=["low", "mid", "high"], ordered=True)
    outcome, labels = _only(_register(stages, "ordinal"))
    assert outcome.categories == ("low", "mid", "high")
    assert labels[:3, 0].tolist() == [0.0, 2.0, 1.0]
    assert _only(_register([10, 2, 1] * 4, "ordinal"))[0].categories == ("1", "2", "10")
    assert _only(_register(["10", "2", "nan"] * 4, "ordinal"))[0].categories == ("2", "10")


def test_names_without_an_order_are_refused_with_the_line_that_gives_one():
    with pytest.raises(InputError, match=r"has no order.*pd\.Categorical\(.*ordered=True\)") as caught:
        _register(["I", "II", "III"] * 4, "ordinal")
    mdata = _cells(y=["I", "II", "III"] * 4)
    line = str(caught.value).split("`")[-2]
    exec(line, {"mdata": mdata, "pd": pd})
    (outcome,) = register(mdata, SetupOptions(outcomes={"y": "ordinal"})).schema.outcomes
    assert outcome.categories == ("I", "II", "III")


def test_an_order_survives_in_obs_of_the_modalities():
    mdata = make_cells(n_cells=N)
    for adata in mdata.mod.values():
        stages = pd.Categorical(["low", "high", "mid"] * 4, categories=["low", "mid", "high"], ordered=True)
        adata.obs["stage"] = stages
    outcome, labels = _only(register(mdata, SetupOptions(outcomes={"stage": "ordinal"})))
    assert outcome.categories == ("low", "mid", "high")
    assert labels[:3, 0].tolist() == [0.0, 2.0, 1.0]


def test_numbers_are_standardised_over_what_is_known():
    column = [1.0, 3.0, np.nan] * 4
    outcome, labels = _only(_register(column, "continuous"))
    assert (outcome.mean, outcome.sd) == (2.0, 1.0)
    np.testing.assert_allclose(labels[:, 0], (np.array(column) - 2.0))


def test_survival_is_time_and_event_and_needs_both():
    mdata = _cells(days=[10.0, 20.0, np.nan, 40.0] * 3, dead=[1, 0, 1, np.nan] * 3)
    outcome, labels = _only(register(mdata, SetupOptions(outcomes={"os": ("days", "dead")})))
    assert outcome == OutcomeSchema("os", "survival", ("days", "dead"), time_scale=15.0)
    np.testing.assert_allclose(labels[:2], [[10 / 15, 1.0], [20 / 15, 0.0]], rtol=1e-6)
    assert np.isnan(labels[2:4]).all()


@pytest.mark.parametrize("dead", [[True, False] * 6, ["1", "0"] * 6, pd.Categorical([0, 1] * 6)])
def test_events_in_other_forms(dead):
    data = register(_cells(days=np.arange(12.0), dead=dead), SetupOptions(outcomes={"os": ("days", "dead")}))
    assert set(data.outcomes[:, 1]) == {0.0, 1.0}


def test_several_outcomes_stand_side_by_side():
    mdata = _cells(days=np.arange(12.0), dead=[0, 1] * 6, y=["a", "b"] * 6)
    data = register(
        mdata, SetupOptions(outcomes={"os": ("days", "dead"), "y": "binary", "age": "continuous"})
    )
    schema = data.schema
    assert [schema.label_columns(name) for name in ("os", "y", "age")] == [
        slice(0, 2),
        slice(2, 3),
        slice(3, 4),
    ]
    assert data.outcomes.shape == (12, 4)
    assert data.outcomes.dtype == np.float32
    assert options_of(schema).outcomes == {"os": ("days", "dead"), "y": "binary", "age": "continuous"}
    assert from_json(json.loads(json.dumps(to_json(schema)))) == schema
    for name in ("os", "y", "age"):
        assert repr(name) in describe(data)


def test_names_of_no_label_can_be_said():
    column = ["a", "b", "Misc/unknown"] * 4
    with pytest.warns(MultiomicsWarning, match=r"'Misc/unknown', which reads like no label.*unlabelled="):
        outcome, _ = _only(_register(column, "categorical"))
    assert outcome.categories == ("Misc/unknown", "a", "b")
    outcome, labels = _only(_register(column, "categorical", unlabelled=["misc/UNKNOWN"]))
    assert outcome.categories == ("a", "b")
    assert np.isnan(labels[2::3]).all()
    outcome, _ = _only(_register(["a", "b", "unknown"] * 4, "categorical", unlabelled=[]))
    assert outcome.categories == ("a", "b", "unknown")


@pytest.mark.parametrize(
    ("column", "kind", "match"),
    [
        (["a", "b", "c"] * 4, "binary", r"3 categories.*outcomes=\{\"y\": \"categorical\"\}"),
        (["a"] * 12, "categorical", r"only 'a'"),
        ([None] * 12, "binary", r"no label at all"),
        (["a", "b"] * 6, "continuous", r"must hold numbers, but has 'a'.*pd\.to_numeric"),
        ([1.0, np.inf] * 6, "continuous", r"is infinite for 6 cells"),
        ([2.0] * 12, "continuous", r"is 2 in every cell.*Leave it out"),
        ([np.nan] * 12, "continuous", r"has no value in any cell"),
        (["a", "b"] * 6, "categoricl", r"Did you mean 'categorical'"),
        (["a", "b"] * 6, "survival", r"two columns.*\(\"time\", \"event\"\)"),
        (["a", "b"] * 6, ("y",), r"neither a kind of outcome nor the columns"),
        (["a", "b"] * 6, 3, r"neither a kind of outcome nor the columns"),
    ],
)
def test_what_is_no_outcome_of_its_kind(column, kind, match):
    with pytest.raises(InputError, match=match):
        _register(column, kind)


def test_categories_that_are_a_measurement():
    mdata = make_cells(n_cells=60)
    with pytest.raises(InputError, match=r"60 distinct values in 60.*\"continuous\""):
        register(mdata, SetupOptions(outcomes={"age": "categorical"}))


@pytest.mark.parametrize(
    ("days", "dead", "match"),
    [
        ([-1.0, 2.0] * 6, [0, 1] * 6, r"is -1 for 6 cells.*counts from 0"),
        ([1.0, 2.0] * 6, [1, 2] * 6, r"is 2 for 6 cells.*== 2"),
        (["soon", 2.0] * 6, [0, 1] * 6, r"must hold numbers, but has 'soon'"),
        ([np.nan] * 12, [0, 1] * 6, r"no value in any cell"),
    ],
)
def test_what_is_no_survival(days, dead, match):
    with pytest.raises(InputError, match=match):
        register(_cells(days=days, dead=dead), SetupOptions(outcomes={"os": ("days", "dead")}))


def test_columns_that_are_not_there_and_arguments_of_another_type():
    with pytest.raises(InputError, match=r"no column 'respons'.*Did you mean 'response'"):
        register(_cells(response=["a", "b"] * 6), SetupOptions(outcomes={"respons": "binary"}))
    with pytest.raises(InputError, match=r"`outcomes` must be a dictionary"):
        register(_cells(), SetupOptions(outcomes=["age"]))
    with pytest.raises(InputError, match=r"`unlabelled` must be a list"):
        register(_cells(), SetupOptions(unlabelled="none"))


@pytest.mark.parametrize(
    "options",
    [
        {"batch_key": "y"},
        {"categorical_covariate_keys": ["y"]},
        {"continuous_covariate_keys": ["age"]},
        {"size_factor_key": "factor"},
    ],
)
def test_an_outcome_that_encoders_would_read_is_refused(options):
    (argument,) = options
    outcomes = {"y": "binary", "age": "continuous", "os": ("factor", "y")}
    with pytest.raises(InputError, match=rf"in `outcomes` and in `{argument}`.*Leave it out of `{argument}`"):
        register(_cells(y=[0, 1] * 6), SetupOptions(outcomes=outcomes, **options))


def test_an_outcome_that_is_also_a_feature_is_told():
    mdata = _cells(**{"rna:f3": ["a", "b"] * 6})
    with pytest.warns(MultiomicsWarning, match=r"'rna:f3'.*is also a feature of the modality 'rna'"):
        register(mdata, SetupOptions(outcomes={"rna:f3": "binary"}))


# --- other cells ----------------------------------------------------------------------------------


def test_other_cells_may_lack_the_columns_or_have_other_values():
    schema = _register(["a", "b"] * 6, "categorical").schema
    assert np.isnan(read(_cells(), schema).outcomes).all()
    with pytest.warns(MultiomicsWarning, match=r"categories that the outcome 'y'.*'c'.*count as unlabelled"):
        other = read(_cells(y=["b", "c"] * 6), schema)
    assert other.outcomes[0, 0] == 1.0
    assert np.isnan(other.outcomes[1, 0])


def test_other_cells_are_read_with_the_numbers_of_the_registered():
    schema = _register([1.0, 3.0] * 6, "continuous").schema
    np.testing.assert_allclose(read(_cells(y=[5.0] * 12), schema).outcomes[:, 0], 3.0)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda o: o.update(kind="ternary"), r"kind must be one of"),
        (lambda o: o.update(sd=0.0), r"sd and time_scale must be positive"),
        (lambda o: o.update(keys=["a", "b"]), r"has 1 keys"),
        (lambda o: o.update(categories=["a"]), r"cannot have 1 categories"),
        (lambda o: o.update(categories=["a", "b", "c"]), r"cannot have 3 categories"),
        (lambda o: o.update(extra=1), r"has an entry 'extra'"),
    ],
)
def test_documents_that_describe_no_outcome(change, match):
    document = json.loads(json.dumps(to_json(_register(["a", "b"] * 6, "binary").schema)))
    change(document["outcomes"][0])
    with pytest.raises(CheckpointError, match=match):
        from_json(document)
