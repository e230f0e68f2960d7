"""What a framework really computes where it shows a known finding: its formula, in its order, at its precision.

A failure is a finding only where the answer is this, so that the same tensor halved, negated or cut short is new.
Elements that a finding is not about have to be right. A formula gives numbers bit for bit where its order is known, and
else numbers with a bound, which is that of the same lines in the arithmetic of budgets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Set
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from parity.budget.array import Budget
from parity.budget.formats import FORMATS, Profile
from parity.families.fault import replaced
from parity.families.nn.attention.formulas import before_dropout, from_scores, of_both, weighted
from parity.records import definition
from parity.records.record import VJP, Optimize
from parity.verdict.evaluation import Patches, Request
from parity.verdict.tensor import Answer, Array, Enclosure
from refnet.arithmetic import special
from refnet.arithmetic.array_like import Undecided
from refnet.nn.attention import exponentials, scores

Record = VJP | Optimize
Enclosures = Mapping[str, Enclosure]


class Computed(NamedTuple):
    """A tensor as a framework computes it.

    Attributes:
        value: its elements, NaN and infinity where they are. bound: how far its elements may be from these.
        there: where the finding is; elsewhere the answer has to be right.
    """

    value: Array
    bound: Array | float = 0.0
    there: Array | bool = True


Formula = Callable[[Record, Enclosures], Iterator[tuple[str, Computed]]]
"""The tensors that show a finding in the answer to a record, by name; more than one for a name are several ways."""


def shown(
    formula: Formula,
    record: Record,
    failing: Set[str],
    unseen: Set[str],
    answer: Answer,
    enclosures: Enclosures,
) -> bool:
    """Whether each failing tensor of an answer is what the formula gives, and each unseen one of which it speaks."""
    with np.errstate(all="ignore"):
        try:
            ways = list(formula(record, enclosures))
        except Undecided:
            return False
        return all(
            any(_is(computed, answer.get(name), enclosures.get(name)) for own, computed in ways if own == name)
            for name in failing | (unseen & {own for own, _ in ways})
        )


def _is(computed: Computed, got: Array | None, enclosure: Enclosure | None) -> bool:
    if got is None or enclosure is None or got.shape != np.shape(computed.value) or got.shape != enclosure.truth.shape:
        return False
    value = computed.value
    same = (got == value) | (np.isnan(got) & np.isnan(value)) | (abs(got - value) <= computed.bound)
    right = enclosure.truth.error(got) <= enclosure.bound
    return bool(np.where(computed.there, same, right).all())


def around_itself(record: Record, patches: Patches) -> Iterator[tuple[str, Computed]]:
    """The values of refnet's lines, changed by patches, with the bounds that any evaluation of these keeps to."""
    for name, v in Request.plain(record).around_itself(patches).items():
        yield name, Computed(v.x, v.e)


def variant(patches: Patches) -> Formula:
    """The formula that patches make of refnet's."""
    return lambda record, _: around_itself(record, patches)


def in_float16(patches: Patches | None = None) -> Formula:
    """Where refnet's lines, with every number in float16, constants too, are not finite."""

    def formula(record: Record, _: Enclosures) -> Iterator[tuple[str, Computed]]:
        tensors = definition.tensors(record, lambda a: a.astype(np.float16), patches or {})
        for name, tensor in tensors.items():
            if isinstance(record, VJP):
                value = np.asarray(tensor, np.float64)
            else:
                series = np.stack([np.asarray(t, np.float64) for t in tensor])
                value = np.diff(series, axis=0) if name.startswith("param.") else series
            yield name.replace("param.", "update."), Computed(value, there=~np.isfinite(value))

    return formula


def not_written(record: Record, enclosures: Enclosures) -> Iterator[tuple[str, Computed]]:
    """Memory that nobody has written: any number, NaN and infinity among them, and another one at the next call."""
    for name, e in enclosures.items():
        if name == "output":
            yield name, Computed(np.zeros(e.truth.shape), np.inf)
            yield name, Computed(np.full(e.truth.shape, np.nan))


def weight_gradient_of_nan(record: Record, enclosures: Enclosures) -> Iterator[tuple[str, Computed]]:
    """GroupNorm's weight gradient without places."""
    yield "grad.weight", Computed(np.full(enclosures["grad.weight"].truth.shape, np.nan))


def hardsigmoid(record: Record, _: Enclosures) -> Iterator[tuple[str, Computed]]:
    """dX[.] = dY[.] s for -3 < X[.] < 3, s the number of float32 nearest to 1/6; else 0."""
    assert isinstance(record, VJP)
    (X,), (dY,) = record.inputs, record.grad_outputs
    yield "grad_input", Computed(np.where((X > -3) & (X < 3), dY * np.float64(np.float32(1 / 6)), 0.0))


