"""Memory of large buffers: kept when they die, handed out again, given back when asked."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch

from multiomics_vae.kernels import allocation
from multiomics_vae.kernels.allocation import (
    LARGE_FROM_BYTES,
    MemoryKeeper,
    empty_buffer,
    keep_freed_memory,
    release_kept_memory,
)

PAGES = 2**16


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def test_freed_memory_is_used_again() -> None:
    keeper = MemoryKeeper(most_bytes=4 * PAGES)
    first = keeper.empty(PAGES)
    place = address(first)
    assert keeper.n_bytes == 0
    del first
    assert keeper.n_bytes == PAGES
    assert address(keeper.empty(PAGES)) == place


def test_memory_in_use_is_not_handed_out() -> None:
    keeper = MemoryKeeper(most_bytes=4 * PAGES)
    held = [keeper.empty(PAGES) for _ in range(3)]
    for i, array in enumerate(held):
        array[:] = i
    assert [int(array.min()) for array in held] == [int(array.max()) for array in held] == [0, 1, 2]


def test_another_size_is_another_block() -> None:
    keeper = MemoryKeeper(most_bytes=4 * PAGES)
    keeper.empty(PAGES)
    assert len(keeper.empty(2 * PAGES)) == 2 * PAGES
    assert keeper.n_bytes == 3 * PAGES


def test_no_more_than_the_limit_is_kept() -> None:
    keeper = MemoryKeeper(most_bytes=2 * PAGES)
    held = [keeper.empty(PAGES) for _ in range(5)]
    held.clear()
    assert keeper.n_bytes == 2 * PAGES
    keeper.release()
    assert keeper.n_bytes == 0


def test_a_view_keeps_its_memory() -> None:
    keeper = MemoryKeeper(most_bytes=4 * PAGES)
    part = torch.from_numpy(keeper.empty(PAGES))[10:20]
    gc.collect()
    assert keeper.n_bytes == 0
    del part
    gc.collect()
    assert keeper.n_bytes == PAGES


def test_buffers_of_a_training_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = MemoryKeeper(2**30)
    monkeypatch.setattr(allocation, "_KEEPER", keeper)
    buffer = empty_buffer((LARGE_FROM_BYTES // 4,), torch.zeros(1))
    assert buffer.data_ptr() % 64 == 0
    del buffer
    gc.collect()
    assert keeper.n_bytes == LARGE_FROM_BYTES
    release_kept_memory()
    assert keeper.n_bytes == 0


def test_small_buffers_and_other_devices_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocation, "_KEEPER", None)
    assert empty_buffer((2, 3), torch.zeros(1, dtype=torch.float64)).dtype == torch.float64
    assert empty_buffer((2**23,), torch.zeros(1, device="meta")).device.type == "meta"


def test_teaching_the_c_library_changes_no_numbers() -> None:
    before = torch.arange(5.0)
    keep_freed_memory()
    assert torch.equal(before, torch.arange(5.0))
