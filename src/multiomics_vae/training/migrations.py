"""What older formats of saved models lack, made from what they hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from multiomics_vae.data.schema import UNLABELLED

HEAD = re.compile(r"modalities\.\d+\.encoder\.head\.mean\.bias")
POWERS = "fusion.log_powers"
LEARNED = "covariates.learned"


def add_powers(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Format 1 to 2: the product of experts has powers, which were 1.

    M and K are read from the tensors and not from the configuration, whose numbers nobody has checked yet.

    Parameters
    ----------
    config
        Arguments the model was built with.
    tensors
        Its parameters and buffers by name.

    Returns
    -------
    dict
        The tensors, for ``fusion="product"`` with the logarithms of the powers, ``(M, M, K)``.

    Examples
    --------
    >>> import torch
    >>> sorted(add_powers({"fusion": "gated"}, {"bias": torch.zeros(3)}))
    ['bias']
    """
    heads = [tensor for name, tensor in tensors.items() if HEAD.fullmatch(name)]  # (K,) each
    if config.get("fusion") != "product" or not heads:
        return dict(tensors)
    # One zero seen M · M · K times: a file that lies about its sizes costs no memory before it is refused.
    powers = heads[0].new_zeros(()).expand(len(heads), len(heads), heads[0].numel())  # (M, M, K)
    return {**tensors, POWERS: powers}


def add_switches(config: Mapping[str, Any]) -> dict[str, Any]:
    """Format 3 to 4: there is a disagreement gate and there are penalties, which were off.

    Parameters
    ----------
    config
        Arguments a model was built with, or the document of a training that is not over.

    Examples
    --------
    >>> add_switches({"fusion": "product"})
    {'fusion': 'product', 'disagreement_gate': False}
    """
    model, objective = config.get("model"), config.get("objective")
    if "fusion" in config:
        return {**config, "disagreement_gate": False}
    found = dict(config)
    if isinstance(model, Mapping):
        found["model"] = {**model, "disagreement_gate": False}
    if isinstance(objective, Mapping):
        found["objective"] = {**objective, "penalties": []}
    return found


def add_outcomes(
    config: Mapping[str, Any], schema: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Tensor]]:
    """Format 4 to 5: there are donors, outcomes and heads, which a model had none of.

    A model also knows which batches it was trained on; older ones are taken to know all.

    Parameters
    ----------
    config
        Arguments a model was built with, or the document of a training that is not over.
    schema
        What was registered.
    tensors
        Parameters and buffers by name.

    Examples
    --------
    >>> config, schema, _ = add_outcomes({"fusion": "product"}, {"version": 1}, {})
    >>> config["heads"], schema["outcomes"], schema["version"]
    ([], [], 2)
    """
    found = dict(config)
    places = [""]
    if isinstance(found.get("model"), Mapping):
        found["model"] = {**found["model"], "heads": []}
        places = ["weights/", "best/"]
    else:
        found["heads"] = []
    batch = schema.get("batch")
    names = batch.get("categories") if isinstance(batch, Mapping) else None
    width = len(names) if isinstance(names, list) and len(names) > 1 else 0
    learned = {f"{place}{LEARNED}": torch.ones(width, dtype=torch.bool) for place in places}
    if schema.get("version") != 1:
        return found, dict(schema), {**tensors, **learned}
    without = {"version": 2, "donor_key": None, "outcomes": [], "unlabelled": list(UNLABELLED)}
    return found, {**schema, **without}, {**tensors, **learned}
