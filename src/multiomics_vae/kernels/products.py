"""Products of float32 matrices on a processor, by whichever of PyTorch's two libraries is faster there.

PyTorch multiplies float32 matrices with MKL, which multiplies 256 bits at a time on AMD's processors. Those
that multiply 512 at a time (Zen 5) are twice as fast with oneDNN, which PyTorch carries for other types, in
the same precision. Elsewhere MKL uses all that there is; it is the faster of the two where a factor lies
transposed in memory, and it writes where it is told to.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

NARROW_AMD = ("znver1", "znver2", "znver3", "znver4")  # multiply 256 bits at a time


@cache
def onednn_is_faster() -> bool:
    """Whether oneDNN multiplies float32 matrices here: from Zen 5 on, if PyTorch was built with it."""
    try:
        _linear()
    except AttributeError:
        return False
    is_built: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return is_built and torch.cpu._is_avx512_supported() and _is_wide_amd()


def product_with_transposed(left: Tensor, right: Tensor, out: Tensor | None = None) -> Tensor:
    """Left times the transpose of right.

    Parameters
    ----------
    left, right
        ``(n, k)`` and ``(m, k)``, float32, on a processor, without gradient; any strides.
    out
        Where to write it, ``(n, m)``, any strides; new memory if None.

    Returns
    -------
    Tensor
        ``(n, m)``.

    Examples
    --------
    >>> product_with_transposed(torch.ones(2, 3), torch.ones(4, 3)).shape
    torch.Size([2, 4])
    """
    if not onednn_is_faster():
        return torch.mm(left, right.t(), out=out)
    found: Tensor = _linear()(_dense(left), _dense(right), None, "none", [], "")
    return found if out is None else out.copy_(found)


def _dense(matrix: Tensor) -> Tensor:
    """The matrix without gaps in memory: with gaps oneDNN falls back to a loop that is 50 times slower."""
    has_gaps = not (matrix.is_contiguous() or matrix.t().is_contiguous())
    return matrix.contiguous() if has_gaps else matrix


def _is_wide_amd() -> bool:
    # Imported here, because the compiler loads slowly; it knows every processor by the name of its cores.
    from llvmlite.binding import get_host_cpu_name

    name = str(get_host_cpu_name())
    return name.startswith("znver") and name not in NARROW_AMD


def _linear() -> Any:
    return torch.ops.mkldnn._linear_pointwise.default
