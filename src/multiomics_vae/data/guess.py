"""Which values of a modality are meant, and which likelihood suits them: by the values, then the name.

The guess is written into the schema's note, and every part of it can be said instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from multiomics_vae.data.scan import ValueSummary
from multiomics_vae.data.sources import Matrix, Source, raw_values, shown, source_of
from multiomics_vae.data.stored import StoredMatrix, matrix_of, summarise
from multiomics_vae.errors import InputError
from multiomics_vae.likelihoods import LIKELIHOODS

COUNT_LAYERS = ("counts", "raw_counts", "umi")
CHROMATIN_WORDS = ("atac", "peak", "chrom", "access")
PROTEIN_WORDS = ("prot", "adt", "cite", "antibody", "surface")


@dataclass(frozen=True)
class Chosen:
    """The values of a modality, and why they and their likelihood were taken.

    Parameters
    ----------
    likelihood
        Name in the likelihood registry.
    source
        Address of the values.
    matrix
        The values, as `matrix_of` gives them, not yet checked.
    summary
        What a scan found in them.
    note
        The reasons.
    """

    likelihood: str
    source: Source
    matrix: Matrix | StoredMatrix
    summary: ValueSummary
    note: str


@dataclass(frozen=True)
class _Values:
    source: Source
    matrix: Matrix | StoredMatrix
    summary: ValueSummary
    why: str


def choose(
    adata: Any,
    modality: str,
    likelihood: str | None,
    layer: str | None,
    layer_given: bool,
    covered: str | None,
) -> Chosen:
    """Choose values and likelihood of one modality.

    Parameters
    ----------
    adata
        The modality.
    modality
        Its name.
    likelihood, layer
        What the user said; None where nothing was said (a layer of None means ``X``).
    layer_given
        True if the user named a layer, or said that ``X`` is meant.
    covered
        The coverage layer; None for data without coverage.

    Raises
    ------
    InputError
        For an unknown likelihood or layer, or where several layers could be meant.
    """
    support = LIKELIHOODS[likelihood].support if likelihood is not None else None
    if (support == "fractions") != (covered is not None) and (support is not None):
        _refuse_coverage(modality, str(likelihood), covered)
    if layer_given or support in ("real", "codes"):
        values = _read(adata, modality, layer, "named by you" if layer_given else "")
    else:
        values = _find(adata, modality, covered, may_be_real=support is None and covered is None)
    if likelihood is not None:
        return _chosen(likelihood, values, "likelihood named by you")
    guessed, why = (
        ("beta_binomial", "it has a coverage layer") if covered else _guess(modality, values.summary)
    )
    return _chosen(guessed, values, why)


def _chosen(likelihood: str, values: _Values, why: str) -> Chosen:
    note = "; ".join(part for part in (why, values.why) if part)
    return Chosen(likelihood, values.source, values.matrix, values.summary, note)


def _read(adata: Any, modality: str, layer: str | None, why: str = "") -> _Values:
    source = source_of(adata, modality, layer)
    matrix = matrix_of(raw_values(adata, source), source)
    place = "X" if layer is None else f"layer {layer!r}"
    return _Values(source, matrix, summarise(matrix), f"{place} {why}" if why else "")


def _find(adata: Any, modality: str, covered: str | None, *, may_be_real: bool) -> _Values:
    """Take X if it holds counts, else the layer that does, else X as it is."""
    layers = [str(layer) for layer in adata.layers if layer != covered]
    first = _read(adata, modality, None) if adata.X is not None or not layers else None
    if first is not None and (first.summary.is_counts or first.summary.nearly_counts):
        return first
    with_counts = [found for found in (_try_layer(adata, modality, layer) for layer in layers) if found]
    by_layer = {found.source.layer: found for found in with_counts}
    reason = "X is None" if first is None else "X is not whole numbers"
    for name in COUNT_LAYERS:
        if name in by_layer:
            return _because(by_layer[name], f"layer {name!r} taken: {reason}")
    if len(with_counts) == 1:
        return _because(with_counts[0], f"layer {with_counts[0].source.layer!r} taken: {reason}")
    if len(with_counts) > 1:
        raise InputError(
            f"mdata[{modality!r}]: {reason}, and several layers hold counts: "
            f"{shown(found.source.layer for found in with_counts)}. "
            f'Name one: `layers={{"{modality}": "{with_counts[0].source.layer}"}}`, or take X as real '
            f'values: `likelihoods={{"{modality}": "gaussian"}}`.'
        )
    if first is None:
        return _read(adata, modality, None)
    return _because(first, "no layer holds counts") if may_be_real and layers else first


def _because(values: _Values, why: str) -> _Values:
    return _Values(values.source, values.matrix, values.summary, why)


def _try_layer(adata: Any, modality: str, layer: str) -> _Values | None:
    """Read a layer that may hold counts; one that holds no numbers at all is no candidate."""
    try:
        found = _read(adata, modality, layer)
    except InputError:
        return None
    return found if found.summary.is_counts and found.summary.n_nonzero else None


def _guess(modality: str, summary: ValueSummary) -> tuple[str, str]:
    name = modality.lower()
    if not summary.nearly_counts:
        missing = f", {summary.n_missing} missing ones masked" if summary.n_missing else ""
        return "gaussian", f"values are not counts{missing}"
    if summary.largest <= 1 and summary.n_nonzero:
        return "bernoulli", "values are 0 and 1"
    if any(word in name for word in CHROMATIN_WORDS):
        return "bernoulli", "counts, accessibility by its name: counts above 1 read as 1"
    if any(word in name for word in PROTEIN_WORDS):
        return "protein_mixture", "counts, proteins by its name"
    return "nb", "counts"


def _refuse_coverage(modality: str, likelihood: str, covered: str | None) -> None:
    if covered is None:
        raise InputError(
            f"mdata[{modality!r}]: likelihood {likelihood!r} needs the coverage behind every count. "
            f'Name its layer: `coverage_layers={{"{modality}": "coverage"}}`.'
        )
    raise InputError(
        f"mdata[{modality!r}]: likelihood {likelihood!r} has no use for the coverage layer {covered!r}. "
        f'Leave it out of `coverage_layers`, or say `likelihoods={{"{modality}": "beta_binomial"}}`.'
    )
