"""Average gradients of a prediction along the straight way from a typical cell to the cells at hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from multiomics_vae.data.minibatch import Minibatch
from multiomics_vae.distributions import Gaussian
from multiomics_vae.errors import UnsupportedError
from multiomics_vae.fusion import Evidence
from multiomics_vae.heads import ClassHead, NumberHead, OutcomeHead, TimeHead
from multiomics_vae.heads.pooling import pool
from multiomics_vae.heads.reader import OutcomeReader
from multiomics_vae.kernels import SparseRows
from multiomics_vae.module import MultimodalModule

VALUES_AT_ONCE = 1 << 24


@dataclass(frozen=True, eq=False)
class PathGradients:
    """Of U units (cells or donors) of C cells each.

    Parameters
    ----------
    gradients
        Of each modality's encoder inputs, averaged along the way: ``(U, C, n_inputs)``.
    at_cells, at_reference
        The prediction at the end and at the start of the way, ``(U,)``.
    """

    gradients: tuple[Tensor, ...]
    at_cells: Tensor
    at_reference: Tensor


def encoder_inputs(module: MultimodalModule, minibatch: Minibatch) -> tuple[Tensor, ...]:
    """What every encoder's first layer reads: ``(B, n_inputs)`` a modality, 0 where a cell lacks it."""
    found = []
    for part, batch in zip(module.parts, minibatch.modalities, strict=True):
        read = part.encoder.inputs(batch)
        inputs = read.to_dense() if isinstance(read, SparseRows) else read
        found.append(inputs.new_zeros(minibatch.n_cells, inputs.shape[1]).index_copy(0, batch.rows, inputs))
    return tuple(found)


def path_gradients(
    module: MultimodalModule,
    minibatch: Minibatch,
    reader: OutcomeReader,
    target: int,
    inputs: tuple[Tensor, ...],
    references: tuple[Tensor, ...],
    n_steps: int,
) -> PathGradients:
    """Integrated gradients (Sundararajan et al. 2017) of a head's score at the mean of z, by captum.

    Parameters
    ----------
    module, reader, target
        The model in evaluation mode, the head, and which category (ignored for numbers and survival).
    minibatch
        The cells: all those of one donor, or cells that are predicted one by one.
    inputs, references
        As `encoder_inputs` gives them, at the cells and at the start of the way, ``(B, n_inputs)``.
    n_steps
        Points of the Gauss-Legendre rule.
    """
    captum = _captum()
    n_units = 1 if reader.of_donors else minibatch.n_cells
    shape = (n_units, minibatch.n_cells // n_units)
    ends = tuple(each.reshape(*shape, -1) for each in inputs)
    starts = tuple(each.reshape(*shape, -1) for each in references)

    def score(*moved: Tensor) -> Tensor:
        return unit_scores(module, minibatch, reader, target, moved)

    size = sum(each[0].numel() for each in ends)
    rule = captum.IntegratedGradients(score, multiply_by_inputs=False)
    gradients = rule.attribute(
        ends,
        baselines=starts,
        n_steps=n_steps,
        internal_batch_size=n_units * max(1, VALUES_AT_ONCE // (size * n_units)),
    )
    with torch.no_grad():
        return PathGradients(tuple(each.detach() for each in gradients), score(*ends), score(*starts))


def unit_scores(
    module: MultimodalModule,
    minibatch: Minibatch,
    reader: OutcomeReader,
    target: int,
    inputs: tuple[Tensor, ...],
) -> Tensor:
    """The prediction of units whose encoders read ``inputs`` ``(U, C, n_inputs)``: ``(U,)``.

    U may be a multiple of the units of the minibatch, which are then repeated.
    """
    n_units, n_cells = inputs[0].shape[:2]
    times = n_units * n_cells // minibatch.n_cells
    covariates = module.covariates(minibatch.covariates).repeat(times, 1)
    features = []
    for part, values in zip(module.parts, inputs, strict=True):
        rows = values.reshape(n_units * n_cells, -1)
        if part.encoder.n_covariates:
            rows = torch.cat([rows, covariates], dim=-1)
        features.append(part.encoder.hidden(rows))
    stacked = torch.stack(features)  # (M, U C, H)
    experts: Gaussian = module.experts(stacked)
    fused = module.fuse(Evidence(experts, stacked, minibatch.present.repeat(times, 1)))
    z = fused.posterior.mean  # (U C, K)
    if not reader.of_donors:
        return _number(reader.output, reader.of_cells(z), target)
    hidden, log_weights = reader.weighed(z)
    unit = torch.arange(n_units, device=z.device).repeat_interleave(n_cells)
    pooled, _ = pool(hidden, log_weights, unit, n_units)
    return _number(reader.output, reader.output(pooled), target)


def _number(head: OutcomeHead, scores: Tensor, target: int) -> Tensor:
    """Log odds of a category, a number in the outcome's unit, or a risk: ``(U,)``."""
    if isinstance(head, ClassHead):
        log_p = head.log_probabilities(scores)  # (U, Q)
        rest = torch.cat([log_p[:, :target], log_p[:, target + 1 :]], dim=1)
        return log_p[:, target] - rest.logsumexp(dim=1)
    if isinstance(head, NumberHead):
        return head.mean_and_sd(scores)[0] * head.outcome.sd + head.outcome.mean
    assert isinstance(head, TimeHead)
    return head.risk(scores)


def _captum() -> Any:
    try:
        import captum.attr
    except ImportError as error:
        raise UnsupportedError(
            "What drove a prediction is worked out by captum, which is not installed. Install it:\n"
            "    pip install 'multiomics-vae[explain]'"
        ) from error
    return captum.attr
