"""TransformerEncoder, TransformerDecoder, Transformer. Axes: those of their layers' cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from parity.families.case import FULL, GRID, Draw, Spec, VJPCase, booleans
from parity.families.nn.transformer.cases import HIDDEN, at, kept_in_decoder, kept_in_encoder, parameters

UNITS, LENGTH, KEYS = 4, 2, 3
ENCODER, DECODER = ("self_attn",), ("self_attn", "multihead_attn")
GAIN = 0.25
"""Of the matrices: each norm divides by the deviation of a few features, so that bounds grow from layer to layer. The
weights of norms are near 1 and biases small for the same reason."""
NEAR_ONE: dict[tuple[str, ...], Draw] = {
    FULL: Draw((UNITS,), scale=0.125, offset=1.0),
    GRID: Draw((UNITS,), scale=0.5, offset=1.0),
}
"""On the grid no nearer than bfloat16 holds."""
SMALL = 0.25

Draws = Mapping[str, Draw]


def _stack(
    attentions: tuple[str, ...],
    layers: int,
    bias: bool,
    norm: bool,
    prefix: str = "",
    families: tuple[str, ...] = GRID,
) -> dict[str, Draw]:
    """The parameters of a stack of layers with these attentions."""
    of_one = {
        name: NEAR_ONE[families]
        if "norm" in name and "weight" in name
        else replace(draw, scale=SMALL)
        if "bias" in name
        else draw
        for name, draw in parameters(attentions, UNITS, bias, GAIN).items()
    }
    arrays = {f"{prefix}layers.{k}.{name}": draw for k in range(layers) for name, draw in of_one.items()}
    arrays |= {f"{prefix}norm.weight": NEAR_ONE[families]} if norm else {}
    return arrays | ({f"{prefix}norm.bias": Draw((UNITS,), scale=SMALL)} if norm and bias else {})


def _spec(kind: str, layers: int, norm: bool, bias: bool, options: Mapping[str, Any]) -> Spec:
    """Options of `forward` are those of the stack, the others those of its layer."""
    of_stack = {name: value for name, value in options.items() if "causal" in name or name in OF_STACK}
    of_layer = {name: value for name, value in options.items() if name not in of_stack}
    layer = {"d_model": UNITS, "nhead": 2, "dim_feedforward": HIDDEN, "dropout": 0.0, "bias": bias, **of_layer}
    inside = (Spec(f"{kind}Layer", layer), Spec("LayerNorm", {"normalized_shape": UNITS, "bias": bias}))
    return Spec(kind, {"num_layers": layers, **of_stack}, inside if norm else inside[:1])


OF_STACK = ("enable_nested_tensor", "mask_check")


def _masks(layers: int, shapes: Mapping[str, tuple[int, ...]], prefix: str = "") -> dict[str, Draw]:
    return {f"{prefix}{name}": Draw((layers, *shape), "mask") for name, shape in shapes.items()}


def _given(
    kind: str,
    what: str,
    inputs: Mapping[str, tuple[int, ...]],
    kept: Mapping[str, tuple[int, ...]],
    *,
    layers: int = 2,
    norm: bool = False,
    bias: bool = False,
    masks: Draws | None = None,
    dropped: bool = False,
    dY: Draw | None = None,
    training: bool = True,
    families: tuple[str, ...] = GRID,
    **options: Any,
) -> VJPCase:
    """A stack with inputs of these shapes, the first that of the output, and dropout masks of those."""
    given = {**(masks or {}), **(_masks(layers, kept) if dropped else {})}
    first, *_ = inputs.values()
    return VJPCase(
        f"{kind}/{what}",
        _spec(kind, layers, norm, bias, options),
        (*map(Draw, inputs.values()), *given.values()),
        (dY or Draw(first),),
        _stack(ENCODER if kind == "TransformerEncoder" else DECODER, layers, bias, norm, families=families),
        training,
        families,
        names=(*inputs, *given),
    )


def _encoder(what: str, n: int | None, **args: Any) -> VJPCase:
    first = args.get("batch_first", False)
    kept = kept_in_encoder(n, first, 2, LENGTH, UNITS)
    return _given("TransformerEncoder", what, {"src": at(n, first, LENGTH, UNITS)}, kept, **args)


def _decoder(what: str, n: int | None, keys: int = KEYS, **args: Any) -> VJPCase:
    first = args.get("batch_first", False)
    inputs = {"tgt": at(n, first, LENGTH, UNITS), "memory": at(n, first, keys, UNITS)}
    return _given("TransformerDecoder", what, inputs, kept_in_decoder(n, first, 2, LENGTH, UNITS, keys), **args)


def _both(
    what: str,
    n: int | None,
    layers: tuple[int, int] = (1, 1),
    *,
    bias: bool = False,
    keys: int = KEYS,
    masks: Draws | None = None,
    dropped: bool = False,
    dY: Draw | None = None,
    custom: tuple[Spec, ...] = (),
    heads: int = 2,
    arrays: Draws | None = None,
    families: tuple[str, ...] = GRID,
    **args: Any,
) -> VJPCase:
    """A Transformer; `custom` encoder and decoder come with their arrays."""
    first = args.get("batch_first", False)
    source, shape = at(n, first, keys, UNITS), at(n, first, LENGTH, UNITS)
    given = dict(masks or {})
    if dropped:
        given |= _masks(layers[0], kept_in_encoder(n, first, heads, keys, UNITS), "encoder_")
        given |= _masks(layers[1], kept_in_decoder(n, first, heads, LENGTH, UNITS, keys), "decoder_")
    sizes = {"d_model": UNITS, "nhead": heads, "num_encoder_layers": layers[0], "num_decoder_layers": layers[1]}
    own = {
        **_stack(ENCODER, layers[0], bias, True, "encoder.", families),
        **_stack(DECODER, layers[1], bias, True, "decoder.", families),
    }
    return VJPCase(
        f"Transformer/{what}",
        Spec("Transformer", {**sizes, "dim_feedforward": HIDDEN, "dropout": 0.0, "bias": bias, **args}, custom),
        (Draw(source), Draw(shape), *given.values()),
        (dY or Draw(shape),),
        arrays or own,
        True,
        families,
        names=("src", "tgt", *given),
    )


CAUSAL = booleans((2, 2), 0, 1, 0, 0)
PADDED = booleans((2, 2), 0, 0, 0, 1)
PRE_NORM = {"norm_first": True, "activation": "gelu", "batch_first": True}
CUSTOM = (
    _spec("TransformerEncoder", 2, False, False, PRE_NORM),
    _spec("TransformerDecoder", 1, False, False, PRE_NORM),
)

# Most are on the grid, whose answers serve float64 and float32 alike: names and sizes of so many small tensors are most
# of what is kept.
CASES = (
    _encoder("empty batch", 0, layers=1, batch_first=True),
    _encoder("batch 1, three layers", 1, families=FULL, layers=3, norm_first=True, batch_first=True),
    _encoder(
        "batch 3, a norm behind",
        3,
        families=FULL,
        norm=True,
        bias=True,
        norm_first=True,
        batch_first=True,
        activation="gelu",
    ),
    _encoder(
        "batch 7, one layer, padding",
        7,
        layers=1,
        batch_first=True,
        masks={"src_key_padding_mask": booleans((7, 2), 0, 0, 0, 1)},
        dY=Draw((7, 2, 4), layout="transposed"),
    ),
    _encoder(
        "no samples, mask and padding added",
        None,
        norm_first=True,
        masks={"mask": Draw((2, 2)), "src_key_padding_mask": Draw((2,))},
        dY=Draw((2, 4), "onehot", scale=-2.5),
    ),
    _encoder(
        "samples in columns, causal, padding",
        2,
        norm=True,
        masks={"mask": CAUSAL, "src_key_padding_mask": PADDED},
        is_causal=True,
        dY=Draw((2, 2, 4), layout="expanded"),
    ),
    _encoder("dropout 0.5", 2, norm_first=True, dropout=0.5, dropped=True),
    _encoder("dropout in evaluation", 1, dropout=0.5, dropped=True, training=False, norm=True),
    _decoder("empty batch", 0, layers=1, batch_first=True),
    _decoder("batch 1, three layers", 1, layers=3, norm_first=True, batch_first=True),
    _decoder(
        "batch 3, gelu", 3, families=FULL, layers=1, bias=True, norm_first=True, batch_first=True, activation="gelu"
    ),
    _decoder("batch 7, one layer", 7, layers=1, batch_first=True, dY=Draw((7, 2, 4), layout="transposed")),
    _decoder(
        "no samples, all masks added",
        None,
        norm_first=True,
        keys=2,
        masks={
            "tgt_mask": Draw((2, 2)),
            "memory_mask": Draw((2, 2)),
            "tgt_key_padding_mask": Draw((2,)),
            "memory_key_padding_mask": Draw((2,)),
        },
        dY=Draw((2, 4), "onehot", scale=-2.5),
    ),
    _decoder(
        "samples in columns, both masks causal",
        2,
        families=FULL,
        norm=True,
        keys=2,
        norm_first=True,
        layer_norm_eps=0.5,
        masks={"tgt_mask": CAUSAL, "memory_mask": CAUSAL, "memory_key_padding_mask": PADDED},
        tgt_is_causal=True,
        memory_is_causal=True,
        dY=Draw((2, 2, 4), layout="expanded"),
    ),
    _decoder("dropout 0.5", 2, norm_first=True, dropout=0.5, dropped=True),
    _both("empty batch", 0, batch_first=True),
    _both(
        "batch 3, gelu",
        3,
        families=FULL,
        bias=True,
        batch_first=True,
        norm_first=True,
        activation="gelu",
        # (of four units the deviation is now and then small: with a larger eps float32 sees every tensor)
        layer_norm_eps=4.0,
        dY=Draw((3, 2, 4), layout="transposed"),
    ),
    _both(
        "no samples, all masks added",
        None,
        norm_first=True,
        keys=2,
        masks={
            "src_mask": Draw((2, 2)),
            "tgt_mask": Draw((2, 2)),
            "memory_mask": Draw((2, 2)),
            "src_key_padding_mask": Draw((2,)),
            "tgt_key_padding_mask": Draw((2,)),
            "memory_key_padding_mask": Draw((2,)),
        },
    ),
    _both(
        "samples in columns, all masks causal",
        2,
        keys=2,
        masks={
            "src_mask": CAUSAL,
            "tgt_mask": CAUSAL,
            "memory_mask": CAUSAL,
            "src_key_padding_mask": PADDED,
        },
        src_is_causal=True,
        tgt_is_causal=True,
        memory_is_causal=True,
        dY=Draw((2, 2, 4), layout="expanded"),
    ),
    _both(
        "batch 7, dropout 0.5, eps 0.5, one head",
        7,
        (2, 1),
        heads=1,
        keys=2,
        batch_first=True,
        norm_first=True,
        layer_norm_eps=0.5,
        dropout=0.5,
        dropped=True,
    ),
    _both(
        "batch 1, custom encoder and decoder",
        1,
        custom=CUSTOM,
        batch_first=True,
        arrays={**_stack(ENCODER, 2, False, False, "encoder."), **_stack(DECODER, 1, False, False, "decoder.")},
        dY=Draw((1, 2, 4), "onehot", scale=-2.5),
    ),
)
