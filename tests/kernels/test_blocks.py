"""Blocks of work shared out among threads: all of it once, in the caller's mode, before what may wait."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor

from multiomics_vae.kernels.compiled import blocks as blocks_module
from multiomics_vae.kernels.compiled.blocks import Blocks, give_way, work_in_background


def test_blocks_cover_the_range_once(threads: int) -> None:
    for n in (0, 1, 63, 64, 65, 1000):
        seen = torch.zeros(n, dtype=torch.int64)

        def mark(thread: int, low: int, high: int, seen: Tensor = seen) -> None:
            assert 0 <= thread < threads
            seen[low:high] += 1

        with Blocks() as blocks:
            blocks.each(n, mark)
        assert bool((seen == 1).all())


def test_an_error_in_a_thread_is_not_lost(threads: int) -> None:
    def fail(thread: int, low: int, high: int) -> None:
        if high == 1000:
            raise ValueError("from a block")

    with Blocks() as blocks, pytest.raises(ValueError, match="from a block"):
        blocks.each(1000, fail)


def test_blocks_take_every_number_once(threads: int) -> None:
    for n in (0, 1, 2, 7, 200):
        seen = torch.zeros(n, dtype=torch.int64)

        def mark(thread: int, i: int, seen: Tensor = seen) -> None:
            assert 0 <= thread < threads
            seen[i] += 1

        with Blocks() as blocks:
            blocks.each_one(n, mark)
        assert bool((seen == 1).all())


def test_blocks_leave_torch_its_threads(threads: int) -> None:
    inside = []
    with Blocks() as blocks:
        blocks.each_one(8, lambda thread, i: inside.append(torch.get_num_threads()))
    assert set(inside) == {1}
    with pytest.raises(ValueError, match="stop"), Blocks():
        raise ValueError("stop")
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("in_background", [True, False])
def test_work_in_the_background_gives_way_to_blocks(
    in_background: bool, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = in_background and threads > 1  # one thread alone leaves room beside it
    monkeypatch.setattr(blocks_module, "LONGEST_WAY", 60.0)
    within, passed = threading.Event(), threading.Event()
    seen: list[bool] = []

    def beside() -> None:
        if in_background:
            work_in_background()
        within.wait()
        give_way()
        passed.set()

    def work(_: int, i: int) -> None:
        if i == 0:
            within.set()
            seen.append(passed.wait(timeout=0.3 if waits else 30.0))

    other = threading.Thread(target=beside)
    other.start()
    with Blocks() as blocks:
        blocks.each_one(2, work)
    other.join(timeout=30.0)
    assert seen == [not waits]
    assert passed.is_set()


def test_giving_way_has_an_end(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks_module, "LONGEST_WAY", 0.01)
    passed = threading.Event()

    def beside() -> None:
        work_in_background()
        give_way()
        passed.set()

    def work(_: int, i: int) -> None:
        if i == 0:
            threading.Thread(target=beside).start()
            assert passed.wait(timeout=30.0)

    with Blocks() as blocks:
        blocks.each_one(2, work)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_threads_of_blocks_are_in_the_mode_of_their_caller(mode: type) -> None:
    before, modes = torch.get_num_threads(), []
    everybody = threading.Barrier(2, timeout=60)

    def note(thread: int, i: int) -> None:
        modes.append((torch.is_inference_mode_enabled(), torch.is_grad_enabled()))
        everybody.wait()  # so that one thread does not do it all

    torch.set_num_threads(2)
    try:
        with mode(), Blocks() as blocks:
            expected = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
            blocks.each_one(2, note)
    finally:
        torch.set_num_threads(before)
    assert modes == [expected, expected]
