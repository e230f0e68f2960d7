"""Other formulas of a transformer's layers: those of their parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from parity.families.formula import Patch, together
from parity.families.nn.activation_smooth import formulas as smooth
from parity.families.nn.attention import formulas as attention
from parity.families.nn.normalization import formulas as normalization

PARTS = ("self_attn", "multihead_attn", "norm1", "norm2", "norm3")
LAYERS = ("TransformerEncoderLayer", "TransformerDecoderLayer")

NO_OTHER: Mapping[str, str] = dict.fromkeys(
    ("TransformerEncoder", "TransformerDecoder"),
    "it computes nothing beside its layers and its norm, which have theirs",
)


def _within(patches: Mapping[str, Patch]) -> Patch:
    """The patches of the classes of its parts, made in the parts."""

    def patch(module: Any) -> None:
        for part in (*(module._modules[name] for name in PARTS if name in module._modules), module.activation):
            if type(part).__name__ in patches:
                patches[type(part).__name__](part)

    return patch


_OF_PARTS = tuple(
    variant
    for listed in (attention.WEAKER[:1], normalization.WEAKER, smooth.WEAKER)
    for variant in listed
    if "torch" in variant.users and variant.patches.keys() & {"MultiheadAttention", "LayerNorm", "GELU"}
)

_LISTED = (
    *(replace(variant, name=f"{variant.name} in a part") for variant in _OF_PARTS),
    replace(together(_OF_PARTS), why="All of these, as torch has them.", source="as above"),
)


def _made_here(patches: Mapping[str, Patch]) -> Patch:
    """The same in the layers that a Transformer makes, and in the norms behind them. A stack that it is given has its
    own patches, and so have those of a TransformerEncoder or TransformerDecoder."""

    def patch(module: Any) -> None:
        for stack in module.children():
            if stack in module.custom:
                continue
            for layer in stack.layers:
                _within(patches)(layer)
            if "LayerNorm" in patches:
                patches["LayerNorm"](stack.norm)

    return patch


WEAKER = tuple(
    replace(
        variant,
        patches={
            **dict.fromkeys(LAYERS, _within(variant.patches)),
            "Transformer": _made_here(variant.patches),
        },
    )
    for variant in _LISTED
)
