"""ScaledDotProductAttention. Axes: n sample, h head, l query, s key, e unit."""

from __future__ import annotations

from typing import Any

from parity.families.case import FAMILIES, FULL, Draw, Spec, VJPCase, booleans, given


def _attention(
    what: str,
    lead: tuple[int, ...],
    *,
    queries: int = 3,
    keys: int = 4,
    unit: int = 2,
    values: int | None = None,
    heads: tuple[int, int] | None = None,
    mask: Draw | None = None,
    dropped: bool = False,
    Q: Draw | None = None,
    K: Draw | None = None,
    V: Draw | None = None,
    dY: Draw | None = None,
    training: bool = True,
    families: tuple[str, ...] = FULL,
    **args: Any,
) -> VJPCase:
    """`lead` are the axes before queries and keys; `heads` those of key and value, where they are others."""
    v, (hk, hv) = unit if values is None else values, heads or (0, 0)
    lead_k, lead_v = ((*lead[:-1], h) if heads else lead for h in (hk, hv))
    inputs = [
        Q or Draw((*lead, queries, unit)),
        K or Draw((*lead_k, keys, unit)),
        V or Draw((*lead_v, keys, v)),
        *([mask] if mask else []),
        *([Draw((*lead, queries, keys), "mask")] if dropped else []),
    ]
    names = ("query", "key", "value", "dropout_mask") if dropped and not mask else ()
    return VJPCase(
        f"ScaledDotProductAttention/{what}",
        Spec("ScaledDotProductAttention", args),
        tuple(inputs),
        (dY or Draw((*lead, queries, v)),),
        {},
        training,
        families,
        names=names,
    )


HEADS = (1, 2)
"""One sample of two heads: in torch, on the CPU, this is the flash kernel; other numbers of axes are the math path."""
INF = float("inf")
# A query that has no key, one that has one, one that has all.
SOME = (0, 0, 0, 0, 0, 0, 1, 0, 1, 1, 1, 1)
ADDED = (-INF, -INF, -INF, -INF, -INF, 0.5, -INF, -INF, 0.25, -1.0, 0.0, 2.0)
PADDED = (0.0, -(2.0**40), 1.0, -(2.0**40))

CASES = (
    *(_attention(f"batch {n}", (n,), queries=2, keys=3, families=FAMILIES if n == 3 else FULL) for n in (0, 1, 3, 7)),
    _attention("no batch axis", ()),
    _attention("heads", HEADS),
    _attention("two samples, wider values", (2, 2), queries=2, keys=3, values=3),
    _attention("one query, one key", HEADS, queries=1, keys=1),
    _attention("no keys", HEADS, keys=0),
    _attention("no queries", (2,), queries=0),
    _attention("65 keys", (1, 1), queries=2, keys=65),
    _attention("scale -0.3", (2,), scale=-0.3),
    _attention("scale 32, saturated", HEADS, scale=32.0),
    _attention("scores of a thousand", (2,), scale=256.0, Q=Draw((2, 3, 2), scale=4.0)),
    _attention(
        "one key nearly certain",
        (1,),
        queries=2,
        keys=3,
        scale=1.0,
        Q=given((1, 2, 2), 1.0, 0.0, 0.0, 0.5),
        K=given((1, 3, 2), 40.0, 0.0, 0.0, 0.0, 1.0, 80.0),
    ),
    _attention(
        "mask, the largest score left out",
        HEADS,
        queries=2,
        keys=3,
        scale=1.0,
        Q=given((1, 2, 2, 2), 1.0, 0.5, 1.0, -0.25),
        K=given((1, 2, 3, 2), 512.0, 2.0, 511.0, 1.0, 2000.0, 3.0, -512.0, 2.0, -513.0, 1.0, -2000.0, 3.0),
        mask=booleans((1, 3), 1, 1, 0),
    ),
    _attention("keys that tie", HEADS, K=Draw((1, 2, 4, 2), layout="reversed", scale=0.0)),
    _attention("causal", HEADS, is_causal=True),
    _attention("causal, fewer keys", (2,), queries=5, keys=3, is_causal=True),
    _attention("causal, lower right", HEADS, is_causal=True, alignment="lower_right"),
    _attention("causal, lower right, fewer keys", HEADS, queries=4, keys=2, is_causal=True, alignment="lower_right"),
    _attention("mask", HEADS, mask=booleans((3, 4), *SOME)),
    _attention("mask, no heads", (2,), mask=booleans((3, 4), *SOME)),
    _attention("mask of each head", (2, 2), queries=2, keys=3, mask=Draw((2, 2, 2, 3), "mask")),
    _attention("mask of keys", (2,), mask=booleans((2, 1, 4), 1, 0, 1, 1, 1, 1, 0, 0)),
    _attention("mask of queries", HEADS, mask=booleans((3, 1), 1, 0, 1)),
    _attention("mask added", HEADS, mask=Draw((1, 2, 3, 4))),
    _attention("mask added, of keys", (2,), mask=Draw((4,))),
    _attention("mask added, of each head", (2, 2), queries=2, keys=3, mask=Draw((2, 1, 3))),
    _attention("mask added, infinite", HEADS, mask=given((3, 4), *ADDED)),
    _attention("mask added, very negative", (2,), mask=given((4,), *PADDED)),
    _attention("heads shared by two", (1, 4), heads=(2, 2), enable_gqa=True),
    _attention("heads shared by all, causal", (1, 3), heads=(1, 1), keys=3, enable_gqa=True, is_causal=True),
    _attention("heads shared, no batch axis", (4,), heads=(2, 2), enable_gqa=True, queries=2),
    _attention("heads shared unlike", (1, 4), heads=(2, 1), enable_gqa=True, mask=booleans((3, 4), *SOME)),
    _attention("dropout 0.25", (2,), dropped=True, dropout_p=0.25),
    _attention("dropout 0.3, causal", HEADS, dropped=True, dropout_p=0.3, is_causal=True),
    _attention("dropout 1", (2,), dropped=True, dropout_p=1.0),
    _attention("dropout 0.5, mask added", HEADS, dropped=True, dropout_p=0.5, mask=Draw((2, 1, 4))),
    _attention("dropout in evaluation", (2,), dropped=True, dropout_p=0.5, training=False),
    _attention(
        "all at once",
        (1, 4),
        heads=(2, 2),
        dropped=True,
        mask=booleans((3, 4), *SOME),
        enable_gqa=True,
        dropout_p=0.1,
        scale=0.7,
    ),
    _attention("gradient one-hot", HEADS, dY=Draw((1, 2, 3, 2), "onehot", scale=-2.5)),
    _attention("gradient of stride zero", (3,), queries=2, dY=Draw((3, 2, 2), layout="expanded")),
    _attention(
        "gradient transposed, inputs sliced",
        HEADS,
        dY=Draw((1, 2, 3, 2), layout="transposed"),
        Q=Draw((1, 2, 3, 2), layout="sliced"),
        V=Draw((1, 2, 4, 2), layout="transposed"),
    ),
)