def celu(record: Record, _: Enclosures) -> Iterator[tuple[str, Computed]]:
    """dX[.] = dY[.] c alpha exp(X[.] c) for X[.] <= 0, c = 1 / (alpha in float32); else dY[.]."""
    assert isinstance(record, VJP)
    alpha = record.spec.args["alpha"]
    X, dY = (Budget.exact(a, Profile.of(record.dtype)) for a in (record.inputs[0], record.grad_outputs[0]))
    c = 1.0 / float(np.float32(alpha))
    dX: Any = np.where(X > 0, dY, dY * c * alpha * np.exp(X * c))
    yield "grad_input", Computed(dX.x, dX.e)


def log1p(record: Record, enclosures: Enclosures) -> Iterator[tuple[str, Computed]]:
    """BCELoss with 128 units in the last place for log1p(-x) where -x lies between 1 - sqrt(2) and -0.36. Its budget
    grants log1p three, and grows with that number at most in proportion."""
    assert isinstance(record, VJP)
    X = record.inputs[0]
    near = (X >= 0.36) & (X <= math.sqrt(2) - 1)
    for name in ("output", "grad_input.1"):
        e = enclosures[name]
        there = near if e.truth.shape == X.shape else np.broadcast_to(near.any(), e.truth.shape)
        yield name, Computed(e.truth.hi, e.bound * (128 / 3), there)


def soft_margin(record: Record, enclosures: Enclosures) -> Iterator[tuple[str, Computed]]:
    """log(1 + z), z = exp(-t x), and its gradient -dl t z / (1 + z): infinity, and infinity over infinity, where z
    rounds to infinity. Elsewhere z, 1 + z and what is made of these round once each, from an exponent that is exact."""
    assert isinstance(record, VJP)
    (X, T), format = (a.astype(np.float64) for a in record.inputs), FORMATS[record.dtype]
    there = np.isinf(format.nearest(np.exp(-T * X)))
    L, dX = (enclosures[name].truth.hi for name in ("output", "grad_input.0"))
    yield "output", Computed(np.where(there, np.inf, L), format.u * (3 * abs(L) + 2))
    yield "grad_input.0", Computed(np.where(there, np.nan, dX), 8 * format.u * abs(dX) + format.tiny)


def clamped_quotient(record: Record, _: Enclosures) -> Iterator[tuple[str, Computed]]:
    """BCELoss's gradient dl (x - t) / max(x(1 - x), 1e-12), every result rounded to the format, and 1e-12 to 0."""
    assert isinstance(record, VJP)
    (X, T), (dL,) = (a.astype(np.float64) for a in record.inputs), record.grad_outputs
    nearest = FORMATS[record.dtype].nearest
    V = np.maximum(nearest(X * nearest(1 - X)), nearest(np.array(1e-12)))
    dX = nearest(nearest(dL * nearest(X - T)) / V)
    yield "grad_input.0", Computed(dX, there=~np.isfinite(dX))


def cosine_without_eps(record: Record, enclosures: Enclosures) -> Iterator[tuple[str, Computed]]:
    """A cosine is NaN where a vector is 0, as its eps is 0 in the format; in the loss also where squares overflow."""
    assert isinstance(record, VJP)
    nearest, (X1, X2) = FORMATS[record.dtype].nearest, (a.astype(np.float64) for a in record.inputs[:2])
    if record.spec.type == "CosineSimilarity":
        there = (X1 == 0).all(-1) | (X2 == 0).all(-1)
        yield from _cosines(record, enclosures, there)
        return
    # sum_i x1 x2 / sqrt(sum_i x1^2 sum_i x2^2)
    S = nearest(nearest((X1 * X1).sum(-1)) * nearest((X2 * X2).sum(-1)))
    there = (S == 0) | (np.isinf(S) & np.isinf(nearest((X1 * X2).sum(-1))))
    for name, e in enclosures.items():
        there = there if name == "output" else there.reshape(-1, 1)
        yield name, Computed(np.full(e.truth.shape, np.nan), there=np.broadcast_to(there, e.truth.shape))


def _cosines(record: VJP, enclosures: Enclosures, there: Array) -> Iterator[tuple[str, Computed]]:
    """The cosine and dy (u2 - y u1) / n1, whose factors have norms of float32 and go through sixteen roundings at most:
    less than squares in the format would cost."""
    X = [a.astype(np.float64) for a in record.inputs]
    n = [np.sqrt((x * x).sum(-1, keepdims=True)) for x in X]
    dY, u = np.expand_dims(record.grad_outputs[0], -1), FORMATS[record.dtype].u
    y = enclosures["output"].truth.hi
    yield "output", Computed(np.where(there, np.nan, y), 16 * u)
    for k in range(2):
        name = f"grad_input.{k}"
        size = abs(dY) / n[k] * (abs(X[0]) / n[0] + abs(X[1]) / n[1])
        value = np.where(np.expand_dims(there, -1), np.nan, enclosures[name].truth.hi)
        yield name, Computed(value, 16 * u * size + FORMATS[record.dtype].tiny)


