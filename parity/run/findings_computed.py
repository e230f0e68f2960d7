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
from parity.families.optim.radam.formulas import CONVENTIONS
from parity.records import definition
from parity.records.record import VJP, Optimize
from parity.verdict.evaluation import Patches, Request
from parity.verdict.tensor import Answer, Array, Enclosure
from refnet.arithmetic import special
from refnet.arithmetic.array_like import Undecided
from refnet.arithmetic.runs import Runs
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


def _around_itself(record: Record, patches: Patches) -> Iterator[tuple[str, Computed]]:
    """The values of refnet's lines, changed by patches, with the bounds that any evaluation of these keeps to."""
    for name, v in Request.plain(record).around_itself(patches).items():
        yield name, Computed(v.x, v.e)


def variant(patches: Patches) -> Formula:
    """The formula that patches make of refnet's."""
    return lambda record, _: _around_itself(record, patches)


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


def rectified_in_float32(record: Record, _: Enclosures) -> Iterator[tuple[str, Computed]]:
    """optax's r_t: rho_t = rho - 2 t b / (1 - b) in float32, b = beta2^t, with b as float32 has it, or next to it."""
    f = np.float32

    def patch(beside: int) -> Callable[..., Any]:
        def rectification(opt: Any, _: Any, beta2: float, t: Any, P: Any) -> Any:
            b = f(beta2) ** int(t)
            for _ in range(abs(beside)):
                b = np.nextafter(b, f(np.sign(beside) * np.inf))
            rho = f(2 / (1 - beta2) - 1)
            rho_t = rho - f(2) * f(int(t)) * b / (f(1) - b)
            if rho_t <= 5:
                return special.lift(0.0, P)
            r = math.sqrt((rho_t - 4) * (rho_t - 2) * rho / ((rho - 4) * (rho - 2) * rho_t))
            # Each of its roundings to float32 moves it by half a unit in the last place.
            return Budget.exact(np.array(r), P.profile, np.array(8 * P.profile.storage.u * r))

        return rectification

    (of_optax,) = (v.patches["RAdam"] for v in CONVENTIONS if v.name == "eps beside the corrected root")

    def both(beside: int) -> Callable[[Any], None]:
        def patched(opt: Any) -> None:
            of_optax(opt)
            replaced("rectification", patch(beside))(opt)

        return patched

    for beside in (0, 1, -1):
        yield from _around_itself(record, {"RAdam": both(beside)})


def step_before(record: Record, enclosures: Enclosures) -> Iterator[tuple[str, Computed]]:
    """optax's rprop: each update is the one that was due a step earlier, or 0 where the gradient goes against that; the
    first is 0. Adding an update to a parameter rounds once."""
    assert isinstance(record, Optimize)
    for name, p in record.params.items():
        e = enclosures[f"update.{name}"]
        G = np.stack([record.gradients(k).get(name, np.zeros_like(p)) for k in range(record.steps)])
        before, within = (np.concatenate([np.zeros_like(a[:1]), a[:-1]]) for a in (e.truth.hi, e.bound))
        due = np.where(G * before > 0, 0.0, before)
        size = abs(p.astype(np.float64)) + np.cumsum(abs(due) + within, axis=0)
        yield f"update.{name}", Computed(due, np.where(due == 0, 0.0, within + FORMATS[record.dtype].rounding(size)))


