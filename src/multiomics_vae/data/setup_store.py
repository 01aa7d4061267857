"""Which setup a MuData was given, remembered without writing into it and without keeping it alive."""

from __future__ import annotations

import weakref
from typing import Generic, TypeVar

Setup = TypeVar("Setup")


class SetupStore(Generic[Setup]):
    """Setups by the identity of the object they belong to.

    A copy of an object has no setup; a second setup replaces the first; when the object is
    collected its setup goes with it.

    Examples
    --------
    >>> class Data: ...
    >>> store, data = SetupStore[str](), Data()
    >>> store.put(data, "first")
    >>> store.get(data)
    'first'
    """

    def __init__(self) -> None:
        self._setups: dict[int, tuple[weakref.ref[object], Setup]] = {}

    def put(self, owner: object, setup: Setup) -> None:
        """Remember the setup of an object, in place of an earlier one."""
        key = id(owner)
        known = key in self._setups
        self._setups[key] = (weakref.ref(owner), setup)
        if not known:
            weakref.finalize(owner, self._setups.pop, key, None)

    def get(self, owner: object) -> Setup | None:
        """Setup of an object; None where it has none."""
        reference, setup = self._setups.get(id(owner), (None, None))
        return setup if reference is not None and reference() is owner else None

    def __len__(self) -> int:
        return len(self._setups)
