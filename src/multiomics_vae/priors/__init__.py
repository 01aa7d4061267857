"""Priors p(z), one a file. A new one is a new file with one subclass of `Prior`."""

from multiomics_vae.priors.base import InferFromFeatures, Prior
from multiomics_vae.registry import Registry

PRIORS: Registry[Prior] = Registry("prior", Prior, __name__, __path__)

__all__ = ["PRIORS", "InferFromFeatures", "Prior"]
