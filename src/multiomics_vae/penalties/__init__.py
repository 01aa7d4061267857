"""Penalties of the loss, one a file. A new one is a new file with one subclass of `Penalty`."""

from multiomics_vae.penalties.base import Nuisance, Penalty, PenaltyInput, PenaltyValue, Surroundings
from multiomics_vae.penalties.nuisance import NuisancePenalty
from multiomics_vae.registry import Registry

PENALTIES: Registry[Penalty] = Registry("penalty", Penalty, __name__, __path__)

__all__ = [
    "PENALTIES",
    "Nuisance",
    "NuisancePenalty",
    "Penalty",
    "PenaltyInput",
    "PenaltyValue",
    "Surroundings",
]
