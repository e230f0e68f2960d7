"""Other formulas of Embedding and EmbeddingBag, and what their gradients are by definition.

Letters as there: n index, v row of the table, d its elements, b bag.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from parity.families.formula import Variant
from refnet.arithmetic import special


def _of_balls(array: Any) -> bool:
    """Whether this is what a tape differentiates; where there is none, a definition of gradients changes nothing."""
    return isinstance(array, np.ndarray) and array.dtype == object


def _as_defined(module: Any) -> None:
    """Rows of which the derivative is what torch documents as the gradient: 0 for the padding of an Embedding, and
    divided by the number of times that the row is looked up.
    """
    rows = module.rows
    padding = module.padding_idx if type(module).__name__ == "Embedding" else None
    if padding is None and not module.scale_grad_by_freq:
        return

    def defined(W: Any, K: Any) -> Any:
        E = rows(W, K)
        if not _of_balls(E):
            return E
        # A row that is a value, and no function of the table
        V = np.asarray(np.frompyfunc(lambda x: type(x)(x.value), 1, 1)(E), object)
        D = E - V
        if module.scale_grad_by_freq:
            times = np.bincount(K.reshape(-1), minlength=W.shape[0])
            D = D / np.expand_dims(times[K], -1)
        if padding is not None:
            D = np.where(np.expand_dims(padding == K, -1), 0, D)
        return V + D

    module.rows = defined


def _first_of_the_largest(module: Any) -> None:
    _as_defined(module)
    # Y[b,d] = sum_k first[b,k,d] M[b,k,d]: at a tie the derivative is the first one's
    largest = module.largest
    module.largest = lambda M: (M * module.first(M)).sum(axis=-2) if _of_balls(M) else largest(M)


DERIVATIVES = {"Embedding": _as_defined, "EmbeddingBag": _first_of_the_largest}


def _parts_of_the_frequency(module: Any) -> None:
    right = module.backward

    def backward(dY: Any, saved: Any) -> Any:
        if not module.scale_grad_by_freq:
            return right(dY, saved)
        # dW[v,d] = sum_{n: K[n] = v} dY[n,d] (1 / c[v])
        ones = special.lift(np.ones((*saved.K.shape, 1)), dY)
        times = special.gather(special.scatter(ones, saved.K, module.num_embeddings), saved.K)
        scaled = dY * (1 / times)
        module.scale_grad_by_freq = False
        try:
            return right(scaled, saved)
        finally:
            module.scale_grad_by_freq = True

    module.backward = backward


def _tied_rows_share(module: Any) -> None:
    module.first = lambda M: special.amax_weights(M, -2)


WEAKER = (
    Variant(
        "each term by 1 / c",
        "With scale_grad_by_freq each term of a row's gradient is multiplied by the rounded 1 / c, c the row's number "
        "among the indices.",
        "torch: aten/src/ATen/native/Embedding.cpp, embedding_dense_backward_cpu",
        {"Embedding": _parts_of_the_frequency},
        ("torch",),
    ),
)

CONVENTIONS = (
    Variant(
        "tied rows share the gradient",
        "Where several rows of a bag are the largest, each has an equal part of the gradient, instead of the first.",
        "JAX: jax/_src/lax/lax.py, _reduce_chooser_jvp_rule, the derivative of jnp.max; torch.amax",
        {"EmbeddingBag": _tied_rows_share},
        ("jax",),
    ),
)
