"""What was registered, as a table for people."""

from __future__ import annotations

from multiomics_vae.data.dataset import MultimodalData
from multiomics_vae.data.schema import ModalitySchema, OutcomeSchema, Schema


def describe(registered: Schema | MultimodalData) -> str:
    """Plain text: one line a modality, one a covariate.

    Parameters
    ----------
    registered
        A schema, or the data with it; with the data the numbers of cells are shown.

    Examples
    --------
    >>> print(describe(Schema((ModalitySchema("rna", "nb", None, None, ("g1",), note="counts"),))))
    modality  features  likelihood  values  why
    rna       1         nb          X       counts
    """
    data = registered if isinstance(registered, MultimodalData) else None
    schema = registered.schema if isinstance(registered, MultimodalData) else registered
    head = ["modality", "cells", "features", "likelihood", "values", "why"]
    rows = [head]
    for position, entry in enumerate(schema.modalities):
        cells = f"{int((data.modalities[position].row_of_cell >= 0).sum())}" if data else ""
        rows.append([entry.name, cells, str(entry.n_features), entry.likelihood, _place(entry), _why(entry)])
    if data is None:
        rows = [[row[0], *row[2:]] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    return "\n".join(lines + _covariates(schema) + ([f"cells: {data.n_cells}"] if data else []))


def _place(entry: ModalitySchema) -> str:
    place = "X" if entry.layer is None else f"layers[{entry.layer!r}]"
    return place if entry.coverage_layer is None else f"{place} of layers[{entry.coverage_layer!r}]"


def _why(entry: ModalitySchema) -> str:
    return entry.note if entry.depth_from_values else f"{entry.note}; depth from the size factor"


def _covariates(schema: Schema) -> list[str]:
    lines = []
    if schema.batch is not None:
        lines.append(f"batch: {schema.batch.key!r}, {len(schema.batch.categories)} categories")
    for grouping in schema.categorical:
        lines.append(f"categorical: {grouping.key!r}, {len(grouping.categories)} categories")
    for number in schema.continuous:
        lines.append(f"continuous: {number.key!r}, mean {number.mean:.4g}, sd {number.sd:.4g}")
    if schema.size_factor_key is not None:
        lines.append(f"size factor: {schema.size_factor_key!r}")
    if schema.donor_key is not None:
        lines.append(f"donor: {schema.donor_key!r}")
    lines += [_outcome(outcome) for outcome in schema.outcomes]
    return lines


def _outcome(outcome: OutcomeSchema) -> str:
    if outcome.kind == "survival":
        return f"survival outcome: {outcome.name!r}, time {outcome.keys[0]!r}, event {outcome.keys[1]!r}"
    if outcome.kind == "continuous":
        return f"continuous outcome: {outcome.name!r}, mean {outcome.mean:.4g}, sd {outcome.sd:.4g}"
    joined = (" < " if outcome.kind == "ordinal" else ", ").join(outcome.categories[:8])
    more = f", … ({len(outcome.categories)} in all)" if len(outcome.categories) > 8 else ""
    return f"{outcome.kind} outcome: {outcome.name!r}, {joined}{more}"
