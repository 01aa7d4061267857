"""Output layer and log likelihood as one function, for modalities with very many features.

A decoder's last layer makes a number for every cell and feature; at 100 000 peaks these ``(B, F)``
tensors, not the arithmetic, are what a training step waits for. Here the product, the log likelihood
and all gradients are computed chunk by chunk in buffers that stay in the processor's cache. A new
likelihood is one subclass of `ElementwiseKernel`.
"""

from multiomics_vae.kernels.bernoulli import BernoulliKernel, bernoulli_log_likelihood
from multiomics_vae.kernels.chunked_entries import ChunkedEntries
from multiomics_vae.kernels.drawn_entries import DrawnEntries
from multiomics_vae.kernels.drawn_features import DrawnFeatures, WholeLayer
from multiomics_vae.kernels.elementwise import ElementwiseKernel, NonzeroTerms, ZeroTotals
from multiomics_vae.kernels.feature_sample import FeatureSample, chances_by_size
from multiomics_vae.kernels.fused import (
    LogLikelihood,
    LogLikelihoods,
    chunk_rows,
    fused_log_likelihood,
    fused_log_likelihoods,
)
from multiomics_vae.kernels.hidden_entries import hide_entries
from multiomics_vae.kernels.negative_binomial import NegativeBinomialKernel, negative_binomial_log_likelihood
from multiomics_vae.kernels.options import ChunkOptions
from multiomics_vae.kernels.poisson import PoissonKernel, poisson_log_likelihood
from multiomics_vae.kernels.quantiles import (
    beta_binomial_quantile,
    beta_quantile,
    negative_binomial_quantile,
    poisson_quantile,
)
from multiomics_vae.kernels.softmax_normaliser import SoftmaxNormaliser, softmax_normaliser
from multiomics_vae.kernels.sparse_rows import SparseRows

__all__ = [
    "BernoulliKernel",
    "ChunkOptions",
    "ChunkedEntries",
    "DrawnEntries",
    "DrawnFeatures",
    "ElementwiseKernel",
    "FeatureSample",
    "LogLikelihood",
    "LogLikelihoods",
    "NegativeBinomialKernel",
    "NonzeroTerms",
    "PoissonKernel",
    "SoftmaxNormaliser",
    "SparseRows",
    "WholeLayer",
    "ZeroTotals",
    "bernoulli_log_likelihood",
    "beta_binomial_quantile",
    "beta_quantile",
    "chances_by_size",
    "chunk_rows",
    "fused_log_likelihood",
    "fused_log_likelihoods",
    "hide_entries",
    "negative_binomial_log_likelihood",
    "negative_binomial_quantile",
    "poisson_log_likelihood",
    "poisson_quantile",
    "softmax_normaliser",
]
