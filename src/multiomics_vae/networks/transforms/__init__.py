"""Input transforms of the encoders, one a file. A new one is a new file with one subclass."""

from multiomics_vae.networks.transforms.base import InputTransform
from multiomics_vae.registry import Registry

TRANSFORMS: Registry[InputTransform] = Registry("input transform", InputTransform, __name__, __path__)

__all__ = ["TRANSFORMS", "InputTransform"]
