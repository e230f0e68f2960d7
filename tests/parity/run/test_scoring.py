"""The score in worker processes is the score."""

import pytest

from parity.families.listing import FAULTS, REWRITINGS, catalogue
from parity.run import judging, scoring
from parity.vectors import catalogue_answers
from parity.verdict.score import Scores, score_faults

CASES = [case for case in catalogue() if case.name in ("Linear/batch 3", "SGD/lr 0.1, momentum 0.9")]


def test_several_processes_find_what_one_finds(monkeypatch):
    monkeypatch.setattr(scoring, "CHUNK", 1)
    started, done = [], []
    found = scoring.run(CASES, "float64", 2, started.append, lambda: done.append(1))
    assert (started, len(done)) == ([2], 2)
    here = [
        s for s in score_faults((*FAULTS, *REWRITINGS), CASES, catalogue_answers.truths, ("float64",), True) if s.tried
    ]
    assert [*found.faults, *found.rewritings] == here
    assert len(found.faults) + found.unmade == sum("float64" in f.dtypes for f in FAULTS)
    assert found.caught > 20
    assert found.flagged == 0


def test_briefly_the_same_mistakes_are_caught():
    whole, brief = (scoring.run(CASES, "float64", 1, each=each) for each in (True, False))
    assert [(s.fault.name, s.caught > 0) for s in brief.faults] == [(s.fault.name, s.caught > 0) for s in whole.faults]
    assert brief.rewritings == whole.rewritings
    assert sum(s.tried for s in brief.faults) < sum(s.tried for s in whole.faults)


def test_mistakes_made_while_cases_are_judged_score_alike():
    alone, seeding = scoring.run(CASES, "float64", 1, each=False), scoring.Seeding()
    plain = judging.run(CASES, ("refnet",), ("float64", "float32"), 1)
    judged = judging.run(CASES, ("refnet",), ("float64", "float32"), 1, seeding=seeding)
    assert [one.verdicts for one in judged] == [one.verdicts for one in plain]
    started = []
    found = scoring.run(CASES, "float64", 1, started.append, each=False, seeding=seeding)
    assert started == [0]
    assert [(s.fault.name, s.caught > 0) for s in found.faults] == [(s.fault.name, s.caught > 0) for s in alone.faults]
    assert found.rewritings == alone.rewritings


@pytest.mark.parametrize("dtypes", [("float32",), ("float64", "float32")])
def test_what_was_not_made_while_judging_is_made_after_it(dtypes):
    seeding = scoring.Seeding()
    judging.run(CASES[:1], ("refnet",), dtypes, 1, seeding=seeding)
    assert [*seeding.tables] == [CASES[0].name] * ("float64" in dtypes)
    found = scoring.run(CASES, "float64", 1, each=False, seeding=seeding)
    assert found.caught == scoring.run(CASES, "float64", 1, each=False).caught > 20


@pytest.mark.parametrize(("caught", "flagged", "sound"), [(3, 0, True), (0, 0, False), (3, 1, False)])
def test_sound_is_all_caught_and_none_flagged(caught, flagged, sound):
    from parity.verdict.score import Score

    fault, harmless = Score(FAULTS[0], "float64", 3, caught), Score(REWRITINGS[0], "float64", 3, flagged)
    scores = Scores("float64", (fault,), (harmless,), 0)
    assert (scores.caught, scores.flagged, scores.sound) == (int(caught > 0), flagged, sound)
