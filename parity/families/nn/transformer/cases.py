"""TransformerEncoderLayer. Axes: n sample, l place, e unit."""

from __future__ import annotations

from typing import Any

from parity.families.case import FAMILIES, FULL, Draw, Spec, VJPCase, booleans

UNITS, HIDDEN, LENGTH = 4, 3, 2


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
    shape = (length, units) if n is None else (n, length, units) if first else (length, n, units)
    inner, samples = (*shape[:-1], HIDDEN), () if n is None else (n,)
    kept = {
        "attn_dropout_mask": (*samples, heads, length, length),
        "dropout1_mask": shape,
        "dropout_mask": inner,
        "dropout2_mask": shape,
    }
    masks = {"src_mask": pairs, "src_key_padding_mask": padding}
    masks |= {name: Draw(size, "mask") if dropped else None for name, size in kept.items()}
    there = {name: draw for name, draw in masks.items() if draw}
    sizes = {
        "self_attn.in_proj_": ((3 * units, units), 0.25),
        "self_attn.out_proj.": ((units, units), 0.5),
        "linear1.": ((HIDDEN, units), 0.5),
        "linear2.": ((units, HIDDEN), 0.5),
        "norm1.": ((units,), 1.0),
        "norm2.": ((units,), 1.0),
    }
    arrays = {}
    for name, (size, scale) in sizes.items():
        arrays[f"{name}weight"] = Draw(size, scale=scale)
        if args.get("bias", True):
            arrays[f"{name}bias"] = Draw(size[:1])
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


CAUSAL = booleans((2, 2), 0, 1, 0, 0)

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
)