def poisson_without_eps(record: Record, _: Enclosures) -> Iterator[tuple[str, Computed]]:
    """x - t log x and its gradient by t, -dl log x, of a rate of 0."""
    assert isinstance(record, VJP)
    (X, T), (dL,) = (a.astype(np.float64) for a in record.inputs), record.grad_outputs
    yield "output", Computed(X - T * np.log(X), there=X == 0)
    yield "grad_input.1", Computed(-dL * np.log(X), there=X == 0)


def _in_float32(X: Any) -> Any:
    """Rounded to float32, and to be computed with in it; in exact arithmetic all stays."""
    if isinstance(X, Budget):
        narrow = Profile.of("float32")
        return Budget.exact(X.x, narrow, X.e + narrow.storage.rounding(abs(X.x) + X.e))
    return X


def _back(X: Any, like: Any) -> Any:
    return Budget.exact(X.x, like.profile, X.e) if isinstance(X, Budget) else X


def _attend(module: Any, right: Any, terms: Any) -> Any:
    """Attention whose softmax is taken in float32."""
    _, saved = right(terms)
    S, keep = scores(terms)
    E, _, Z = exponentials(_in_float32(S), keep)
    P = _back(E / Z, S)
    D, dropped = (P, None) if terms.dropout is None else terms.dropout.forward(P, terms.kept)
    return weighted(saved._replace(P=P, dropped=dropped), D)


def _attend_backward(module: Any, right: Any, dY: Any, saved: Any, *dW: Any) -> Any:
    P, dP = _in_float32(saved.P), _in_float32(before_dropout(saved, dY, *dW))
    # dS[h,l,s] = P[h,l,s] (dP[h,l,s] - sum_t P[h,l,t] dP[h,l,t])
    dS = P * (dP - special.total(P * dP, -1, keepdims=True))
    return from_scores(saved.terms, _back(dS, saved.P), right(dY, saved, *dW))


def _both(module: Any) -> None:
    replaced("attend", _attend)(module)
    replaced("attend_backward", _attend_backward)(module)


softmax_in_float32 = variant(of_both(_both))
"""jax.nn.dot_product_attention, which converts scores of every dtype to float32."""


def norm_of_zero(record: Record, enclosures: Enclosures) -> Iterator[tuple[str, Computed]]:
    """PairwiseDistance's gradients, NaN where the vectors differ by nothing but eps in no component."""
    assert isinstance(record, VJP)
    X1, X2 = record.inputs
    there = ((X1 - X2) + X1.dtype.type(record.spec.args.get("eps", 1e-6)) == 0).all(-1, keepdims=True)
    for k in range(2):
        shape = enclosures[f"grad_input.{k}"].truth.shape
        yield f"grad_input.{k}", Computed(np.full(shape, np.nan), there=np.broadcast_to(there, shape))


def bias_row_by_row(bias: str) -> Formula:
    """The gradient of the bias of a LayerNorm whose output is the record's."""
    return lambda record, _: _bias_row_by_row(record, bias)


