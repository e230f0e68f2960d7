"""A batch's gradient and those of its samples: where their mean is the batch's, and where it is not.

In each case the batch is asked for as a whole and in parts, and the parts' gradients g_k by every parameter are put
together as sum_k w_k g_k / d. The mean of samples is right for a mean over equal weights, as the sum is for a sum. A
mean over batches is not where the last one is short: it overweights that one's samples (keras-team/keras#20241). Nor is
it where a batch is no sum of its samples: batch normalization couples them (giotto-ai/giotto-deep#75), and a mean of
cross-entropies has the sum of the batch's class weights for its denominator, or the number of those samples that
`ignore_index` leaves (huggingface/blog#2414).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from parity.families.case import FAMILIES, FULL, Draw, Parts, Spec, VJPCase, given, indices
from parity.families.nn.loss.cases import SCALAR


def _linear(i: int, o: int, **args: Any) -> Spec:
    return Spec("Linear", {"in_features": i, "out_features": o, **args})


def _sequential(*layers: Spec) -> Spec:
    return Spec("Sequential", layers=layers)


def _mean(*rows: tuple[int, ...], equal: bool) -> Parts:
    return Parts(rows, (1,) * len(rows), len(rows), equal)


def _sum(*rows: tuple[int, ...]) -> Parts:
    return Parts(rows, (1,) * len(rows), 1, True)


def _weighted(*rows: tuple[int, ...], by: tuple[float, ...]) -> Parts:
    return Parts(rows, by, sum(by), True)


SAMPLES = ((0,), (1,), (2,), (3,))
PAIRS = ((0, 1), (2, 3))
TRIPLES = ((0, 1, 2), (3, 4, 5))
LAST_SHORT = ((0, 1), (2, 3), (4,))


def _squared(what: str, n: int, parts: Parts, reduction: str, families: tuple[str, ...] = FAMILIES) -> VJPCase:
    """A linear model of n samples: its gradients are sums of products, which on the grid even float32 holds, but for
    means over other numbers than powers of two."""
    return VJPCase(
        f"PerSample/MSELoss {reduction}, {what}",
        Spec("Objective", layers=(_linear(2, 2), Spec("MSELoss", {"reduction": reduction}))),
        (Draw((n, 2)), Draw((n, 2))),
        (given((), 1.5),),
        {"network.weight": Draw((2, 2)), "network.bias": Draw((2,))},
        families=families,
        parts=parts,
    )


MLP = _sequential(_linear(3, 4), Spec("Tanh"), _linear(4, 3))
MLP_ARRAYS = {
    "network.0.weight": Draw((4, 3), scale=0.5),
    "network.0.bias": Draw((4,), scale=0.5),
    "network.2.weight": Draw((3, 4), scale=0.5),
    "network.2.bias": Draw((3,), scale=0.5),
}
CLASSES = (2, 0, 1, 2)
CLASS_WEIGHTS = (0.5, 2.0, 0.25)
BY_CLASS = tuple(CLASS_WEIGHTS[c] for c in CLASSES)
WEIGHTED = {"loss.weight": given((3,), *CLASS_WEIGHTS)}
# Of the first pair of samples one is kept, of the second both.
ONE_IGNORED = (-100, 0, 1, 2)


def _entropy(
    what: str, parts: Parts, reduction: str, T: tuple[int, ...] = CLASSES, arrays: Mapping[str, Draw] | None = None
) -> VJPCase:
    """A network of two layers and four samples in three classes."""
    return VJPCase(
        f"PerSample/CrossEntropyLoss {reduction}, {what}",
        Spec("Objective", layers=(MLP, Spec("CrossEntropyLoss", {"reduction": reduction}))),
        (Draw((4, 3)), indices((4,), *T)),
        (SCALAR,),
        {**MLP_ARRAYS, **(arrays or {})},
        families=FULL,
        parts=parts,
    )


def _normalized(what: str, lead: tuple[int, ...], parts: Parts, training: bool = True) -> VJPCase:
    """A network with batch normalization; `lead` are the axes of its input before the last, that of four elements."""
    # Of two axes the last has the channels, which are three by then; of three axes the middle one.
    channels = (*lead, 3)[1]
    layers = (_linear(4, 3, bias=False), Spec("BatchNorm1d", {"num_features": channels}), Spec("Tanh"), _linear(3, 2))
    return VJPCase(
        f"PerSample/BatchNorm1d, {what}",
        Spec("Objective", layers=(_sequential(*layers), Spec("MSELoss"))),
        (Draw((*lead, 4)), Draw((*lead, 2))),
        (SCALAR,),
        {
            "network.0.weight": Draw((3, 4), scale=0.5),
            "network.1.weight": Draw((channels,), scale=0.25),
            "network.1.bias": Draw((channels,), scale=0.25),
            "network.1.running_mean": Draw((channels,)),
            "network.1.running_var": Draw((channels,), "positive"),
            "network.1.num_batches_tracked": indices((), 3),
            "network.3.weight": Draw((2, 3)),
            "network.3.bias": Draw((2,)),
        },
        training,
        FULL,
        parts,
    )


CASES = (
    _squared("mean of samples", 4, _mean(*SAMPLES, equal=True), "mean"),
    _squared("sum of samples", 4, _sum(*SAMPLES), "sum"),
    _squared("mean of batches, last one short", 5, _mean(*LAST_SHORT, equal=False), "mean", FULL),
    _squared("weighted mean of batches, last one short", 5, _weighted(*LAST_SHORT, by=(2, 2, 1)), "mean", FULL),
    _squared("sum of batches, last one short", 5, _sum(*LAST_SHORT), "sum"),
    _entropy("mean of samples", _mean(*SAMPLES, equal=True), "mean"),
    _entropy("sum of samples", _sum(*SAMPLES), "sum"),
    _entropy("class weights, mean of samples", _mean(*SAMPLES, equal=False), "mean", arrays=WEIGHTED),
    _entropy("class weights, weighted mean of samples", _weighted(*SAMPLES, by=BY_CLASS), "mean", arrays=WEIGHTED),
    _entropy("class weights, sum of samples", _sum(*SAMPLES), "sum", arrays=WEIGHTED),
    _entropy("ignore_index, mean of batches", _mean(*PAIRS, equal=False), "mean", ONE_IGNORED),
    _entropy("ignore_index, weighted mean of batches", _weighted(*PAIRS, by=(1, 2)), "mean", ONE_IGNORED),
    _entropy("ignore_index, sum of samples", _sum(*SAMPLES), "sum", ONE_IGNORED),
    _normalized("mean of samples", (4, 2), _mean(*SAMPLES, equal=False)),
    _normalized("mean of batches", (6,), _mean(*TRIPLES, equal=False)),
    _normalized("evaluation, mean of samples", (4,), _mean(*SAMPLES, equal=True), training=False),
)
