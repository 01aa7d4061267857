"""What is to be predicted: columns of obs as codes, standardised numbers and times, with gaps allowed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from multiomics_vae.data.columns import LOOKS_MISSING, Column, find_column, text_of
from multiomics_vae.data.schema import OUTCOME_KINDS, ModalitySchema, OutcomeKind, OutcomeSchema
from multiomics_vae.data.sources import shown
from multiomics_vae.errors import InputError, did_you_mean, warn

ROLE = "outcomes"


def register_outcomes(
    mdata: Any, asked: Mapping[str, str | Sequence[str]], unlabelled: tuple[str, ...]
) -> tuple[OutcomeSchema, ...]:
    """Find out what outcomes look like.

    Parameters
    ----------
    mdata
        The cells.
    asked
        Column -> kind, or for survival a name -> (time column, event column).
    unlabelled
        Names that mean that there is no label, in lower case.

    Raises
    ------
    InputError
        For an unknown kind or column, and for values that are not of the kind.
    """
    found = []
    for name, what in asked.items():
        kind, keys = _kind_and_keys(name, what)
        columns = [find_column(mdata, key, ROLE) for key in keys]
        found.append(_register(name, kind, columns, unlabelled))
    return tuple(found)


def warn_if_features(outcomes: tuple[OutcomeSchema, ...], modalities: tuple[ModalitySchema, ...]) -> None:
    """Warn of an outcome that a model reads beside what it is to be predicted from."""
    for outcome in outcomes:
        for modality in modalities:
            both = set(outcome.keys) & set(modality.features)
            if both:
                warn(
                    f"{min(both)!r} of the outcome {outcome.name!r} is also a feature of the modality "
                    f"{modality.name!r}, which tells it. Leave it out there, unless they only share a name: "
                    f"mdata.mod[{modality.name!r}] = mdata[{modality.name!r}]"
                    f"[:, mdata[{modality.name!r}].var_names != {min(both)!r}].copy(); mdata.update()"
                )


def outcome_values(
    mdata: Any, outcomes: tuple[OutcomeSchema, ...], unlabelled: tuple[str, ...]
) -> np.ndarray:
    """Labels of all cells as heads read them: ``(N, n_label_columns)``, float32, NaN where there is none.

    Columns that the MuData does not have are NaN throughout, and so are categories that were not registered,
    with a warning.
    """
    blocks = [_values(mdata, outcome, unlabelled) for outcome in outcomes]
    if not blocks:
        return np.empty((mdata.n_obs, 0), np.float32)
    return np.concatenate(blocks, axis=1).astype(np.float32)


def _kind_and_keys(name: str, what: str | Sequence[str]) -> tuple[OutcomeKind, tuple[str, ...]]:
    example = f'outcomes={{"{name}": ("time", "event")}}'
    if not isinstance(what, str):
        if not isinstance(what, Sequence) or len(what) != 2 or not all(isinstance(key, str) for key in what):
            raise InputError(
                f"outcomes[{name!r}] is {what!r}, which is neither a kind of outcome nor the columns of a "
                f"time and of an event: `{example}`."
            )
        return "survival", tuple(what)
    if what == "survival":
        raise InputError(
            f"outcomes[{name!r}]: survival is read from two columns, the time and whether the event happened "
            f"then. Name them: `{example}`."
        )
    for kind in OUTCOME_KINDS:
        if kind == what:
            return kind, (name,)
    raise InputError(
        f"outcomes[{name!r}]: there is no kind of outcome {what!r}. {did_you_mean(what, OUTCOME_KINDS)}"
    )


def _register(
    name: str, kind: OutcomeKind, columns: list[Column], unlabelled: tuple[str, ...]
) -> OutcomeSchema:
    keys = tuple(column.key for column in columns)
    if kind == "survival":
        times = _survival(columns)[:, 0]
        _check_some(times, columns[0])
        middle = float(np.nanmedian(times))
        return OutcomeSchema(name, kind, keys, time_scale=middle if middle > 0 else 1.0)
    if kind == "continuous":
        numbers = _numbers(columns[0])
        _check_some(numbers, columns[0])
        mean, sd = float(np.nanmean(numbers)), float(np.nanstd(numbers))
        if sd <= 1e-12 * max(1.0, abs(mean)):
            raise InputError(
                f"`{ROLE}`: column {name!r} is {mean:g} in every cell that has a value; there is nothing to "
                "predict. Leave it out of `outcomes`."
            )
        return OutcomeSchema(name, kind, keys, mean=mean, sd=sd)
    return OutcomeSchema(name, kind, keys, _categories(columns[0], kind, unlabelled))


def _categories(column: Column, kind: OutcomeKind, unlabelled: tuple[str, ...]) -> tuple[str, ...]:
    values = _labelled(column, unlabelled)
    there = values.dropna()
    if isinstance(there.dtype, pd.CategoricalDtype):
        found = list(there.cat.remove_unused_categories().cat.categories)
    else:
        found = list(there.unique())
    if kind == "ordinal" and not (isinstance(there.dtype, pd.CategoricalDtype) and there.cat.ordered):
        found = _sorted_numbers(column, found)
    elif not isinstance(there.dtype, pd.CategoricalDtype):
        numeric = all(isinstance(value, int | float | bool | np.number | np.bool_) for value in found)
        found = sorted(found) if numeric else sorted(found, key=text_of)
    categories = tuple(dict.fromkeys(text_of(value) for value in found))
    _check_number_of_categories(column, kind, categories, len(there))
    odd = [name for name in categories if any(word in name.casefold() for word in unlabelled)]
    if odd:
        warn(
            f"`{ROLE}`: column {column.key!r} has the category {odd[0]!r}, which reads like no label; it is "
            f"learned like the others. To leave it out: unlabelled={[*unlabelled, *odd]!r}"
        )
    return categories


def _check_number_of_categories(
    column: Column, kind: OutcomeKind, categories: tuple[str, ...], n_labelled: int
) -> None:
    if len(categories) < 2:
        seen = f"only {categories[0]!r}" if categories else "no label at all"
        raise InputError(
            f"`{ROLE}`: column {column.key!r} has {seen}, and a {kind} outcome needs two categories. Leave "
            "it out of `outcomes`, or register cells of the other category too."
        )
    if kind == "binary" and len(categories) > 2:
        raise InputError(
            f"`{ROLE}`: column {column.key!r} has {len(categories)} categories, {shown(list(categories))}, "
            f'and a binary outcome has two. Write `outcomes={{"{column.key}": "categorical"}}`.'
        )
    if len(categories) > max(20, n_labelled // 2):
        raise InputError(
            f"`{ROLE}`: column {column.key!r} has {len(categories)} distinct values in {n_labelled} labelled "
            f'cells. If it is a measurement: `outcomes={{"{column.key}": "continuous"}}`.'
        )


def _sorted_numbers(column: Column, found: list[Any]) -> list[Any]:
    """Distinct values in the order of the numbers that they are or read as."""
    try:
        numbers = {float(value): value for value in found}
    except (TypeError, ValueError):
        names = sorted(text_of(value) for value in found)
        ordered = f"pd.Categorical({column.code}, categories={names!r}, ordered=True)"
        raise InputError(
            f"`{ROLE}`: column {column.key!r} has no order: its values are names, {shown(names)}. Write them "
            f"in their order, lowest first: `mdata.obs[{column.key!r}] = {ordered}`."
        ) from None
    return [numbers[number] for number in sorted(numbers)]


def _labelled(column: Column, unlabelled: tuple[str, ...]) -> pd.Series:
    """The column with NaN wherever its value says that there is none."""
    values = column.values
    if pd.api.types.is_numeric_dtype(values.dtype):
        return values
    missing = [
        isinstance(value, str) and (value in LOOKS_MISSING or value.strip().casefold() in unlabelled)
        for value in values
    ]
    return values.mask(np.asarray(missing, dtype=bool))


def _numbers(column: Column) -> np.ndarray:
    """A column as float64 with NaN for what is missing, ``(N,)``; texts are read as numbers."""
    values = _labelled(column, ())
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(object)
    try:
        numbers: np.ndarray = pd.to_numeric(values).to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        first = next(value for value in values.dropna() if not _is_number(value))
        raise InputError(
            f"`{ROLE}`: column {column.key!r} must hold numbers, but has {first!r}. Convert it, with NaN for "
            f"what is no number: `mdata.obs[{column.key!r}] = pd.to_numeric({column.code}, "
            'errors="coerce")`.'
        ) from None
    if np.isinf(numbers).any():
        raise InputError(
            f"`{ROLE}`: column {column.key!r} is infinite for {int(np.isinf(numbers).sum())} cells: "
            f"{shown(values.index[np.isinf(numbers)])}. Leave them without a label: "
            f"{column.mended('.replace([np.inf, -np.inf], np.nan)')}."
        )
    return numbers


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return True


def _survival(columns: list[Column]) -> np.ndarray:
    """Time and event of every cell, ``(N, 2)``; NaN in both where one is missing."""
    times, events = (_numbers(column) for column in columns)
    if (times < 0).any():
        bad = times < 0
        raise InputError(
            f"`{ROLE}`: the time {columns[0].key!r} is {times[bad][0]:g} for {int(bad.sum())} cells: "
            f"{shown(columns[0].values.index[bad])}. A time counts from 0; drop their labels: "
            f"`mdata.obs[{columns[0].key!r}] = {columns[0].code}.where({columns[0].code} >= 0)`."
        )
    odd = ~np.isin(events, (0.0, 1.0)) & ~np.isnan(events)
    if odd.any():
        raise InputError(
            f"`{ROLE}`: the event {columns[1].key!r} must be 1 where it happened and 0 where the time is "
            f"that of the last visit, but is {events[odd][0]:g} for {int(odd.sum())} cells. Where 2 says "
            f"that it happened: `mdata.obs[{columns[1].key!r}] = ({columns[1].code} == 2).astype(int)`."
        )
    both = np.stack([times, events], axis=1)
    both[np.isnan(both).any(axis=1)] = np.nan
    return both


def _values(mdata: Any, outcome: OutcomeSchema, unlabelled: tuple[str, ...]) -> np.ndarray:
    """Labels of one outcome: ``(N, n_columns)``, float64."""
    if not all(_has_column(mdata, key) for key in outcome.keys):
        return np.full((mdata.n_obs, outcome.n_columns), np.nan)
    columns = [find_column(mdata, key, ROLE) for key in outcome.keys]
    if outcome.kind == "survival":
        return np.asarray(_survival(columns) / np.array([outcome.time_scale, 1.0]))
    if outcome.kind == "continuous":
        return np.asarray((_numbers(columns[0])[:, None] - outcome.mean) / outcome.sd)
    codes, distinct = pd.factorize(_labelled(columns[0], unlabelled))
    names = [text_of(value) for value in distinct]
    lookup = pd.Index(outcome.categories).get_indexer(pd.Index(names, dtype=object)).astype(np.float64)
    unseen = [name for name, code in zip(names, lookup, strict=True) if code < 0]
    if unseen:
        warn(
            f"Column {outcome.keys[0]!r} has categories that the outcome {outcome.name!r} was not registered "
            f"with: {shown(unseen)}. Their cells count as unlabelled."
        )
    of_code = np.append(np.where(lookup < 0, np.nan, lookup), np.nan)  # pandas' code -1 is the last entry
    return np.asarray(of_code[codes])[:, None]


def _has_column(mdata: Any, key: str) -> bool:
    if key in mdata.obs.columns:
        return True
    return any(
        column in adata.obs.columns
        for name, adata in mdata.mod.items()
        for column in (key, key.removeprefix(f"{name}:"))
    )


def _check_some(values: np.ndarray, column: Column) -> None:
    if np.isnan(values).all():
        raise InputError(
            f"`{ROLE}`: column {column.key!r} has no value in any cell. Leave it out of `outcomes`."
        )
