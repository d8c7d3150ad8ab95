"""Eigenpairs, traces and spectral densities of a symmetric operator known only by its products with vectors.

Nothing here knows a network: an operator is ``product(v) -> A v`` on flat vectors. Vectors keep the precision
of the products; sums over their n entries and the small projected matrices are float64.
"""

from __future__ import annotations

from landscape.krylov.basis import Product, matrix_product
from landscape.krylov.density import Quadrature, quadrature
from landscape.krylov.eigen import eigenpairs
from landscape.krylov.recompute import recomputed
from landscape.krylov.ritz import Eigenpairs
from landscape.krylov.trace import TraceEstimate, trace

__all__ = [
    "Eigenpairs",
    "Product",
    "Quadrature",
    "TraceEstimate",
    "eigenpairs",
    "matrix_product",
    "quadrature",
    "recomputed",
    "trace",
]
