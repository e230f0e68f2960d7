"""Embedding and EmbeddingBag."""

from __future__ import annotations

from typing import Any

from parity.families.case import FAMILIES, FULL, Draw, Spec, VJPCase, given, indices

INFINITY = float("inf")


def _table(rows: int, size: int, table: Draw | None, args: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Draw]]:
    return {"num_embeddings": rows, "embedding_dim": size, **args}, {"weight": table or Draw((rows, size))}


def _embedding(
    what: str,
    K: Draw,
    layout: str = "contiguous",
    *,
    rows: int = 5,
    size: int = 3,
    table: Draw | None = None,
    families: tuple[str, ...] = FAMILIES,
    **args: Any,
) -> VJPCase:
    options, arrays = _table(rows, size, table, args)
    dY = Draw((*K.shape, size), layout=layout)
    return VJPCase(f"Embedding/{what}", Spec("Embedding", options), (K,), (dY,), arrays, True, families)


def _bag(
    what: str,
    K: Draw,
    offsets: tuple[int, ...] | None = None,
    layout: str = "contiguous",
    *,
    weights: Draw | None = None,
    rows: int = 5,
    size: int = 3,
    table: Draw | None = None,
    families: tuple[str, ...] = FAMILIES,
    **args: Any,
) -> VJPCase:
    options, arrays = _table(rows, size, table, args)
    bags = K.shape[0] if offsets is None else len(offsets) - args.get("include_last_offset", False)
    inputs = [K, *([] if offsets is None else [indices((len(offsets),), *offsets)]), *([weights] if weights else [])]
    dY = Draw((bags, size), layout=layout)
    return VJPCase(f"EmbeddingBag/{what}", Spec("EmbeddingBag", options), tuple(inputs), (dY,), arrays, True, families)


def _drawn(*shape: int) -> Draw:
    return Draw(shape, "index", below=5)


# Row 1 three times, rows 0 and 3 twice, row 2 once, row 4 never.
REPEATED = indices((8,), 1, 3, 1, 0, 0, 1, 3, 2)
# Norms: p = 1: 7, 2, 0, 4, 1; p = 2: 5, 2, 0, 2.45, 0.71; infinity: 4, 2, 0, 2, 0.5.
NORMS = given((5, 3), *(3.0, -4.0, 0.0), *(0.0, 2.0, 0.0), *(0.0, 0.0, 0.0), *(1.0, 1.0, -2.0), *(0.5, 0.0, -0.5))
# In rows 0 and 1 two elements tie, in rows 0 and 2 one; row 3 is largest in one.
TIES = given((5, 3), *(2.0, -1.0, 0.5), *(2.0, -1.0, 0.25), *(1.5, -2.0, 0.5), *(-3.0, 4.0, 0.5), *(2.0, 4.0, -8.0))
BAGS = (0, 3, 3, 7)
ONE_BY_ONE = indices((4,), 2, 0, 4, 1)

