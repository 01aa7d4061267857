"""Fixtures shared by all tests."""

from __future__ import annotations

from collections.abc import Callable

import mudata
import pytest

import strategies


@pytest.fixture
def make_mdata() -> Callable[..., mudata.MuData]:
    """A function that builds a small MuData."""
    return strategies.make_mdata


@pytest.fixture
def mdata() -> mudata.MuData:
    """Twelve cells with RNA counts and 0/1 peaks, and obs columns of every kind."""
    return strategies.make_mdata()
