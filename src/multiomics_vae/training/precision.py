"""In which precision matrix products are computed while a model is trained."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch

from multiomics_vae.networks.blocks import MLP

Precision = Literal["auto", "float32", "bfloat16"]

# PyTorch gives the module its attribute in a way that type checkers do not see.
_SWITCH: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 matrices in hardware.

    Parameters
    ----------
    device
        A processor (AVX-512 BF16 or AMX) or a GPU.

    Examples
    --------
    >>> has_fast_bfloat16(torch.device("meta"))
    False
    """
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def product_dtype(precision: Precision, device: torch.device) -> torch.dtype | None:
    """The type that factors of products are rounded to; None for no rounding.

    Parameters
    ----------
    precision
        ``"bfloat16"`` is taken at its word also where it is slow.
    device
        Where the products are computed.

    Examples
    --------
    >>> product_dtype("float32", torch.device("cpu")) is None
    True
    """
    if precision == "bfloat16" or (precision == "auto" and has_fast_bfloat16(device)):
        return torch.bfloat16
    return None


class TrainingProducts:
    """Rounds the factors of all matrix products of training steps, and of nothing else.

    The output layers, which make most of the products, get `dtype` as an argument. For the dense layers
    of float32 tensors on a processor PyTorch has one switch for the whole process: it is set at the
    start of a step and put back at its end. On a GPU those layers stay as they are, and so they do where all
    of them are narrow (`leave_narrow`): rounding their factors takes longer than their products.

    Parameters
    ----------
    precision
        What was asked for.

    Examples
    --------
    >>> products = TrainingProducts("bfloat16")
    >>> products.round_on(torch.device("cpu")); products.restore(); products.dtype
    torch.bfloat16
    """

    def __init__(self, precision: Precision) -> None:
        self.precision = precision
        self.dtype: torch.dtype | None = None
        self._readers: list[MLP] | None = None
        self._before: str | None = None

    def leave_narrow(self, readers: Iterable[MLP]) -> None:
        """Round no dense layers; where sparse rows are read, round the first product.

        Parameters
        ----------
        readers
            The hidden layers of all encoders.
        """
        self._readers = list(readers)

    def round_on(self, device: torch.device) -> None:
        """Begin a step."""
        self.dtype = product_dtype(self.precision, device)
        for reader in self._readers or []:
            reader.sparse_product_dtype = self.dtype
        if self._readers is None and self.dtype is not None and device.type == "cpu" and self._before is None:
            self._before = _SWITCH.fp32_precision
            _SWITCH.fp32_precision = "bf16"

    def restore(self) -> None:
        """End a step, or clean up after an error; may be called at any time."""
        for reader in self._readers or []:
            reader.sparse_product_dtype = None
        if self._before is not None:
            _SWITCH.fp32_precision = self._before
            self._before = None
