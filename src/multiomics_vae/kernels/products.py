"""Products of float32 matrices on a processor, by whichever of PyTorch's two libraries is faster there.

PyTorch multiplies float32 matrices with MKL, which uses half the width of the vector units of AMD's
processors. oneDNN, which PyTorch carries for other types, uses all of it: twice as fast with AVX-512,
in the same precision.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor


@cache
def has_wide_products() -> bool:
    """Whether oneDNN multiplies float32 matrices here: with AVX-512, if PyTorch was built with it."""
    try:
        _linear()
    except AttributeError:
        return False
    is_built: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return is_built and torch.cpu._is_avx512_supported()


def product_with_transposed(left: Tensor, right: Tensor) -> Tensor:
    """Left times the transpose of right, in new memory.

    Parameters
    ----------
    left, right
        ``(n, k)`` and ``(m, k)``, float32, on a processor, without gradient; any strides.

    Returns
    -------
    Tensor
        ``(n, m)``.

    Examples
    --------
    >>> product_with_transposed(torch.ones(2, 3), torch.ones(4, 3)).shape
    torch.Size([2, 4])
    """
    if has_wide_products():
        found: Tensor = _linear()(left, right, None, "none", [], "")
        return found
    return torch.mm(left, right.t())


def _linear() -> Any:
    return torch.ops.mkldnn._linear_pointwise.default
