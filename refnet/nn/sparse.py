"""Rows of a table, looked up by their indices: each alone, or in bags."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from refnet import _check
from refnet.arithmetic import special
from refnet.generator import Generator
from refnet.nn import init
from refnet.nn.module import Array, Module, Params

MODES = ("sum", "mean", "max")


class EmbeddingSaved(NamedTuple):
    """The indices K, and shape and dtype of the output."""

    K: Array
    shape: tuple[int, ...]
    dtype: Any


class Embedding(Module):
    """y = the row of the table that an index names.

    Axes: n index (all axes of the input together), v row of the table, d its elements. Indices K (n) of int64 or int32,
    `weight` W (v, d):

        Y[n,d] = W[K[n],d]
        dW[v,d] = sum_{n: K[n] = v} dY[n,d]

    Two options change the gradient, which is no derivative then: the row `padding_idx` has a gradient of 0, and
    `scale_grad_by_freq` divides the gradient of row v by the number of times that v is among the indices.

    `max_norm` writes: before anything else, each row that is looked up and whose norm N[v] is above it becomes
    W[v,d] max_norm / (N[v] + 1e-7), as in torch. The gradient is that of the table as it is then; this step is not
    differentiated. N[v] = (sum_d |W[v,d]|^p)^(1/p) with p = `norm_type`, the largest |W[v,d]| for infinity (1/p is
    rounded to binary64, other than for 1 and 2).

    Args:
        num_embeddings, embedding_dim: the shape of the table.
        padding_idx: the row whose gradient is 0, initially zeros; counted from the end if negative.
        max_norm, norm_type: see above; None for no renormalization.
        scale_grad_by_freq: see above.
        sparse: accepted, as the gradient's numbers are the same: here it is always an array of the table's shape.
        _weight: the table itself, not copied, instead of a new one drawn from N(0, 1).
        _freeze: accepted: what is trained is what an optimizer is given.
        device: accepted as torch's: the processor.
        dtype: float32 or float64 (the default).
        generator: source of the initial values, draws from N(0, 1) as in torch.

    Raises:
        TypeError: a size is no integer; the input is not of int64 or int32.
        ValueError: a size or norm is out of its range; padding_idx is no row; `_weight` has another shape.
        IndexError: an index is no row of the table.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Array | None = None,
        _freeze: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.num_embeddings = _check.size("Embedding", "num_embeddings", num_embeddings)
        self.embedding_dim = _check.size("Embedding", "embedding_dim", embedding_dim)
        self.padding_idx = _row("Embedding", padding_idx, num_embeddings)
        self.max_norm, self.norm_type = _norms("Embedding", max_norm, norm_type)
        self.scale_grad_by_freq, self.sparse = scale_grad_by_freq, sparse
        shape, dtype = (num_embeddings, embedding_dim), _check.dtype_of("Embedding", dtype, device)
        self.params["weight"] = _table("Embedding", _weight, shape, dtype, self.padding_idx, generator)

    def extra_repr(self) -> str:
        said = _said(self, "padding_idx", "max_norm", "norm_type", "scale_grad_by_freq")
        return f"{said}, sparse=True" if self.sparse else said

    def forward(self, input: Array) -> tuple[Array, EmbeddingSaved]:
        K, W = input, self.params["weight"]
        _check.row_indices("Embedding", "input", K, self.num_embeddings)
        if self.max_norm is not None:
            _renormalize(W, K, self.max_norm, self.norm_type)
        Y = self.rows(W, K)
        return Y, EmbeddingSaved(K, tuple(Y.shape), W.dtype)

    def rows(self, W: Array, K: Array) -> Array:
        """Y[n,d] = W[K[n],d]"""
        return special.gather(W, K)

    def backward(self, grad_output: Array, saved: EmbeddingSaved) -> tuple[None, Params]:
        dY = _check.upstream("Embedding", grad_output, saved.shape, saved.dtype)
        # dW[v,d] = sum_{n: K[n] = v} dY[n,d]
        dW = _added_up(dY, saved.K, self.num_embeddings, self.scale_grad_by_freq)
        if self.padding_idx is not None:
            dW = np.where(np.expand_dims(np.arange(self.num_embeddings), -1) == self.padding_idx, 0, dW)
        return None, {"weight": dW}


