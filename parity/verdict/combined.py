"""Judging a case whose samples come in parts too: what the parts' gradients make up, and whether it is the whole's.

An engine's own gradients of the parts are put together here, in the record's dtype, and what comes out is judged like
any tensor: the budget of each part's gradient goes through the same lines. Whether the truth of it is the gradient of
the whole does not depend on the engine: that is certified (`parity.truth.certify`).
"""

from __future__ import annotations

from collections.abc import Sequence

from parity.verdict.answer import other_formulas
from parity.verdict.evaluation import NO_PATCHES, Patches, SplitRequest
from parity.verdict.tensor import Answer, Enclosure, TensorVerdict, Truths, judge


def judge_combined(request: SplitRequest, truths: Truths, answers: Sequence[Answer]) -> list[TensorVerdict]:
    """The verdict on `combined grad.NAME`, made of an engine's own answers to the parts, for every parameter.

    Args:
        truths: the certified values, under `grad.NAME`.

    Raises:
        Undecided: a comparison in a budget is undecided.
    """

    def enclosures(patches: Patches) -> dict[str, Enclosure]:
        return {f"combined {name}": Enclosure(truths[name], e) for name, e in request.bounds(patches).items()}

    others = other_formulas(request.split.whole.types(), enclosures, lambda patches: {})
    got = _made(request, truths, answers)
    return [
        judge(name, got.get(name.removeprefix("combined ")), e, request.split.dtype, others)
        for name, e in enclosures(NO_PATCHES).items()
    ]


def _made(request: SplitRequest, truths: Truths, answers: Sequence[Answer]) -> Answer:
    """What an engine's answers make up, for those parameters whose gradients are there, in their shape, in each."""
    there = [name for name, t in truths.items() if all(name in own and own[name].shape == t.shape for own in answers)]
    return request.combined(answers, there)


def finding(request: SplitRequest, whole: Truths, combined: Truths) -> str:
    """What is certified of a case: whether the parts' gradients make up the whole's, and if not, what is missing."""
    split = request.split
    terms = " + ".join(f"g{k}" if w == 1 else f"{w:g} g{k}" for k, w in enumerate(split.weights))
    formula = terms if split.divisor == 1 else f"({terms}) / {split.divisor:g}"
    if split.equal:
        return f"certified: {formula} is the gradient of the whole"
    share, name = max((whole[name].apart(truth), name) for name, truth in combined.items())
    apart = f"up to {share:.3g} of its largest element apart, in {name}"
    return f"certified: {formula} is not the gradient of the whole: {apart}"
