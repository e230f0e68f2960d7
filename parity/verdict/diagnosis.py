"""What a failing answer looks like: known mistakes, relations of single tensors to the truth, narrower formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from parity.budget.formats import Profile
from parity.records.record import Answer, Record, Train
from parity.verdict.known_mistakes import mistakes_in_answer, mistakes_in_training
from parity.verdict.match import Diagnosis
from parity.verdict.narrower_formats import format_that_explains
from parity.verdict.recomputed import Recomputed, RecomputedTraining
from parity.verdict.relations import relations_to_truth
from parity.verdict.tensor import Enclosure


def diagnose(
    record: Record, answer: Answer, enclosures: Mapping[str, Enclosure], profile: Profile, failing: Sequence[str]
) -> list[Diagnosis]:
    """Everything listed that the failing tensors of an answer match, the most specific first; nothing if none fails.

    Args:
        enclosures: the truth and the budget of each tensor. Of a training none is needed: only the first updates are
            looked at.
    """
    if not failing:
        return []
    if isinstance(record, Train):
        return mistakes_in_training(RecomputedTraining(record, profile), answer)
    again, names = Recomputed(record, profile), tuple(failing)
    mistakes = mistakes_in_answer(again, answer, enclosures, names)
    relations = relations_to_truth(record, answer, enclosures, names)
    # How large the errors are says something only where nothing else does.
    return [*mistakes, *relations, *([] if mistakes else format_that_explains(again, answer, enclosures, names))]
