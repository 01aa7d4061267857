"""What a user says about a MuData; everything that is left out is inferred."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from multiomics_vae.data.checks import check_known
from multiomics_vae.data.schema import UNLABELLED, Schema
from multiomics_vae.errors import InputError
from multiomics_vae.likelihoods import LIKELIHOODS


@dataclass(frozen=True)
class SetupOptions:
    """The arguments of ``setup_mudata``.

    Parameters
    ----------
    likelihoods
        Modality -> name in the likelihood registry.
    layers
        Modality -> layer that holds its values; None as a value means ``X``.
    coverage_layers
        Modality -> layer that holds the coverage of its counts.
    batch_key
        Column of obs.
    categorical_covariate_keys, continuous_covariate_keys
        Further columns of obs.
    size_factor_key
        Column of obs, positive, for modalities whose mean is a share of the cell's depth.
    modalities
        Which to use, in the MuData's order; None means all.
    donor_key
        Column of obs that says whose cell it is.
    outcomes
        Column of obs -> kind of outcome, or for survival a name of one's own -> (time column, event column).
    unlabelled
        Names in a column of an outcome that mean that there is no label.

    Examples
    --------
    >>> SetupOptions(likelihoods={"rna": "nb"}, batch_key="donor").batch_key
    'donor'
    """

    likelihoods: Mapping[str, str] = field(default_factory=dict)
    layers: Mapping[str, str | None] = field(default_factory=dict)
    coverage_layers: Mapping[str, str] = field(default_factory=dict)
    batch_key: str | None = None
    categorical_covariate_keys: Sequence[str] = ()
    continuous_covariate_keys: Sequence[str] = ()
    size_factor_key: str | None = None
    modalities: Sequence[str] | None = None
    donor_key: str | None = None
    outcomes: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    unlabelled: Sequence[str] = UNLABELLED


def options_of(schema: Schema) -> SetupOptions:
    """The arguments of ``setup_mudata`` that say what a schema holds, with nothing left to infer."""
    return SetupOptions(
        likelihoods={m.name: m.likelihood for m in schema.modalities},
        layers={m.name: m.layer for m in schema.modalities},
        coverage_layers={m.name: m.coverage_layer for m in schema.modalities if m.coverage_layer is not None},
        batch_key=None if schema.batch is None else schema.batch.key,
        categorical_covariate_keys=tuple(covariate.key for covariate in schema.categorical),
        continuous_covariate_keys=tuple(covariate.key for covariate in schema.continuous),
        size_factor_key=schema.size_factor_key,
        modalities=schema.modality_names,
        donor_key=schema.donor_key,
        outcomes={o.name: o.keys if o.kind == "survival" else o.kind for o in schema.outcomes},
        unlabelled=schema.unlabelled,
    )


def check_options(mdata: Any, options: SetupOptions) -> tuple[str, ...]:
    """Check every name in the options; return the modalities to use, in the MuData's order.

    Raises
    ------
    InputError
        With the name that was probably meant.
    """
    names = tuple(mdata.mod)
    for argument in ("likelihoods", "layers", "coverage_layers", "outcomes"):
        value = getattr(options, argument)
        example = '{"response": "binary"}' if argument == "outcomes" else f'{{"{names[0]}": …}}'
        if not isinstance(value, Mapping):
            raise InputError(
                f"`{argument}` must be a dictionary, got {value!r}. Write `{argument}={example}`."
            )
    for argument in ("categorical_covariate_keys", "continuous_covariate_keys", "modalities", "unlabelled"):
        value = getattr(options, argument)
        if isinstance(value, str):
            raise InputError(
                f"`{argument}` must be a list of names, got {value!r}. Write `{argument}=[{value!r}]`."
            )
    chosen = names
    if options.modalities is not None:
        check_known("modalities", options.modalities, names)
        chosen = tuple(name for name in names if name in set(options.modalities))
        if not chosen:
            raise InputError(
                f"`modalities` is empty. Name some of {list(names)}, or leave it out to use all."
            )
    check_known("likelihoods", options.likelihoods, chosen)
    check_known("layers", options.layers, chosen)
    check_known("coverage_layers", options.coverage_layers, chosen)
    for likelihood in options.likelihoods.values():
        LIKELIHOODS[likelihood]
    _check_no_repeats(options)
    _check_outcomes_unread(options)
    return chosen


def _check_outcomes_unread(options: SetupOptions) -> None:
    """Refuse an outcome that is also a covariate: encoders would read what heads are to predict."""
    read = {
        "batch_key": [options.batch_key],
        "categorical_covariate_keys": options.categorical_covariate_keys,
        "continuous_covariate_keys": options.continuous_covariate_keys,
        "size_factor_key": [options.size_factor_key],
    }
    for name, what in options.outcomes.items():
        for key in what if isinstance(what, list | tuple) else [name]:
            for argument, keys in read.items():
                if key in keys:
                    raise InputError(
                        f"Column {key!r} is named in `outcomes` and in `{argument}`: the model would read "
                        f"what it is to predict. Leave it out of `{argument}`."
                    )


def _check_no_repeats(options: SetupOptions) -> None:
    keys = [*options.categorical_covariate_keys, *options.continuous_covariate_keys]
    if options.batch_key is not None:
        keys.append(options.batch_key)
    for key in keys:
        if keys.count(key) > 1:
            raise InputError(
                f"Column {key!r} is named twice among `batch_key`, `categorical_covariate_keys` and "
                "`continuous_covariate_keys`. Leave it in one of them."
            )
