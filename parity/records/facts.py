"""What is to be known of a class beside its forward and its backward, in one table, a row for each class.

A `Spec` of the class has its row as `facts`.

What a class says itself is asked there and stands nowhere else: which arrays are parameters and which buffers, in the
module that is built of a spec; which state an optimizer keeps, in its `schema`; the dtype of a buffer, in the record.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Facts:
    """A row of the table.

    Attributes:
        inputs: the arguments of `forward`, by torch's names. One that is an index or a mask has no derivative, which
            its dtype says.
        together: the last inputs that torch takes as one tuple: their number.
        mask: whether the last input is a mask in place of random draws, which torch cannot be handed.
        draws: whether it draws random numbers where it is given none.
        dropout_masks: inputs that are given in place of random draws, in the order in which torch draws them.
        stacks: of stacks of layers, which of these belong to each; they have a leading axis of layers.
        modules: constructor arguments that are modules; a spec has them as its layers, the last ones left out where
            they are not given.
        options: arguments of `forward` that are no arrays; in a spec they stand among those of the class.
        arrays: constructor arguments that are arrays, and buffers of the module.
        products, sums: whether terms are added up in it, in products of matrices or otherwise: rewritings of sums bear
            on it then.
        dtype: whether what it computes depends on the dtype, so that it is built with the record's.
    """

    inputs: tuple[str, ...] = ("input",)
    together: int = 0
    mask: bool = False
    draws: bool = False
    dropout_masks: tuple[str, ...] = ()
    stacks: tuple[tuple[str, ...], ...] = ()
    modules: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    arrays: tuple[str, ...] = ()
    products: bool = False
    sums: bool = False
    dtype: bool = False

    def in_order_of_draws(self, given: Mapping[str, Any]) -> list[Any]:
        """The dropout masks among the inputs of these names, in the order in which torch draws them: in a stack layer
        by layer."""
        if not self.stacks:
            return [given[name] for name in self.dropout_masks if name in given]
        stacks = ([given[name] for name in names if name in given] for names in self.stacks)
        return [mask for masks in stacks for of_layer in zip(*masks, strict=True) for mask in of_layer]


_LOSS = Facts(("input", "target"), sums=True)
_WEIGHTED = Facts(("input", "target"), arrays=("weight",), sums=True)
_PAIRS = Facts(("input1", "input2", "target"), sums=True)
_DISTANCE = Facts(("x1", "x2"), sums=True)

_ENCODER_DROPOUT = ("attn_dropout_mask", "dropout1_mask", "dropout_mask", "dropout2_mask")
_DECODER_MASKS = ("tgt_mask", "memory_mask", "tgt_key_padding_mask", "memory_key_padding_mask")
_DECODER_DROPOUT = (
    "attn_dropout_mask",
    "dropout1_mask",
    "multihead_attn_dropout_mask",
    "dropout2_mask",
    "dropout_mask",
    "dropout3_mask",
)
_IN_ENCODER = tuple(f"encoder_{name}" for name in _ENCODER_DROPOUT)
_IN_DECODER = tuple(f"decoder_{name}" for name in _DECODER_DROPOUT)
_TRANSFORMER_MASKS = (
    "src_mask",
    "tgt_mask",
    "memory_mask",
    "src_key_padding_mask",
    "tgt_key_padding_mask",
    "memory_key_padding_mask",
)

MODULES: Mapping[str, Facts] = {
    "Linear": Facts(products=True, sums=True),
    "Identity": Facts(),
    "Flatten": Facts(),
    "Sigmoid": Facts(),
    "Tanh": Facts(),
    "ReLU": Facts(),
    "SiLU": Facts(),
    "GELU": Facts(),
    "Mish": Facts(),
    "Softplus": Facts(),
    "LogSigmoid": Facts(),
    "Softsign": Facts(),
    "Tanhshrink": Facts(),
    "ELU": Facts(),
    "SELU": Facts(),
    "CELU": Facts(),
    "LeakyReLU": Facts(),
    "ReLU6": Facts(),
    "RReLU": Facts(("input", "slopes"), draws=True),
    "Hardtanh": Facts(),
    "Hardsigmoid": Facts(),
    "Hardswish": Facts(),
    "Hardshrink": Facts(),
    "Softshrink": Facts(),
    "Threshold": Facts(),
    "GLU": Facts(),
    "PReLU": Facts(sums=True),
    "Softmin": Facts(sums=True),
    "Softmax2d": Facts(sums=True),
    "SwiGLU": Facts(products=True, sums=True),
    "GEGLU": Facts(products=True, sums=True),
    "Softmax": Facts(sums=True),
    "LogSoftmax": Facts(sums=True),
    "BatchNorm1d": Facts(sums=True),
    "BatchNorm2d": Facts(sums=True),
    "BatchNorm3d": Facts(sums=True),
    "InstanceNorm1d": Facts(sums=True),
    "InstanceNorm2d": Facts(sums=True),
    "InstanceNorm3d": Facts(sums=True),
    "LayerNorm": Facts(sums=True),
    "GroupNorm": Facts(sums=True),
    "Embedding": Facts(sums=True),
    "EmbeddingBag": Facts(("input", "offsets", "per_sample_weights"), sums=True),
    "RMSNorm": Facts(sums=True, dtype=True),
    "Dropout": Facts(("input", "mask"), mask=True, draws=True),
    "ScaledDotProductAttention": Facts(
        ("query", "key", "value", "attn_mask", "dropout_mask"),
        draws=True,
        dropout_masks=("dropout_mask",),
        products=True,
        sums=True,
    ),
    "TransformerEncoderLayer": Facts(
        (
            "src",
            "src_mask",
            "src_key_padding_mask",
            *_ENCODER_DROPOUT,
        ),
        draws=True,
        dropout_masks=_ENCODER_DROPOUT,
        options=("is_causal",),
        products=True,
        sums=True,
    ),
    "TransformerDecoderLayer": Facts(
        ("tgt", "memory", *_DECODER_MASKS, *_DECODER_DROPOUT),
        draws=True,
        dropout_masks=_DECODER_DROPOUT,
        options=("tgt_is_causal", "memory_is_causal"),
        products=True,
        sums=True,
    ),
    "TransformerEncoder": Facts(
        ("src", "mask", "src_key_padding_mask", *_ENCODER_DROPOUT),
        dropout_masks=_ENCODER_DROPOUT,
        stacks=(_ENCODER_DROPOUT,),
        modules=("encoder_layer", "norm"),
        options=("is_causal",),
        products=True,
        sums=True,
    ),
    "TransformerDecoder": Facts(
        ("tgt", "memory", *_DECODER_MASKS, *_DECODER_DROPOUT),
        dropout_masks=_DECODER_DROPOUT,
        stacks=(_DECODER_DROPOUT,),
        modules=("decoder_layer", "norm"),
        options=("tgt_is_causal", "memory_is_causal"),
        products=True,
        sums=True,
    ),
    "Transformer": Facts(
        ("src", "tgt", *_TRANSFORMER_MASKS, *_IN_ENCODER, *_IN_DECODER),
        draws=True,
        dropout_masks=(*_IN_ENCODER, *_IN_DECODER),
        stacks=(_IN_ENCODER, _IN_DECODER),
        modules=("custom_encoder", "custom_decoder"),
        options=("src_is_causal", "tgt_is_causal", "memory_is_causal"),
        products=True,
        sums=True,
    ),
    "Graph": Facts(),
    "MultiheadAttention": Facts(
        ("query", "key", "value", "key_padding_mask", "attn_mask", "dropout_mask"),
        draws=True,
        dropout_masks=("dropout_mask",),
        options=("need_weights", "average_attn_weights", "is_causal"),
        products=True,
        sums=True,
    ),
    "RotaryEmbedding": Facts(("input", "cos", "sin"), sums=True),
    "Conv2d": Facts(products=True, sums=True),
    "LSTMCell": Facts(("input", "h_0", "c_0"), together=2, products=True, sums=True),
    "MSELoss": _LOSS,
    "L1Loss": _LOSS,
    "HalfSquaredError": _LOSS,
    "HuberLoss": _LOSS,
    "SmoothL1Loss": _LOSS,
    "CrossEntropyLoss": _WEIGHTED,
    "LinearCrossEntropyLoss": Facts(("input", "target"), arrays=("weight",), products=True, sums=True),
    "NLLLoss": _WEIGHTED,
    "KLDivLoss": _LOSS,
    "GaussianNLLLoss": Facts(("input", "target", "var"), sums=True),
    "PoissonNLLLoss": Facts(("log_input", "target"), sums=True),
    "BCELoss": _WEIGHTED,
    "BCEWithLogitsLoss": Facts(("input", "target"), arrays=("weight", "pos_weight"), sums=True),
    "SoftMarginLoss": _LOSS,
    "MultiLabelSoftMarginLoss": _WEIGHTED,
    "HingeEmbeddingLoss": _LOSS,
    "MarginRankingLoss": _PAIRS,
    "CosineEmbeddingLoss": _PAIRS,
    "TripletMarginLoss": Facts(("anchor", "positive", "negative"), sums=True),
    "MultiMarginLoss": _WEIGHTED,
    "MultiLabelMarginLoss": _LOSS,
    "CosineSimilarity": _DISTANCE,
    "PairwiseDistance": _DISTANCE,
}
"""Every layer and loss. Containers are specs with layers, and optimizers have their schema."""

OTHER = Facts()
"""What holds of a class that has no row."""
