"""What a failing answer looks like: known mistakes, relations of single tensors to the truth, narrower formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from parity.verdict.evaluation import Request, TrainingRequest
from parity.verdict.known_mistakes import mistakes_in_answer, mistakes_in_later_updates, mistakes_in_training
from parity.verdict.match import Diagnosis
from parity.verdict.narrower_formats import PRECISIONS, format_that_explains
from parity.verdict.recomputed import Recomputed, RecomputedTraining
from parity.verdict.relations import relations_to_truth
from parity.verdict.tensor import Answer, Enclosure, TensorVerdict


def diagnose(
    request: Request | TrainingRequest, answer: Answer, enclosures: Mapping[str, Enclosure], failing: Sequence[str]
) -> list[Diagnosis]:
    """Everything listed that the failing tensors of an answer match, the most specific first; nothing if none fails.

    Args:
        enclosures: the truth and the budget of each tensor. Of a training none is needed: the updates up to the first
            wrong one are looked at, and where they show nothing, the first two that do by themselves.
    """
    if not failing:
        return []
    if isinstance(request, TrainingRequest):
        return mistakes_in_training(RecomputedTraining(request), answer) or mistakes_in_later_updates(request, answer)
    again, names = Recomputed(request), tuple(failing)
    mistakes = mistakes_in_answer(again, answer, enclosures, names)
    relations = relations_to_truth(request.record, answer, enclosures, names)
    # How large the errors are says something only where no mistake of another kind does.
    fitting = {} if any(m.name not in PRECISIONS for m in mistakes) else _by_name(again, answer, enclosures, names)
    known = [replace(m, precision=m.name in fitting) for m in mistakes]
    return [*known, *relations, *(f for name, f in fitting.items() if name not in {m.name for m in mistakes})]


def _by_name(
    again: Recomputed, answer: Answer, enclosures: Mapping[str, Enclosure], names: tuple[str, ...]
) -> dict[str, Diagnosis]:
    return {f.name: f for f in format_that_explains(again, answer, enclosures, names)}


def told_of_precision(verdicts: Sequence[TensorVerdict], found: Sequence[Diagnosis]) -> list[TensorVerdict]:
    """The verdicts, with `imprecise` for what fails and has the errors of a narrower format, which is named."""
    names = {tensor: d.name for d in found if d.precision for tensor in d.tensors}
    return [
        replace(v, verdict="imprecise", formula=names[v.name]) if v.verdict == "FAIL" and v.name in names else v
        for v in verdicts
    ]