def _bias_row_by_row(record: Record, bias: str) -> Iterator[tuple[str, Computed]]:
    """Each thread adds up the rows of its share in the storage format, rounding every sum; these are added in
    float32."""
    import torch

    assert isinstance(record, VJP)
    nearest, shape = FORMATS[record.dtype].nearest, record.arrays[bias].shape
    rows = record.grad_outputs[0].reshape(-1, *shape)
    share = -(-len(rows) // torch.get_num_threads()) or 1
    parts = [np.zeros(shape)]
    for first in range(0, len(rows), share):
        part = np.zeros(shape)
        for row in rows[first : first + share]:
            part = nearest(part + row)
        parts.append(part)
    yield f"grad.{bias}", Computed(nearest(np.sum(np.array(parts, np.float32), 0, dtype=np.float32)))


def rows_one_by_one(record: Record, _: Enclosures) -> Iterator[tuple[str, Computed]]:
    """The weight gradient of Embedding and EmbeddingBag: what is looked up is added to the row of its index, one after
    the other, in the storage format."""
    assert isinstance(record, VJP)
    (dY,), W, args = record.grad_outputs, record.arrays["weight"], record.spec.args
    nearest = partial(_nearest, record.dtype)
    made, padding = np.zeros(W.shape), _padding(record)
    if record.spec.type == "Embedding":
        index = record.inputs[0].ravel()
        for k, row in zip(index, dY.reshape(-1, W.shape[1]), strict=True):
            if k != padding:
                by = 1 / np.count_nonzero(index == k) if args.get("scale_grad_by_freq") else 1.0
                made[k] = nearest(made[k] + nearest(row * nearest(np.asarray(by))))
        yield "grad.weight", Computed(made)
    elif args.get("mode", "mean") != "max":
        yield "grad.weight", Computed(_added_by_bags(record, nearest))


def _padding(record: VJP) -> int:
    """The row that gets no gradient; -1 for none."""
    index = record.spec.args.get("padding_idx")
    return -1 if index is None else int(index) % len(record.arrays["weight"])


def _nearest(dtype: str, x: Array) -> Array:
    return np.asarray(FORMATS[dtype].nearest(x) if dtype != "float64" else x)


def _added_by_bags(record: VJP, nearest: Callable[[Array], Array]) -> Array:
    """EmbeddingBag's weight gradient for sums and means, look-ups in the order in which torch has sorted the indices
    (its sort keeps no order among equal ones). By frequency, it divides by that of the k-th index for the k-th distinct
    one."""
    import torch

    (dY,), W, args = record.grad_outputs, record.arrays["weight"], record.spec.args
    given = dict(zip(record.input_names, record.inputs, strict=False))
    index = given["input"].ravel()
    if "offsets" in given:
        starts = given["offsets"][: len(dY)]
        bag = np.searchsorted(starts, np.arange(len(index)), side="right") - 1
    else:
        bag = np.repeat(np.arange(len(given["input"])), given["input"].shape[1])
    weights = given.get("per_sample_weights", np.ones(len(index)))
    padding = _padding(record)
    counts = np.bincount(index, minlength=len(W))
    sizes = np.bincount(bag[index != padding], minlength=len(dY))
    ordered, order = (a.numpy() for a in torch.from_numpy(index.copy()).sort())
    distinct = list(dict.fromkeys(ordered.tolist()))
    made = np.zeros(W.shape)
    for k, place in zip(ordered, order, strict=True):
        if k == padding:
            continue
        by = float(weights[place])
        if args.get("scale_grad_by_freq"):
            by /= counts[ordered[distinct.index(k)]]
        if args.get("mode", "mean") == "mean":
            by /= sizes[bag[place]]
        made[k] = nearest(made[k] + nearest(dY[bag[place]] * nearest(np.asarray(by))))
    return made


def by_another_frequency(record: Record, _: Enclosures) -> Iterator[tuple[str, Computed]]:
    """EmbeddingBag by frequency; where a product and a sum are rounded together, each moves by one rounding."""
    assert isinstance(record, VJP)
    made, size = _added_by_bags(record, partial(_nearest, record.dtype)), abs(record.grad_outputs[0]).sum()
    u = 0.0 if record.dtype in ("bfloat16", "float16") else FORMATS[record.dtype].u
    yield "grad.weight", Computed(made, np.where(made == 0, 0.0, 4 * u * size * len(record.inputs[0])))


def padding_as_class_0(record: Record, enclosures: Enclosures) -> Iterator[tuple[str, Computed]]:
    """MultiLabelMarginLoss, sum_k sum_i max(0, 1 - x[t_k] + x[i]) / C over the classes i that are no target, where k
    goes over all C places and t_k is 0 from the first -1 on; and its gradient."""
    assert isinstance(record, VJP)
    (X, T), (dY,), C = record.inputs, record.grad_outputs, record.inputs[0].shape[-1]
    shape, way, X, T = X.shape, record.spec.args.get("reduction", "mean"), X.reshape(-1, C), T.reshape(-1, C)
    L, dX, size = np.zeros(len(X)), np.zeros(X.shape), np.zeros(X.shape)
    dL = np.broadcast_to(dY.reshape(-1) / (len(X) if way == "mean" else 1), len(X))
    for n, (x, targets) in enumerate(zip(X.astype(np.float64), T, strict=True)):
        given = targets[: np.append(targets, -1).tolist().index(-1)]
        others = ~np.isin(np.arange(C), given)
        for t in np.append(given, np.zeros(C - len(given), np.int64)):
            M = 1 - x[t] + x
            counted = others & (M >= 0)
            L[n] += M[counted].sum() / C
            dM = counted * dL[n] / C
            dX[n] += dM
            dX[n, t] -= dM.sum()
            size[n] += abs(dM)
            size[n, t] += abs(dM).sum()
    # Every term is rounded a few times, and a sum as often as it has terms.
    u = (C * C + len(X) + 4) * FORMATS[record.dtype].u
    total = L.reshape(shape[:-1]) if way == "none" else np.array(L.sum() if way == "sum" else L.mean())
    yield "output", Computed(total, u * total)
    yield "grad_input.0", Computed(dX.reshape(shape), u * size.reshape(shape))
