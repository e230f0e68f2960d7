"""Cases of real size: layers as models have them, of which some elements of each tensor are certified.

What is kept of a case is its name, from which its inputs are drawn again (SHAKE-256, the same on every machine), and
certified values of 1,000 elements of each tensor, or of fewer where the case has many tensors. They are not judged
with the catalogue: `parity --large` does that, and `parity certify --large` computes what is kept.
"""

from __future__ import annotations

from typing import Any

from parity.families.case import FULL, Case, Draw, OptimizeCase, VJPCase

ROWS, UNITS = 128, 1024
WIDTH, HEADS, LENGTH, BATCH = 128, 4, 32, 4
"""Of attention. Whole transformer layers of this size are not here: sums in any order, through
two norms and a softmax in float32, have budgets that prove nothing."""


def _vjp(
    kind: str,
    what: str,
    inputs: tuple[Draw, ...],
    dY: tuple[int, ...] | None = None,
    arrays: dict[str, Draw] | None = None,
    **args: Any,
) -> VJPCase:
    """An upstream gradient of the first input's shape, where none is given."""
    grads = (Draw(inputs[0].shape if dY is None else dY),)
    return _large(kind, what, args, inputs, grads, arrays or {})


def _large(
    kind: str,
    what: str,
    args: dict[str, Any],
    inputs: tuple[Draw, ...],
    grads: tuple[Draw, ...],
    arrays: dict[str, Draw],
) -> VJPCase:
    fields: dict[str, Any] = {"inputs": inputs, "grads": grads, "arrays": arrays}
    return VJPCase.of(kind, f"large, {what}", args, **fields, families=FULL, large=True)


def _affine(units: int) -> dict[str, Draw]:
    return {"weight": Draw((units,)), "bias": Draw((units,))}


ELEMENTWISE: dict[str, dict[str, Any]] = {
    "GELU": {},
    "SiLU": {},
    "Mish": {},
    "Softplus": {},
    "LogSigmoid": {},
    "Tanh": {},
    "Sigmoid": {},
    "ELU": {"alpha": 0.75},
}
"""Activations, with arguments."""

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 0.125, "momentum": 0.875, "nesterov": True},
    "Adam": {"lr": 0.125},
    "AdamW": {"lr": 0.125},
    "NAdam": {"lr": 0.125},
    "RAdam": {"lr": 0.125},
    "Adamax": {"lr": 0.125},
    "Adagrad": {"lr": 0.125},
    "Adadelta": {"lr": 0.125},
    "RMSprop": {"lr": 0.125, "momentum": 0.5},
    "Lion": {"lr": 0.125},
}
"""Optimizers that go element by element, with arguments."""

STEPS, MATRIX = 2, (256, 256)


_ROWS = Draw((ROWS, UNITS))
_PLACES = Draw((BATCH, LENGTH, WIDTH))
_HEADS = Draw((BATCH, HEADS, LENGTH, WIDTH // HEADS))

LARGE: tuple[Case, ...] = (
    _vjp(
        "Linear",
        "256 x 512 to 256",
        (Draw((256, 512)),),
        (256, 256),
        {"weight": Draw((256, 512), scale=2.0**-5), "bias": Draw((256,))},
        in_features=512,
        out_features=256,
    ),
    _vjp("LayerNorm", f"{ROWS} x {UNITS}", (_ROWS,), None, _affine(UNITS), normalized_shape=[UNITS]),
    _vjp(
        "RMSNorm", f"{ROWS} x {UNITS}", (_ROWS,), None, {"weight": Draw((UNITS,))}, normalized_shape=[UNITS], eps=1e-5
    ),
    _vjp("GroupNorm", "8 x 64 x 16 x 16", (Draw((8, 64, 16, 16)),), None, _affine(64), num_groups=8, num_channels=64),
    *(_vjp(kind, "256 x 1024", (Draw((256, 1024)),), **args) for kind, args in ELEMENTWISE.items()),
    _vjp("GELU", "tanh, 256 x 1024", (Draw((256, 1024)),), approximate="tanh"),
    _vjp("GLU", "256 x 1024", (Draw((256, 1024)),), (256, 512)),
    _vjp("Softmax", "64 x 2000", (Draw((64, 2000)),), dim=-1),
    _vjp("LogSoftmax", "64 x 2000", (Draw((64, 2000)),), dim=-1),
    _vjp("ScaledDotProductAttention", "4 x 4 x 32 x 32, causal", (_HEADS,) * 3, is_causal=True),
    _large(
        "MultiheadAttention",
        f"{BATCH} x {LENGTH} x {WIDTH}",
        {"embed_dim": WIDTH, "num_heads": HEADS, "bias": False, "batch_first": True},
        (_PLACES,) * 3,
        (_PLACES, Draw((BATCH, LENGTH, LENGTH))),
        {
            "in_proj_weight": Draw((3 * WIDTH, WIDTH), scale=2.0**-5),
            "out_proj.weight": Draw((WIDTH, WIDTH), scale=2.0**-5),
        },
    ),
    _vjp(
        "Embedding",
        "2000 x 64",
        (Draw((16, 128), "index", below=2000),),
        (16, 128, 64),
        {"weight": Draw((2000, 64))},
        num_embeddings=2000,
        embedding_dim=64,
    ),
    _vjp(
        "CrossEntropyLoss",
        "128 x 2000",
        (Draw((128, 2000)), Draw((128,), "index", below=2000)),
        (),
        label_smoothing=0.125,
    ),
    _vjp(
        "LinearCrossEntropyLoss",
        "128 x 128 to 1000",
        (Draw((128, 128)), Draw((128,), "index", below=1000)),
        (),
        {"linear.weight": Draw((1000, 128), scale=2.0**-4)},
        in_features=128,
        num_classes=1000,
    ),
    _vjp(
        "Conv2d",
        "4 x 16 x 32 x 32, 3 x 3",
        (Draw((4, 16, 32, 32)),),
        (4, 32, 32, 32),
        {"weight": Draw((32, 16, 3, 3), scale=0.125), "bias": Draw((32,))},
        in_channels=16,
        out_channels=32,
        kernel_size=3,
        padding=1,
    ),
    *(
        OptimizeCase.of(
            kind,
            "large, 256 x 256",
            args,
            params={"weight": Draw(MATRIX)},
            grads={"weight": Draw((STEPS, *MATRIX))},
            families=FULL,
            large=True,
        )
        for kind, args in OPTIMIZERS.items()
    ),
)
"""In the order in which results show them."""