def bias_row_by_row(record: Record, _: Enclosures) -> Iterator[tuple[str, Computed]]:
    """LayerNorm's bias gradient: each thread adds up the rows of its share in the storage format, rounding every sum;
    these are added in float32."""
    import torch

    assert isinstance(record, VJP)
    nearest, shape = FORMATS[record.dtype].nearest, record.arrays["bias"].shape
    rows = record.grad_outputs[0].reshape(-1, *shape)
    share = -(-len(rows) // torch.get_num_threads()) or 1
    parts = [np.zeros(shape)]
    for first in range(0, len(rows), share):
        part = np.zeros(shape)
        for row in rows[first : first + share]:
            part = nearest(part + row)
        parts.append(part)
    yield "grad.bias", Computed(nearest(np.sum(np.array(parts, np.float32), 0, dtype=np.float32)))


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


def _bfloat16(x: Any) -> Array:
    return np.asarray(FORMATS["bfloat16"].nearest(np.asarray(x, np.float64)), np.float32)


def _normalized(X: Array, eps: float) -> Array:
    norm = _bfloat16(np.sqrt(np.sum(X.astype(np.float64) ** 2)))
    return _bfloat16(X / np.maximum(norm, _bfloat16(eps)))


def _orthogonalized(G: Array, args: Mapping[str, Any]) -> Array:
    """torch's Newton-Schulz iterations: every result in bfloat16, products of matrices added up in float32."""
    X = _bfloat16(G)
    tall = X.shape[0] > X.shape[1]
    X = _normalized(X.T if tall else X, args.get("eps", 1e-7))
    a, b, c = (np.float32(k) for k in args.get("ns_coefficients", (3.4445, -4.775, 2.0315)))
    for _ in range(args.get("ns_steps", 5)):
        # S = X X^T     B = b S + c S S     X = a X + B X
        S = _bfloat16(X @ X.T)
        X = _bfloat16(a * X + _bfloat16(b * S + c * (S @ S)) @ X)
    return X.T if tall else X


def first_step_of_muon(record: Record, _: Enclosures) -> Iterator[tuple[str, Computed]]:
    """The first update from 0 at the defaults: -lr sqrt(max(1, rows / columns)) times the orthogonalized gradient,
    which has the direction of the first momentum."""
    assert isinstance(record, Optimize)
    for name, p in record.params.items():
        args = record.spec.args
        G, momentum = record.gradients(0)[name], args.get("momentum", 0.95)
        # B = (1 - mu) G     G = (1 - mu) G + mu B
        B = (1 - momentum) * G
        X = _orthogonalized(G + momentum * (B - G), args).astype(np.float64)
        rate = args.get("lr", 1e-3) * math.sqrt(max(1, p.shape[0] / p.shape[1]))
        yield f"update.{name}", Computed(-rate * X[None], 4 * 2.0**-53 * abs(rate * X[None]))


def overwritten_momentum(record: Record, _: Enclosures) -> Iterator[tuple[str, Computed]]:
    """Muon in bfloat16 without Nesterov: after each step the buffer is what the iterations began with, of norm 1."""
    assert isinstance(record, Optimize)
    groups: Any = record.groups or [(tuple(record.params), {})]
    for names, own in groups:
        args = {**record.spec.args, **own}
        for name in names:
            momentum, series = args.get("momentum", 0.95), []
            B = np.zeros(record.params[name].shape, np.float32)
            for k in range(record.steps):
                if (G := record.gradients(k).get(name)) is not None:
                    B = _bfloat16(_lerp(B, G, 1 - momentum))
                    if not args.get("nesterov", True):
                        B = _normalized(B, args.get("eps", 1e-7))
                series.append(B)
            yield f"state.{name}.momentum_buffer", Computed(np.stack(series))


def _lerp(B: Array, G: Array, weight: float) -> Array:
    """torch.lerp, which begins at the nearer end."""
    w = np.float32(weight)
    return B + w * (G - B) if weight < 0.5 else G - (G - B) * (1 - w)


def left_as_it_is(record: Record, _: Enclosures) -> Iterator[tuple[str, Computed]]:
    """A parameter that never moves, and a buffer that stays the first gradient, negated for a maximum."""
    assert isinstance(record, Optimize)
    for name in record.params:
        first = -record.gradients(0)[name]
        yield f"update.{name}", Computed(np.zeros((record.steps, *first.shape)))
        yield f"state.{name}.momentum_buffer", Computed(np.stack([first] * record.steps))


def _correction_in_float32(opt: Any, right: Any, beta: float, t: Any, P: Any) -> Any:
    return _as_in_float32(right(beta, t, P), beta, t)


def _as_in_float32(correction: Any, beta: float, t: Any) -> Any:
    """1 - beta^t from a counter in float32; beta is rounded once, so t factors of it are, and a power is off by 2 units
    in the last place. Four roundings follow: of the difference, of its root or of the rate's quotient by it, of their
    product, and of eps by that."""
    if isinstance(correction, Runs):
        return Runs(_as_in_float32(correction.a, beta, getattr(t, "a", t)))
    if not isinstance(correction, Budget):
        return correction
    own = FORMATS["float32"]
    power = abs(1 - correction.x) + correction.e
    e = own.growth(int(np.max(t, initial=1)) + 4) * power + own.growth(4) * (abs(correction.x) + correction.e)
    return Budget.exact(correction.x, correction.profile, correction.e + e)


corrected_in_float32 = variant({kind: replaced("correction", _correction_in_float32) for kind in ("AdamW", "NAdam")})
"""Adam's kin, whose bias correction is computed in float32 for parameters in float64."""
