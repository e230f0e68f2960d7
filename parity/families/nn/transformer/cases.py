"""TransformerEncoderLayer, TransformerDecoderLayer. Axes: n sample, l place of the input, s of the memory, e unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parity.families.case import FAMILIES, FULL, Draw, Spec, VJPCase, booleans

UNITS, HIDDEN, LENGTH = 4, 3, 2


def parameters(attentions: tuple[str, ...], units: int, bias: bool, gain: float = 1.0) -> dict[str, Draw]:
    """Those of a layer with these attentions; `gain` scales its matrices."""
    sizes: dict[str, tuple[tuple[int, ...], float]] = {}
    for name in attentions:
        sizes |= {f"{name}.in_proj_": ((3 * units, units), 0.25 * gain)}
        sizes |= {f"{name}.out_proj.": ((units, units), 0.5 * gain)}
    sizes |= {"linear1.": ((HIDDEN, units), 0.5 * gain), "linear2.": ((units, HIDDEN), 0.5 * gain)}
    sizes |= {f"norm{k + 1}.": ((units,), 1.0) for k in range(len(attentions) + 1)}
    arrays = {}
    for name, (size, scale) in sizes.items():
        arrays[f"{name}weight"] = Draw(size, scale=scale)
        if bias:
            arrays[f"{name}bias"] = Draw(size[:1])
    return arrays


def at(n: int | None, batch_first: bool, length: int, units: int) -> tuple[int, ...]:
    """The shape of an input; without samples where n is None."""
    return (length, units) if n is None else (n, length, units) if batch_first else (length, n, units)


def kept_in_encoder(n: int | None, first: bool, heads: int, length: int, units: int) -> dict[str, tuple[int, ...]]:
    """The shapes of the dropout masks of an encoder layer."""
    samples = () if n is None else (n,)
    return {
        "attn_dropout_mask": (*samples, heads, length, length),
        "dropout1_mask": at(n, first, length, units),
        "dropout_mask": at(n, first, length, HIDDEN),
        "dropout2_mask": at(n, first, length, units),
    }


def kept_in_decoder(
    n: int | None, first: bool, heads: int, length: int, units: int, keys: int
) -> dict[str, tuple[int, ...]]:
    """The shapes of the dropout masks of a decoder layer."""
    samples = () if n is None else (n,)
    own = at(n, first, length, units)
    return {
        "attn_dropout_mask": (*samples, heads, length, length),
        "dropout1_mask": own,
        "multihead_attn_dropout_mask": (*samples, heads, length, keys),
        "dropout2_mask": own,
        "dropout_mask": at(n, first, length, HIDDEN),
        "dropout3_mask": own,
    }


def _encoder(
    what: str,
    n: int | None = 1,
    *,
    heads: int = 2,
    units: int = UNITS,
    length: int = LENGTH,
    pairs: Draw | None = None,
    padding: Draw | None = None,
    dropped: bool = False,
    dY: Draw | None = None,
    training: bool = True,
    X: str = "contiguous",
    families: tuple[str, ...] = FULL,
    **args: Any,
) -> VJPCase:
    """A case with the parameters that its options leave; without dropout unless it is given."""
    first = args.get("batch_first", False)
    shape = at(n, first, length, units)
    kept = kept_in_encoder(n, first, heads, length, units)
    masks = {"src_mask": pairs, "src_key_padding_mask": padding}
    masks |= {name: Draw(size, "mask") if dropped else None for name, size in kept.items()}
    there = {name: draw for name, draw in masks.items() if draw}
    arrays = parameters(("self_attn",), units, args.get("bias", True))
    return VJPCase(
        f"TransformerEncoderLayer/{what}",
        Spec(
            "TransformerEncoderLayer",
            {"d_model": units, "nhead": heads, "dim_feedforward": HIDDEN, "dropout": 0.0, **args},
        ),
        (Draw(shape, layout=X), *there.values()),
        (dY or Draw(shape),),
        arrays,
        training,
        families,
        names=("src", *there) if there else (),
    )


def _decoder(
    what: str,
    n: int | None = 1,
    *,
    heads: int = 2,
    units: int = UNITS,
    length: int = LENGTH,
    keys: int = 3,
    dropped: bool = False,
    dY: Draw | None = None,
    training: bool = True,
    X: str = "contiguous",
    gain: float = 0.25,
    families: tuple[str, ...] = FULL,
    masks: Mapping[str, Draw] | None = None,
    **args: Any,
) -> VJPCase:
    """Likewise, of a memory of so many keys; `masks` in the order of `forward`. Each of three norms in a row divides by
    the deviation of a few features: with a `gain` of 1 the bounds of float32 exceed most gradients."""
    first = args.get("batch_first", False)
    own, memory = at(n, first, length, units), at(n, first, keys, units)
    kept = kept_in_decoder(n, first, heads, length, units, keys)
    given = {**(masks or {}), **({name: Draw(size, "mask") for name, size in kept.items()} if dropped else {})}
    sizes = {"d_model": units, "nhead": heads, "dim_feedforward": HIDDEN}
    return VJPCase(
        f"TransformerDecoderLayer/{what}",
        Spec("TransformerDecoderLayer", {**sizes, "dropout": 0.0, **args}),
        (Draw(own, layout=X), Draw(memory, layout=X), *given.values()),
        (dY or Draw(own),),
        parameters(("self_attn", "multihead_attn"), units, args.get("bias", True), gain),
        training,
        families,
        names=("tgt", "memory", *given) if given else (),
    )


CAUSAL = booleans((2, 2), 0, 1, 0, 0)
PADDED = {"tgt_mask": CAUSAL, "memory_key_padding_mask": booleans((2, 3), 0, 0, 1, 0, 1, 0)}

CASES = (
    *(_encoder(f"batch {n}", n, batch_first=True) for n in (0, 1, 7)),
    _encoder("batch 3", 3, batch_first=True, units=3, heads=1, length=1, families=FAMILIES),
    _encoder("samples in columns, one head", 2, heads=1),
    _encoder("no samples, gelu", None, activation="gelu"),
    _encoder("norm first", norm_first=True, batch_first=True),
    _encoder("norm first, gelu, masks, causal", norm_first=True, activation="gelu", pairs=CAUSAL, is_causal=True),
    _encoder("no bias, eps 0.5", bias=False, layer_norm_eps=0.5),
    _encoder("mask and padding added", 2, pairs=Draw((2, 2)), padding=Draw((2, 2)), norm_first=True),
    _encoder("padding", 2, padding=booleans((2, 2), 0, 1, 0, 0), batch_first=True),
    _encoder("dropout 0.25", dropout=0.25, dropped=True),
    _encoder("dropout 0.5, norm first", 2, dropout=0.5, dropped=True, norm_first=True, batch_first=True),
    _encoder("dropout in evaluation", dropout=0.5, dropped=True, training=False),
    _encoder("gradient one-hot", dY=Draw((2, 1, 4), "onehot", scale=-2.5)),
    _encoder("gradient of stride zero", 2, dY=Draw((2, 2, 4), layout="expanded")),
    _encoder("gradient transposed, input sliced", 2, dY=Draw((2, 2, 4), layout="transposed"), X="sliced"),
    _decoder("empty batch", 0, batch_first=True),
    _decoder("batch 3", 3, batch_first=True, heads=1, length=1, keys=2, families=FAMILIES),
    _decoder(
        "batch 7",
        7,
        batch_first=True,
        gain=0.125,
        units=3,
        heads=1,
        length=1,
        keys=2,
        dY=Draw((7, 1, 3), layout="transposed"),
    ),
    _decoder("no samples, gelu, norm first", None, activation="gelu", norm_first=True),
    _decoder(
        "no samples, mask and padding added",
        None,
        activation="gelu",
        norm_first=True,
        masks={"tgt_mask": Draw((2, 2)), "memory_key_padding_mask": Draw((3,))},
    ),
    _decoder(
        "no bias, eps 0.5, mask of the memory added",
        bias=False,
        layer_norm_eps=0.5,
        masks={"memory_mask": Draw((2, 3))},
        dY=Draw((2, 1, 4), "onehot", scale=-2.5),
    ),
    _decoder(
        "all masks added",
        keys=2,
        masks={
            "tgt_mask": Draw((2, 2)),
            "memory_mask": Draw((2, 2)),
            "tgt_key_padding_mask": Draw((1, 2)),
            "memory_key_padding_mask": Draw((1, 2)),
        },
        norm_first=True,
    ),
    _decoder(
        "causal, padded memory",
        2,
        masks=PADDED,
        batch_first=True,
        gain=0.125,
        tgt_is_causal=True,
        dY=Draw((2, 2, 4), layout="expanded"),
    ),
    _decoder(
        "dropout 0.25, both masks causal",
        keys=2,
        masks={"tgt_mask": CAUSAL, "memory_mask": CAUSAL},
        dropout=0.25,
        dropped=True,
        tgt_is_causal=True,
        memory_is_causal=True,
    ),
    _decoder("dropout 0.5, norm first", dropout=0.5, dropped=True, norm_first=True, batch_first=True),
    _decoder("dropout in evaluation", dropout=0.5, dropped=True, training=False, X="sliced", gain=0.125),
)
