"""Tensors as safetensors bytes: written the same every time, and read without trust.

What a file declares is checked against its size before anything is allocated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from multiomics_vae.errors import CheckpointError
from multiomics_vae.training.strict_json import parse_json
from multiomics_vae.training.untrusted import MEND, shown, what_it_looks_like

MAX_WEIGHTS_BYTES = 16 * 2**30
MAX_HEADER_BYTES = 8 * 2**20
MAX_NAME = 256
MAX_RANK = 16

_DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {
        "F64": torch.float64,
        "F32": torch.float32,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "I64": torch.int64,
        "I32": torch.int32,
        "I16": torch.int16,
        "I8": torch.int8,
        "U8": torch.uint8,
        "BOOL": torch.bool,
    }
)
_CODES: Mapping[torch.dtype, str] = MappingProxyType({dtype: code for code, dtype in _DTYPES.items()})


@dataclass(frozen=True)
class TensorEntry:
    """Shape and dtype of one tensor, the dtype as safetensors calls it: ``"F32"``."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def n_elements(self) -> int:
        return math.prod(self.shape)

    @property
    def n_bytes(self) -> int:
        return self.n_elements * _DTYPES[self.dtype].itemsize


def parse_tensor_entry(name: str, shape: object, dtype: object, path: Path) -> TensorEntry:
    """Check the shape and dtype that a file declares for a tensor.

    Parameters
    ----------
    name, shape, dtype
        As declared.
    path
        The file, for errors.

    Raises
    ------
    CheckpointError
        If they are malformed, or the tensor would be larger than any that can be saved.

    Examples
    --------
    >>> parse_tensor_entry("bias", [3], "F32", Path("manifest.json")).n_bytes
    12
    """
    if len(name) > MAX_NAME:
        raise CheckpointError(f"{path} has a tensor whose name has {len(name)} characters. {MEND}")
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise CheckpointError(f"{path} declares dtype {shown(dtype)} for {name!r}. {MEND}")
    sizes = tuple(shape) if isinstance(shape, list) and len(shape) <= MAX_RANK else (-1,)
    # A size of 0 counts as 1: torch overflows on absurd strides even where nothing is stored.
    if not all(type(size) is int and 0 <= size <= MAX_WEIGHTS_BYTES for size in sizes) or (
        math.prod(max(size, 1) for size in sizes) * _DTYPES[dtype].itemsize > MAX_WEIGHTS_BYTES
    ):
        raise CheckpointError(f"{path} declares shape {shown(shape)} for {name!r}, which cannot be. {MEND}")
    return TensorEntry(sizes, dtype)


def tensor_table(tensors: Mapping[str, Tensor]) -> dict[str, TensorEntry]:
    """Return the shape and dtype of every tensor, in order.

    Examples
    --------
    >>> tensor_table({"bias": torch.zeros(3)})
    {'bias': TensorEntry(shape=(3,), dtype='F32')}
    """
    return {name: TensorEntry(tuple(tensor.shape), _CODES[tensor.dtype]) for name, tensor in tensors.items()}


def weights_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Return tensors as safetensors bytes; the same tensors always give the same bytes.

    Parameters
    ----------
    tensors
        By name, on any device. Tensors that share memory are written once each.

    Raises
    ------
    CheckpointError
        If one cannot be saved: not dense, of an unusual dtype, or not finite.

    Examples
    --------
    >>> len(weights_bytes({"bias": torch.zeros(3)}))
    84
    """
    ready: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name, tensor in tensors.items():
        if not name.isprintable() or not 0 < len(name) <= MAX_NAME or name == "__metadata__":
            raise CheckpointError(
                f"A tensor cannot be saved under the name {shown(name)}. Rename it: at most {MAX_NAME} "
                "printable characters, and not '__metadata__'."
            )
        if tensor.layout != torch.strided or tensor.device.type == "meta" or tensor.dtype not in _CODES:
            raise CheckpointError(
                f"Tensor {name!r} cannot be saved: {tensor.dtype}, {tensor.layout}, on {tensor.device}. "
                f"Make it dense and of one of {sorted(map(str, _CODES))}."
            )
        plain = tensor.detach().to("cpu").contiguous()
        storage = plain.untyped_storage().data_ptr()
        ready[name] = plain.clone() if storage in storages else plain
        storages.add(storage)
    _check_values(ready, "the model")
    if sum(entry.n_bytes for entry in tensor_table(ready).values()) > MAX_WEIGHTS_BYTES - MAX_HEADER_BYTES:
        raise CheckpointError(f"The weights take more than {MAX_WEIGHTS_BYTES:,} bytes and cannot be saved.")
    return safetensors.torch.save(ready)


def parse_weights(data: bytes, table: Mapping[str, TensorEntry], path: Path) -> dict[str, Tensor]:
    """Read safetensors bytes whose header must declare exactly the tensors of a table.

    Parameters
    ----------
    data
        Content of the file.
    table
        What it must hold; the tensors are returned in this order.
    path
        The file, for errors.

    Raises
    ------
    CheckpointError
        If it is not safetensors, holds something else, or a value that no model has.

    Examples
    --------
    >>> data = weights_bytes({"bias": torch.zeros(3)})
    >>> parse_weights(data, {"bias": TensorEntry((3,), "F32")}, Path("weights.safetensors"))
    {'bias': tensor([0., 0., 0.])}
    """
    n_header = int.from_bytes(data[:8], "little")
    if len(data) < 8 or n_header > min(len(data) - 8, MAX_HEADER_BYTES):
        raise CheckpointError(f"{path} is not a safetensors file. {what_it_looks_like(data)}")
    header = parse_json(data[8 : 8 + n_header], path)
    header.pop("__metadata__", None)
    try:
        declared = {
            name: parse_tensor_entry(name, entry["shape"], entry["dtype"], path)
            for name, entry in header.items()
        }
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} has a malformed header: {error!r}. {MEND}") from error
    if declared != table:
        differing = sorted(name for name in {*declared, *table} if declared.get(name) != table.get(name))
        raise CheckpointError(f"{path} and the manifest disagree on {shown(differing)}. {MEND}")
    try:
        loaded = safetensors.torch.load(data)
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path} is not a sound safetensors file: {error}. {MEND}") from error
    _check_values(loaded, str(path))
    return {name: loaded[name] for name in table}


def _check_values(tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse NaN and infinity, and booleans that are neither 0 nor 1."""
    bad = [
        name
        for name, tensor in tensors.items()
        if (tensor.is_floating_point() and not bool(tensor.isfinite().all()))
        or (tensor.dtype == torch.bool and bool((tensor.view(torch.uint8) > 1).any()))
    ]
    if bad:
        raise CheckpointError(
            f"Weights of {where} are not finite: {shown(bad)}. Go back to an earlier checkpoint, "
            "or train again with a smaller learning rate."
        )
