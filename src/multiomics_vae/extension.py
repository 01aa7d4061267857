"""A fitted module that learns new categories of its covariates and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import nn

from multiomics_vae.data.schema import Schema
from multiomics_vae.errors import CheckpointError, InputError
from multiomics_vae.module import MultimodalModule
from multiomics_vae.networks.blocks import MLP
from multiomics_vae.networks.covariates import CovariateEncoding
from multiomics_vae.networks.extension import ExtendedEncoding, extended

N_NEW = "covariates.n_new"
"""Name of the tensor that says, in a checkpoint, how many categories of each covariate are new."""


def extend_module(
    fitted: MultimodalModule, n_new: tuple[int, ...], encode_covariates: bool
) -> MultimodalModule:
    """Copy a fitted module and give it weights for new categories; only these can be learned.

    Everything else, frozen, is what it was, bit for bit, and known cells go through the same products.

    Parameters
    ----------
    fitted
        Not changed.
    n_new
        New categories of the batch, then of each categorical covariate.
    encode_covariates
        True if its encoders read covariates.

    Examples
    --------
    >>> module = extend_module(model.module, (2,), encode_covariates=True)  # doctest: +SKIP
    >>> [name for name, p in module.named_parameters() if p.requires_grad]  # doctest: +SKIP
    """
    module = copy.deepcopy(fitted)
    module.requires_grad_(False)
    known, added = module.covariates, sum(n_new)
    if not isinstance(known, CovariateEncoding):
        return module
    known.n_new = None if added else torch.zeros(len(n_new), dtype=torch.int64)
    if not added:
        return module
    widths = (known.batch_width, *known.widths)
    for part in module.parts:
        encoder, decoder = part.encoder, part.decoder
        n_known = decoder.n_covariates
        if encode_covariates:
            _extend_first(encoder.hidden, widths, n_known, known.n_continuous, added)
            encoder.n_covariates = n_known + added
        if len(decoder.hidden.layers):
            _extend_first(decoder.hidden, widths, n_known, known.n_continuous, added)
        for place, layer in enumerate(decoder.last_layers):
            start = layer.in_features - n_known + known.n_continuous
            decoder.outputs[place] = extended(layer, widths, start, added)
        decoder.n_covariates = n_known + added
        if n_new[0]:
            part.likelihood.add_batches(n_new[0])
    module.covariates = ExtendedEncoding(known, n_new)  # type: ignore[assignment]
    return module


def _extend_first(network: MLP, widths: tuple[int, ...], n_known: int, n_continuous: int, added: int) -> None:
    layer = network.layers[0]
    assert isinstance(layer, nn.Linear)
    network.layers[0] = extended(layer, widths, layer.in_features - n_known + n_continuous, added)


def learned(module: MultimodalModule) -> dict[str, nn.Parameter]:
    """The parameters of new categories, by name."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def is_query(module: MultimodalModule) -> bool:
    """Whether a module was made by `extend_module`: its fitted weights stay as they are."""
    return not all(parameter.requires_grad for parameter in module.parameters())


def check_something_to_learn(module: MultimodalModule) -> None:
    """Refuse to train a query without new categories.

    Raises
    ------
    InputError
        If no weight can be learned.
    """
    if not learned(module):
        raise InputError(
            "This query has no category that its reference does not know, so there is nothing to learn. Ask "
            "it as it is: query.get_latent_representation()"
        )


def n_new_of(tensors: Mapping[str, torch.Tensor], schema: Schema) -> tuple[int, ...]:
    """How many categories of each covariate are new, by the tensors of a checkpoint; empty if it has none.

    Raises
    ------
    CheckpointError
        If the numbers cannot be.
    """
    found = tensors.get(N_NEW)
    if found is None:
        return ()
    sizes = [schema.n_batches, *(len(each.categories) for each in schema.categorical)]
    fits = found.dtype == torch.int64 and tuple(found.shape) == (len(sizes),)
    if not fits or not all(0 <= int(n) < size for n, size in zip(found, sizes, strict=True)):
        raise CheckpointError(
            f"The saved {N_NEW!r} does not fit the {len(sizes)} covariates of the schema. Save the query "
            "again."
        )
    return tuple(int(n) for n in found)
