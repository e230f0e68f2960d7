"""What a failing answer looks like: known mistakes, relations of single tensors to the truth, narrower formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from parity.verdict.evaluation import Request, TrainingRequest
from parity.verdict.known_mistakes import mistakes_in_answer, mistakes_in_training
from parity.verdict.match import Diagnosis
from parity.verdict.narrower_formats import format_that_explains
from parity.verdict.recomputed import Recomputed, RecomputedTraining
from parity.verdict.relations import relations_to_truth
from parity.verdict.tensor import Answer, Enclosure


def diagnose(
    request: Request | TrainingRequest, answer: Answer, enclosures: Mapping[str, Enclosure], failing: Sequence[str]
) -> list[Diagnosis]:
    """Everything listed that the failing tensors of an answer match, the most specific first; nothing if none fails.

    Args:
        enclosures: the truth and the budget of each tensor. Of a training none is needed: only the first updates are
            looked at.
    """
    if not failing:
        return []
    if isinstance(request, TrainingRequest):
        return mistakes_in_training(RecomputedTraining(request), answer)
    again, names = Recomputed(request), tuple(failing)
    mistakes = mistakes_in_answer(again, answer, enclosures, names)
    relations = relations_to_truth(request, answer, enclosures, names)
    # How large the errors are says something only where nothing else does.
    return [*mistakes, *relations, *([] if mistakes else format_that_explains(again, answer, enclosures, names))]