class EmbeddingBagSaved(NamedTuple):
    """The indices K, the bag of each and the size of each bag (b, 1); the rows E (n, d), weights P (n, 1), and which
    indices count (n, 1); for `max` the places of a bag's indices (b, k) and their rows M (b, k, d); the shapes of the
    input and of the output.
    """

    K: Array
    bag: Array
    size: Array
    E: Array
    P: Array | None
    counts: Array
    places: Array | None
    M: Array | None
    input: tuple[int, ...]
    shape: tuple[int, ...]


class EmbeddingBag(Module):
    """y = the sum, the mean or the largest of the rows of the table that the indices of a bag name.

    Axes: n index, b bag, v row of the table, d its elements, k index of a bag. The bags are the rows of an input
    (b, k), or begin in an input (n,) at `offsets` (b,). Indices K (n) of int64 or int32, `weight` W (v, d), weights of
    the indices P (n), 1 where none are given; n in b are the indices of bag b that are not `padding_idx`, C[b] their
    number.

        E[n,d] = W[K[n],d]
        sum:   Y[b,d] = sum_{n in b} P[n] E[n,d]     dE[n,d] = P[n] dY[b,d]     dP[n] = sum_d dY[b,d] E[n,d]
        mean:  Y[b,d] = sum_{n in b} E[n,d] / C[b]   dE[n,d] = dY[b,d] / C[b]
        max:   Y[b,d] = max_{n in b} E[n,d]          dE[n,d] = dY[b,d] for the first n of the largest, else 0
        dW[v,d] = sum_{n: K[n] = v} dE[n,d]

    An empty bag is 0 and passes no gradient on, nor does a `padding_idx`. `scale_grad_by_freq` divides the gradient of
    row v by the number of times that v is among the indices. `max_norm` writes into the table as in Embedding.

    A NaN among the rows of a bag makes its largest NaN; torch passes over one that is not the first.

    Args:
        num_embeddings, embedding_dim: the shape of the table.
        max_norm, norm_type, scale_grad_by_freq, sparse, _weight: as in Embedding; not all of them for `max`, as in
            torch.
        mode: sum, mean or max.
        include_last_offset: whether `offsets` has the number of indices behind the last bag's begin.
        padding_idx: the row that is left out of its bags; counted from the end if negative.
        device: accepted as torch's: the processor.
        dtype: float32 or float64 (the default).
        generator: source of the initial values, draws from N(0, 1) as in torch.

    Raises:
        TypeError: a size is no integer; indices or offsets are not of int64 or int32; the weights have another dtype.
        ValueError: an argument is out of its range; the input has other axes; offsets are given for two axes, or don't
            rise from 0 to at most the number of indices; weights are given for another mode than sum, or of another
            shape than the input.
        IndexError: an index is no row of the table.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        _weight: Array | None = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        device: Any = None,
        dtype: Any = None,
        *,
        generator: Generator | None = None,
    ) -> None:
        super().__init__()
        self.num_embeddings = _check.size("EmbeddingBag", "num_embeddings", num_embeddings)
        self.embedding_dim = _check.size("EmbeddingBag", "embedding_dim", embedding_dim)
        self.max_norm, self.norm_type = _norms("EmbeddingBag", max_norm, norm_type)
        _check.one_of("EmbeddingBag", "mode", mode, MODES)
        if mode == "max" and (scale_grad_by_freq or sparse):
            raise ValueError("EmbeddingBag: expected neither scale_grad_by_freq nor sparse with mode max, got one")
        self.padding_idx = _row("EmbeddingBag", padding_idx, num_embeddings)
        self.scale_grad_by_freq, self.mode, self.sparse = scale_grad_by_freq, mode, sparse
        self.include_last_offset = include_last_offset
        shape, dtype = (num_embeddings, embedding_dim), _check.dtype_of("EmbeddingBag", dtype, device)
        self.params["weight"] = _table("EmbeddingBag", _weight, shape, dtype, self.padding_idx, generator)

    def extra_repr(self) -> str:
        said = _said(self, "max_norm", "norm_type", "scale_grad_by_freq")
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{said}, mode={self.mode!r}{padding}"

    def forward(
        self, input: Array, offsets: Array | None = None, per_sample_weights: Array | None = None
    ) -> tuple[Array, EmbeddingBagSaved]:
        W, P = self.params["weight"], per_sample_weights
        self.check(input, offsets, P)
        K = input.reshape(math.prod(input.shape))
        if self.max_norm is not None:
            _renormalize(W, K, self.max_norm, self.norm_type)
        E = self.rows(W, K)
        begin = self.begins(input, offsets)
        bags, n = begin.shape[0], K.shape[0]
        # bag[n]: the number of bags that begin at n or before it, less 1
        starts = special.scatter(np.ones((bags, 1), np.int64), begin, n + 1).reshape(n + 1)
        bag = np.cumsum(starts, axis=-1)[:n] - 1
        counts = np.expand_dims((-1 if self.padding_idx is None else self.padding_idx) != K, -1)
        # C[b] = sum_{n in b} 1
        size = special.scatter(np.where(counts, 1, 0), bag, bags)
        if P is not None:
            P = np.expand_dims(P.reshape(n), -1)
        places = M = None
        if self.mode == "max" and n:
            # Y[b,d] = max_{n in b} E[n,d]
            places = _places(begin, counts)
            M = special.gather(E, places)
            Y = np.where(size > 0, self.largest(M), 0)
        else:
            # Y[b,d] = sum_{n in b} P[n] E[n,d], for the mean divided by C[b]
            T = E if P is None else E * P
            Y = special.scatter(np.where(counts, T, 0), bag, bags)
            if self.mode == "mean":
                Y = Y / special.lift(special.maximum(size, 1), E)
        return Y, EmbeddingBagSaved(K, bag, size, E, P, counts, places, M, tuple(input.shape), tuple(Y.shape))

    def rows(self, W: Array, K: Array) -> Array:
        """E[n,d] = W[K[n],d]"""
        return special.gather(W, K)

    def largest(self, M: Array) -> Array:
        """Y[b,d] = max_k M[b,k,d]"""
        return special.amax(M, -2)

    def first(self, M: Array) -> Array:
        """dY[b,d] / dM[b,k,d]: 1 for the first k of the largest, else 0."""
        # (where several tie, each has a part of 1 in A; what is not known of A, or is no number, stays so)
        A = special.amax_weights(M, -2)
        return np.where(special.largest(A, -2), A + (1 - A), np.where(A == 0, A, 0 * A))

    def begins(self, K: Array, offsets: Array | None) -> Array:
        """The place at which each bag begins in the indices."""
        if offsets is None:
            bags, n = K.shape
            return np.arange(bags) * n
        return offsets[:-1] if self.include_last_offset else offsets

    def check(self, K: Array, offsets: Array | None, P: Array | None) -> None:
        """Raise what is said above unless these are bags."""
        _check.row_indices("EmbeddingBag", "input", K, self.num_embeddings)
        if K.ndim not in (1, 2):
            raise ValueError(f"EmbeddingBag: expected an input of 1 or 2 axes, got shape {np.shape(K)}")
        if (offsets is None) == (K.ndim == 1):
            raise ValueError(
                f"EmbeddingBag: expected offsets for an input of one axis and none for one of two, got input shape "
                f"{tuple(K.shape)} {'without' if offsets is None else 'with'} offsets"
            )
        if offsets is not None:
            _check.offsets("EmbeddingBag", offsets, K.shape[0], self.include_last_offset)
        if P is not None:
            if self.mode != "sum":
                raise ValueError(f"EmbeddingBag: expected per_sample_weights with mode sum only, got mode {self.mode}")
            _check.floating("EmbeddingBag", weight=self.params["weight"], per_sample_weights=P)
            _check.same_shape("EmbeddingBag", input=K, per_sample_weights=P)

    def backward(self, grad_output: Array, saved: EmbeddingBagSaved) -> tuple[Any, Params]:
        K, bag, size, E, P, counts, places, M, before, shape = saved
        dY = _check.upstream("EmbeddingBag", grad_output, shape, E.dtype)
        dP = None
        if places is not None and M is not None:
            # dM[b,k,d] = dY[b,d] for the first k of the largest, else 0     dW[v,d] = sum_{b,k: K[b,k] = v} dM[b,k,d]
            first, dB = self.first(M), np.expand_dims(np.where(size > 0, dY, 0), -2)
            rows = special.gather(np.expand_dims(K, -1), places)[..., 0]
            dW = special.scatter(np.where(first == 0, 0, dB * first), rows, self.num_embeddings)
        else:
            # dE[n,d] = P[n] dY[b,d], for the mean divided by C[b]     dP[n] = sum_d dY[b,d] E[n,d]
            if self.mode == "mean":
                dY = dY / special.lift(special.maximum(size, 1), E)
            dT = np.where(counts, special.gather(dY, bag), 0)
            dE = dT if P is None else dT * P
            if P is not None:
                dP = special.total(dT * E, -1).reshape(*before)
            dW = _added_up(dE, K, self.num_embeddings, self.scale_grad_by_freq)
        return (None, None, dP), {"weight": dW}


def _added_up(dE: Array, K: Array, rows: int, by_frequency: bool) -> Array:
    """dW[v,d] = sum_{n: K[n] = v} dE[n,d], divided by the number of these n if `by_frequency`."""
    dW = special.scatter(dE, K, rows)
    if not by_frequency:
        return dW
    times = special.scatter(np.ones((*K.shape, 1), np.int64), K, rows)
    return dW / special.lift(special.maximum(times, 1), dE)


def _renormalize(W: Array, K: Array, max_norm: float, norm_type: float) -> None:
    """W[v,d] = W[v,d] max_norm / (N[v] + 1e-7) where N[v] > max_norm and v is among K."""
    if not W.size:
        return
    A, most = np.absolute(W), special.lift(max_norm, W)
    # N[v] = (sum_d |W[v,d]|^p)^(1/p)
    if norm_type == math.inf:
        N = special.amax(A, -1, keepdims=True)
    elif norm_type == 2:
        N = np.sqrt(special.total(A * A, -1, keepdims=True))
    else:
        N = np.power(special.total(np.power(A, norm_type), -1, keepdims=True), norm_type**-1)
    times = special.scatter(np.ones((*K.shape, 1), np.int64), K, W.shape[-2])
    scaled = W * (most / (N + special.lift(1e-7, W)))
    W[...] = np.where(np.greater(times, 0), np.where(np.greater(N, most), scaled, W), W)


def _places(begin: Array, counts: Array) -> Array:
    """For each bag the places of its indices (b, k). A bag with fewer indices than the longest, or with some that don't
    count, has the place of its first one there, which changes neither the largest nor the first of them; an empty one
    has any.
    """
    n = counts.shape[-2]
    ends = np.concatenate([begin[1:], np.asarray([n])], axis=-1)
    sizes = np.expand_dims(ends - begin, -1)
    k = np.arange(int(special.amax(sizes, -2).sum()))
    within = k < sizes
    places = (np.expand_dims(begin, -1) + k) * within
    inside = np.logical_and(within, special.gather(counts, places)[..., 0])
    first = np.logical_and(special.largest(inside, -1), inside)
    return np.where(inside, places, np.where(first, places, 0).sum(axis=-1, keepdims=True))


def _row(operation: str, padding_idx: Any, rows: int) -> int | None:
    """The row that `padding_idx` means."""
    if padding_idx is None:
        return None
    row = _check.integer(operation, "padding_idx", padding_idx)
    if not -rows <= row < rows:
        raise ValueError(f"{operation}: expected padding_idx from {-rows} to {rows - 1}, got {padding_idx}")
    return row + rows if row < 0 else row


def _norms(operation: str, max_norm: Any, norm_type: Any) -> tuple[Any, Any]:
    if max_norm is not None:
        _check.not_negative(operation, "max_norm", max_norm)
    _check.is_number(operation, "norm_type", norm_type)
    if not norm_type > 0:
        raise ValueError(f"{operation}: expected norm_type > 0, got {norm_type}")
    return max_norm, norm_type


def _table(
    operation: str,
    given: Array | None,
    shape: tuple[int, int],
    dtype: Any,
    padding_idx: int | None,
    generator: Generator | None,
) -> Array:
    """The initial table."""
    if given is None:
        W: Array = init.normal_(np.empty(shape, dtype), generator=generator)
        if padding_idx is not None:
            W[padding_idx] = 0
        return W
    _check.floating(operation, _weight=given)
    if tuple(given.shape) != shape:
        raise ValueError(f"{operation}: expected _weight of shape {shape}, got {tuple(given.shape)}")
    return given


def _said(module: Any, *names: str) -> str:
    """What torch says of a table in its parentheses."""
    usual = {"padding_idx": None, "max_norm": None, "norm_type": 2, "scale_grad_by_freq": False}
    said = [f"{module.num_embeddings}, {module.embedding_dim}"]
    said += [f"{name}={getattr(module, name)}" for name in names if getattr(module, name) != usual[name]]
    return ", ".join(said)
