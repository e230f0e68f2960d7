"""Conv2d."""

from __future__ import annotations

from typing import Any

from parity.families.case import Draw, Spec, VJPCase


def _conv(
    what: str,
    X: tuple[int, ...] = (2, 2, 5, 6),
    channels: tuple[int, int] = (2, 3),
    kernel_size: int | tuple[int, int] = 3,
    *,
    Y: tuple[int, int],
    layout: str = "contiguous",
    input_layout: str = "contiguous",
    kind: str = "real",
    **args: Any,
) -> VJPCase:
    """`X` is the input's shape, `Y` the height and width of the output."""
    i, o = channels
    kernel = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
    weight = Draw((o, i // args.get("groups", 1), *kernel))
    return VJPCase(
        f"Conv2d/{what}",
        Spec("Conv2d", {"in_channels": i, "out_channels": o, "kernel_size": kernel_size, **args}),
        (Draw(X, layout=input_layout),),
        (Draw((*X[:-3], o, *Y), kind, layout=layout),),
        {"weight": weight, "bias": Draw((o,))} if args.get("bias", True) else {"weight": weight},
    )


CASES = (
    *(_conv(f"batch {n}", (n, 2, 4, 5), Y=(2, 3)) for n in (0, 1, 3, 7)),
    _conv("no batch axis", (2, 4, 5), Y=(2, 3)),
    _conv("gradient one-hot", Y=(3, 4), kind="onehot"),
    _conv("gradient of stride zero", Y=(3, 4), layout="expanded"),
    _conv("gradient transposed", Y=(3, 4), layout="transposed"),
    _conv("gradient sliced", Y=(3, 4), layout="sliced"),
    _conv("input transposed", Y=(3, 4), input_layout="transposed"),
    _conv("input sliced", Y=(3, 4), input_layout="sliced"),
    _conv("without bias", Y=(3, 4), bias=False),
    _conv("kernel 1", kernel_size=1, Y=(5, 6)),
    _conv("kernel as large as the input", kernel_size=(5, 6), Y=(1, 1)),
    _conv("kernel not square", kernel_size=(1, 4), Y=(5, 3)),
    _conv("kernel even", kernel_size=2, Y=(4, 5)),
    _conv("one channel", (3, 1, 4, 4), (1, 1), Y=(2, 2)),
    _conv("stride 2", Y=(2, 2), stride=2),
    _conv("stride not square", Y=(3, 2), stride=(1, 3)),
    _conv("stride greater than the kernel", kernel_size=2, Y=(2, 2), stride=(3, 4)),
    _conv("padding 1", Y=(5, 6), padding=1),
    _conv("padding not square", Y=(3, 8), padding=(0, 2)),
    _conv("padding greater than the kernel", (1, 1, 2, 3), (1, 2), 2, Y=(7, 8), padding=3),
    _conv("padding valid", Y=(3, 4), padding="valid"),
    _conv("padding same", Y=(5, 6), padding="same"),
    _conv("padding same, kernel even", kernel_size=(2, 4), Y=(5, 6), padding="same"),
    _conv("padding same, dilation", kernel_size=(2, 3), Y=(5, 6), padding="same", dilation=(1, 2)),
    _conv("dilation 2", Y=(1, 2), dilation=2),
    _conv("dilation not square", kernel_size=(2, 3), Y=(2, 4), dilation=(3, 1)),
    _conv("stride other than dilation", (2, 2, 7, 8), kernel_size=2, Y=(2, 3), stride=(3, 2), dilation=(2, 3)),
    _conv("stride, dilation and padding", (1, 2, 6, 7), Y=(2, 4), stride=(3, 2), dilation=(2, 1), padding=(1, 1)),
    _conv("groups", (2, 4, 4, 4), (4, 6), Y=(2, 2), groups=2),
    _conv("groups, depthwise", (2, 3, 4, 4), (3, 3), Y=(2, 2), groups=3),
    _conv("groups, depthwise, two each", (2, 3, 4, 4), (3, 6), Y=(2, 2), groups=3),
    _conv("groups, stride and padding", (2, 4, 4, 5), (4, 2), Y=(2, 3), groups=2, stride=2, padding=1, bias=False),
    *(
        case
        for mode in ("reflect", "replicate", "circular")
        for case in (
            _conv(f"padding mode {mode}", Y=(5, 6), padding=1, padding_mode=mode),
            _conv(f"padding mode {mode}, not square", (1, 2, 3, 4), Y=(5, 4), padding=(2, 1), padding_mode=mode),
            _conv(
                f"padding mode {mode}, stride and dilation",
                kernel_size=2,
                Y=(3, 3),
                stride=2,
                dilation=(3, 2),
                padding=(2, 1),
                padding_mode=mode,
            ),
            _conv(f"padding mode {mode}, same", kernel_size=(2, 3), Y=(5, 6), padding="same", padding_mode=mode),
        )
    ),
    # The output has the same size with rows and columns exchanged.
    _conv(
        "padding mode circular, rows alone",
        (2, 1, 5, 5),
        (1, 2),
        kernel_size=2,
        Y=(2, 2),
        stride=3,
        padding=(1, 0),
        padding_mode="circular",
    ),
)
