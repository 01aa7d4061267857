"""How a component is found by its name.

A room (``likelihoods/``, ``fusion/``, ``priors/``, …) holds one class a file. `Registry` imports
the files of a room and collects the classes that carry a ``name``, so a new component is one new
file and nothing else.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Generic, TypeVar, cast

from multiomics_vae.errors import InputError, did_you_mean

Component = TypeVar("Component")


class Registry(Generic[Component]):
    """The classes of one room, by name.

    Parameters
    ----------
    kind
        What the room holds, as errors call it: ``"likelihood"``.
    base
        The abstract class that every component of the room derives from.
    package
        Dotted name of the room.
    path
        The room's ``__path__``.

    Examples
    --------
    >>> from multiomics_vae.likelihoods import LIKELIHOODS
    >>> LIKELIHOODS["nb"].name
    'nb'
    """

    def __init__(self, kind: str, base: type[Component], package: str, path: list[str]) -> None:
        self.kind = kind
        self._classes: dict[str, type[Component]] = {}
        for module_info in pkgutil.iter_modules(path):
            module = importlib.import_module(f"{package}.{module_info.name}")
            for _, found in inspect.getmembers(module, inspect.isclass):
                is_ours = found.__module__ == module.__name__ and issubclass(found, base)
                if is_ours and not inspect.isabstract(found):
                    self._add(cast(type[Component], found))

    def _add(self, found: type[Component]) -> None:
        name: str = found.name  # type: ignore[attr-defined]
        if name in self._classes:
            raise TypeError(f"two {self.kind} classes are called {name!r}: {found} and {self._classes[name]}")
        self._classes[name] = found

    def __getitem__(self, name: str) -> type[Component]:
        if name not in self._classes:
            raise InputError(f"There is no {self.kind} called {name!r}. {did_you_mean(name, self._classes)}")
        return self._classes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._classes))

    def __len__(self) -> int:
        return len(self._classes)

    def __contains__(self, name: object) -> bool:
        return name in self._classes