CASES = (
    *(_embedding(f"batch {n}", _drawn(n)) for n in (0, 1, 3, 7)),
    _embedding("one index without axes", _drawn()),
    _embedding("two axes", _drawn(3, 4)),
    _embedding("a table of 7 by 2", Draw((4,), "index", below=7), rows=7, size=2),
    _embedding("repeated", REPEATED),
    _embedding("gradient of stride zero", _drawn(4), "expanded"),
    _embedding("gradient transposed", _drawn(4), "transposed"),
    _embedding("table transposed", REPEATED, table=Draw((5, 3), layout="transposed")),
    _embedding("padding", REPEATED, padding_idx=1),
    _embedding("padding from the end", REPEATED, padding_idx=-2),
    _embedding("padding alone", indices((3,), 4, 4, 4), padding_idx=4),
    _embedding("max_norm 2, one above, one at it", REPEATED, table=NORMS, max_norm=2.0),
    _embedding("max_norm 4, norm_type 1", REPEATED, table=NORMS, max_norm=4.0, norm_type=1.0),
    _embedding("max_norm 2, norm_type infinity", REPEATED, table=NORMS, max_norm=2.0, norm_type=INFINITY),
    _embedding("max_norm 1, norm_type 3, padding", REPEATED, max_norm=1.0, norm_type=3.0, padding_idx=1, families=FULL),
    _embedding("max_norm of a few rows", indices((3,), 1, 3, 1), max_norm=0.5),
    _embedding("divided by frequency", REPEATED, scale_grad_by_freq=True),
    VJPCase(
        # The sums are exact, so that a quotient of each term is told from the quotient of the sum.
        "Embedding/by frequency, terms that cancel",
        Spec("Embedding", {"num_embeddings": 2, "embedding_dim": 2, "scale_grad_by_freq": True}),
        (indices((4,), 1, 1, 1, 0),),
        (given((4, 2), *(1.0, 5.0), *(1.0, 5.0), *(-1.75, -9.0), *(0.5, 3.0)),),
        {"weight": Draw((2, 2))},
        True,
        FULL,
    ),
    _embedding("by frequency, two axes, padding", _drawn(3, 4), scale_grad_by_freq=True, padding_idx=0),
    _embedding("sparse, padding", REPEATED, sparse=True, padding_idx=1),
    *(_bag(f"batch {n}", _drawn(n, 4)) for n in (0, 1, 3, 7)),
    _bag("sum, 7 by 2", Draw((3, 4), "index", below=7), rows=7, size=2, mode="sum"),
    _bag("max", _drawn(3, 4), mode="max"),
    *(_bag(f"{mode}, offsets, an empty bag", REPEATED, BAGS, mode=mode) for mode in ("sum", "mean", "max")),
    _bag("mean, last offset", REPEATED, (*BAGS, 8), include_last_offset=True),
    _bag("sum, weights", REPEATED, BAGS, weights=Draw((8,)), mode="sum"),
    _bag("sum, weights, padding", REPEATED, BAGS, weights=Draw((8,)), mode="sum", padding_idx=1),
    _bag("sum, weights, by frequency", ONE_BY_ONE, (0, 1), weights=Draw((4,)), mode="sum", scale_grad_by_freq=True),
    _bag("sum, weights, max_norm", REPEATED, BAGS, weights=Draw((8,)), table=NORMS, mode="sum", max_norm=2.0),
    _bag("mean, max_norm 2, norm_type infinity", REPEATED, BAGS, table=NORMS, max_norm=2.0, norm_type=INFINITY),
    _bag("mean, max_norm 1, norm_type 3", REPEATED, BAGS, max_norm=1.0, norm_type=3.0, families=FULL),
    _bag("mean, padding", REPEATED, BAGS, padding_idx=1),
    _bag("mean, padding alone in a bag", indices((2, 3), 1, 1, 1, 0, 1, 2), padding_idx=1),
    _bag("max, padding", REPEATED, BAGS, mode="max", padding_idx=3),
    _bag("max, padding alone in a bag", indices((2, 3), 1, 1, 1, 0, 1, 2), mode="max", padding_idx=1),
    _bag("max, ties", indices((2, 4), 1, 0, 2, 1, 3, 4, 0, 1), table=TIES, mode="max"),
    _bag("max, all negative", REPEATED, BAGS, table=Draw((5, 3), "positive", offset=-4.0), mode="max"),
    _bag("max, max_norm 1, norm_type 1", ONE_BY_ONE, (0, 3), mode="max", max_norm=1.0, norm_type=1.0, families=FULL),
    _bag("mean, by frequency", indices((2, 3), 1, 2, 1, 2, 0, 0), scale_grad_by_freq=True),
    _bag("sum, by frequency, repeated", REPEATED, BAGS, mode="sum", scale_grad_by_freq=True),
    _bag("sum, sparse", REPEATED, BAGS, mode="sum", sparse=True),
    _bag("gradient of stride zero", _drawn(3, 4), None, "expanded"),
    _bag("gradient transposed", _drawn(3, 4), None, "transposed"),
)
