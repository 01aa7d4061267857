"""Heads that predict outcomes from z, one a file. A new one is a new file with a subclass."""

from multiomics_vae.heads.base import ClassHead, NumberHead, OutcomeHead, TimeHead
from multiomics_vae.heads.head import Head, NamedHead
from multiomics_vae.registry import Registry

HEADS: Registry[OutcomeHead] = Registry("head", OutcomeHead, __name__, __path__)

__all__ = ["HEADS", "ClassHead", "Head", "NamedHead", "NumberHead", "OutcomeHead", "TimeHead"]
