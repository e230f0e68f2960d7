"""Graph: residuals, branches, a module in several steps, products."""

from __future__ import annotations

from typing import Any

from parity.families.case import FAMILIES, FULL, Draw, Spec, VJPCase


def _linear(i: int, o: int, bias: bool = True) -> Spec:
    return Spec("Linear", {"in_features": i, "out_features": o, **({} if bias else {"bias": False})})


def _graph(
    what: str,
    layers: tuple[Spec, ...],
    steps: tuple[tuple[Any, ...], ...],
    *shape: int,
    order: tuple[int, ...] | None = None,
    dY: Draw | None = None,
    X: str = "contiguous",
    scale: float = 1.0,
    families: tuple[str, ...] = FULL,
    **args: Any,
) -> VJPCase:
    """Layers are called 0, 1, ..., by their places."""
    first = [(order or tuple(range(len(layers)))).index(k) for k in range(len(layers))]
    arrays = {}
    for place, layer in zip(first, layers, strict=True):
        if layer.type == "Linear":
            arrays[f"{place}.weight"] = Draw((layer.args["out_features"], layer.args["in_features"]))
            if layer.args.get("bias", True):
                arrays[f"{place}.bias"] = Draw((layer.args["out_features"],))
    spec = Spec("Graph", {"steps": steps, **args}, layers, order)
    return VJPCase(
        f"Graph/{what}", spec, (Draw(shape, layout=X, scale=scale),), (dY or Draw(shape),), arrays, True, families
    )


SQUARE = (_linear(3, 3), Spec("Tanh"))
RESIDUAL = (("h", "0", "input"), ("y", "1", "h"), ("output", "+", "input", "y"))
TIED = (("h", "0", "input"), ("y", "1", "h"), ("z", "2", "y"), ("output", "+", "y", "z", "input"))

CASES = (
    *(_graph(f"residual, batch {n}", SQUARE, RESIDUAL, n, 3) for n in (0, 1, 7)),
    _graph("residual, batch 3", SQUARE, RESIDUAL, 3, 3, families=FAMILIES),
    _graph("one module at two places", SQUARE, TIED, 2, 3, order=(0, 1, 0)),
    _graph(
        "two branches and a gate",
        (_linear(2, 3), _linear(2, 3, bias=False), Spec("Sigmoid"), _linear(3, 2)),
        (("a", "0", "x"), ("b", "1", "x"), ("s", "2", "b"), ("gated", "*", "a", "s"), ("y", "3", "gated")),
        2,
        2,
        scale=0.125,
        inputs=("x",),
        outputs=("y",),
    ),
    _graph("a value twice in a sum and a product", (), (("s", "*", "input", "input"), ("output", "+", "s", "s")), 3, 2),
    VJPCase(
        "Graph/two results, two outputs",
        Spec(
            "Graph",
            {
                "steps": (
                    (("h", "weights"), "0", "input", "input", "input"),
                    (("y", "unused"), "1", "h", "h", "h"),
                    ("output", "+", "input", "y"),
                ),
                "outputs": ("output", "weights"),
            },
            (Spec("MultiheadAttention", {"embed_dim": 2, "num_heads": 1, "bias": False}),),
            (0, 0),
        ),
        (Draw((2, 2)),),
        (Draw((2, 2)), Draw((2, 2))),
        {"0.in_proj_weight": Draw((6, 2), scale=0.5), "0.out_proj.weight": Draw((2, 2))},
        families=FULL,
    ),
    _graph("gradient one-hot", SQUARE, RESIDUAL, 2, 3, dY=Draw((2, 3), "onehot", scale=-2.5)),
    _graph("gradient of stride zero", SQUARE, RESIDUAL, 3, 3, dY=Draw((3, 3), layout="expanded")),
    _graph("gradient transposed", SQUARE, RESIDUAL, 3, 3, dY=Draw((3, 3), layout="transposed"), X="sliced"),
)
