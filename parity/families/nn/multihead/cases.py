"""MultiheadAttention. Axes: n sample, l query, s key, h head, e unit."""

from __future__ import annotations

from typing import Any

from parity.families.case import FAMILIES, FULL, Draw, Spec, VJPCase, booleans, given

INF = float("inf")


SHORT = (0.5, -1.25, 0.75, 1.5, -0.375, 1.0, -0.625, 0.875, -1.75, 1.125, 0.25, -0.5, 1.375, -0.875, 0.625, 1.75)
"""Numbers of few bits, for the last projection and the gradient of the output. The weights of a query add up to 1, so
that the gradient of the value's bias is a sum of products of these two: of long numbers it may lie exactly halfway
between two numbers, which no ball decides."""


def _short(shape: tuple[int, ...]) -> Draw:
    return given(shape, *reversed(SHORT))


def _multihead(
    what: str,
    n: int | None = 1,
    *,
    queries: int = 2,
    keys: int = 3,
    heads: int = 2,
    units: int = 4,
    padding: Draw | None = None,
    pairs: Draw | None = None,
    dropped: bool = False,
    dY: Draw | None = None,
    dW: Draw | None = None,
    X: str = "contiguous",
    scale: float = 0.25,
    size: float = 1.0,
    training: bool = True,
    families: tuple[str, ...] = FULL,
    **args: Any,
) -> VJPCase:
    """A case with the parameters that its options leave. `n` is None for a single sample; `scale` is the weights',
    `size` that of the inputs and biases."""
    first, kdim, vdim = args.get("batch_first", False), args.get("kdim", units), args.get("vdim", units)

    def shape(length: int, unit: int) -> tuple[int, ...]:
        return (length, unit) if n is None else (n, length, unit) if first else (length, n, unit)

    samples = () if n is None else (n,)
    appended = keys + bool(args.get("add_bias_kv")) + bool(args.get("add_zero_attn"))
    masks = {
        "key_padding_mask": padding,
        "attn_mask": pairs,
        "dropout_mask": Draw((*samples, heads, queries, appended), "mask") if dropped else None,
    }
    there = {name: draw for name, draw in masks.items() if draw}
    if kdim == vdim == units:
        arrays = {"in_proj_weight": Draw((3 * units, units), scale=scale)}
    else:
        sizes = {"q_proj_weight": units, "k_proj_weight": kdim, "v_proj_weight": vdim}
        arrays = {name: Draw((units, width), scale=scale) for name, width in sizes.items()}
    bias = args.get("bias", True)
    arrays |= {"in_proj_bias": Draw((3 * units,), scale=size)} if bias else {}
    arrays |= {name: Draw((1, 1, units), scale=size) for name in ("bias_k", "bias_v") if args.get("add_bias_kv")}
    arrays |= {"out_proj.weight": given((units, units), *SHORT)} | (
        {"out_proj.bias": Draw((units,), scale=size)} if bias else {}
    )
    grads = [dY or (Draw if families == FAMILIES else _short)(shape(queries, units))]
    if args.get("need_weights", True):
        every = () if args.get("average_attn_weights", True) else (heads,)
        grads.append(dW or Draw((*samples, *every, queries, appended)))
    return VJPCase(
        f"MultiheadAttention/{what}",
        Spec("MultiheadAttention", {"embed_dim": units, "num_heads": heads, **args}),
        (
            *(Draw(shape(k, u), scale=size, layout=X) for k, u in ((queries, units), (keys, kdim), (keys, vdim))),
            *there.values(),
        ),
        tuple(grads),
        arrays,
        training,
        families,
        names=("query", "key", "value", *there) if there else (),
    )


SMALL: dict[str, Any] = {"queries": 2, "keys": 2, "units": 2, "batch_first": True}
CAUSAL = booleans((3, 3), 0, 1, 1, 0, 0, 1, 0, 0, 0)
# The first query has no key, or all.
SOME = (1, 1, 1, 0, 1, 0)

CASES = (
    *(_multihead(f"batch {n}", n, **SMALL, families=FAMILIES if n == 3 else FULL) for n in (0, 1, 3, 7)),
    _multihead("two samples in columns", 2),
    _multihead("one head, wider, samples in rows", 2, heads=1, units=3, queries=3, batch_first=True),
    _multihead("as many samples as queries and keys", 2, keys=2),
    _multihead("no samples", None),
    _multihead("no samples, masks", None, padding=booleans((3,), 0, 0, 1), pairs=Draw((2, 2, 3)), need_weights=False),
    _multihead("no bias", bias=False, average_attn_weights=False),
    _multihead("kdim and vdim", 2, kdim=3, vdim=2),
    _multihead("vdim, no bias", vdim=2, bias=False, need_weights=False, batch_first=True),
    _multihead("keys appended", 2, add_bias_kv=True, add_zero_attn=True, padding=booleans((2, 3), 0, 0, 1, 0, 1, 1)),
    _multihead("a key of zeros, mask added", add_zero_attn=True, pairs=Draw((2, 3)), need_weights=False),
    _multihead("bias_k, masks added", 2, add_bias_kv=True, padding=Draw((2, 3)), pairs=Draw((4, 2, 3)), kdim=3),
    _multihead(
        "padding and pairs, one infinite", 2, padding=given((2, 3), 0.5, 0, -INF, 1.0, -INF, 0), pairs=Draw((2, 3))
    ),
    _multihead("padding added, pairs left out", 2, padding=Draw((2, 3)), pairs=booleans((2, 3), 0, 1, 0, 0, 0, 1)),
    # Of so few and so small numbers bfloat16 sees something too.
    _multihead(
        "one query, small numbers, masks added",
        2,
        queries=1,
        keys=2,
        heads=1,
        units=2,
        scale=1 / 16,
        size=0.25,
        kdim=1,
        vdim=1,
        padding=Draw((2, 2), scale=0.25),
        pairs=Draw((1, 2), scale=0.25),
        add_bias_kv=True,
        need_weights=False,
    ),
    _multihead("causal", queries=3, pairs=CAUSAL, is_causal=True, need_weights=False),
    _multihead("a query without keys", pairs=booleans((2, 3), *SOME), need_weights=False),
    _multihead("a query without keys, weights", pairs=booleans((2, 3), *SOME)),
    _multihead("dropout 0.25", dropout=0.25, dropped=True, average_attn_weights=False),
    _multihead(
        "dropout 0.5, no weights, keys appended", dropout=0.5, dropped=True, add_bias_kv=True, need_weights=False
    ),
    _multihead("dropout in evaluation", dropout=0.5, dropped=True, training=False),
    _multihead("saturated", scale=2.0),
    _multihead("gradient of the weights alone", 2, dY=given((2, 2, 4), 0.0)),
    _multihead("gradients one-hot", dY=Draw((2, 1, 4), "onehot"), dW=Draw((1, 2, 3), "onehot")),
    _multihead(
        "gradients of stride zero and transposed",
        2,
        dY=Draw((2, 2, 4), layout="expanded"),
        dW=Draw((2, 2, 3), layout="transposed"),
        X="sliced",
    ),
)
