"""Every certified answer is the one that was kept at commit feefe69, tensor by tensor and bit by bit.

`answers_as_first_kept.json` has digests of the answers, taken from the files of that commit: by the name of the case,
`families`, the families that it had, and by the name of each tensor the digest of its values in these families and in
float64 and float32. The names of files and the keys inside them are not part of it. New cases, families, dtypes and
tensors may be added; an answer that is missing or has changed fails.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from parity.example import certified_example
from parity.example.perceptron import UPDATES
from parity.families.case import TrainCase, VJPCase
from parity.families.listing import catalogue
from parity.truth.value import Truth
from parity.vectors import catalogue_answers

FIRST = json.loads(Path(__file__).with_name("answers_as_first_kept.json").read_text(encoding="utf-8"))
DTYPES = ("float64", "float32")
CASES = {case.name: case for case in catalogue()}


def content(value):
    """The bytes of a certified tensor or an array, its shape included, whatever the byte order of the machine."""
    arrays = (value.hi, value.lo, value.undecided) if isinstance(value, Truth) else (value,)
    little = [np.asarray(a, a.dtype.newbyteorder("<")) for a in arrays]
    return b"".join(str((a.shape, a.dtype.str)).encode() + a.tobytes() for a in little)


def answers(case, family, dtype):
    """Every tensor that is kept of a record, by a name that the same tensor of several parts or updates shares."""
    if isinstance(case, TrainCase):
        training = catalogue_answers.training(case, family, dtype)
        yield from ((f"free run: {name}", truth) for name, truth in training.free.items())
        yield from ((f"bound: {name}", bound) for name, bound in training.bounds.items())
        for single, after in training.steps.values():
            yield from ((f"before updates: {name}", a) for name, a in {**single.arrays, **single.state}.items())
            yield from ((f"after updates: {name}", truth) for name, truth in after.items())
        return
    yield from catalogue_answers.truths(case, family, dtype).items()
    if isinstance(case, VJPCase) and case.parts:
        in_parts = catalogue_answers.in_parts(case, family, dtype)
        for part in in_parts.parts:
            yield from ((f"parts: {name}", truth) for name, truth in part.items())
        yield from ((f"combined: {name}", truth) for name, truth in in_parts.combined.items())


def digests(case, families):
    found = {}
    for family in families:
        for dtype in DTYPES:
            for name, value in answers(case, family, dtype):
                found.setdefault(name, hashlib.sha256()).update(f"{family} {dtype}".encode() + content(value))
    return {name: digest.hexdigest()[:16] for name, digest in found.items()}


def changed(case, first):
    """What has become of a case's answers, in words."""
    if case is None:
        return ["the case is gone"]
    if gone := set(first["families"]) - set(case.families):
        return [f"the family {family} is gone" for family in sorted(gone)]
    now = digests(case, first["families"])
    return [
        f"{name}: {'another answer' if name in now else 'gone'}"
        for name, digest in first["tensors"].items()
        if now.get(name) != digest
    ]


def test_every_answer_is_as_first_kept():
    found = {name: changed(CASES.get(name), first) for name, first in FIRST["cases"].items()}
    assert [f"{name}: {what}" for name, lines in found.items() for what in lines] == []


def first_positions():
    """The numbers of updates at which the worked example was first kept: each up to 58, then in steps of about a
    thirtieth, and the last two."""
    k = 0
    while k < UPDATES - 1:
        yield k
        k += max(1, k // 29)
    yield from (UPDATES - 1, UPDATES)


def test_the_worked_example_is_as_first_kept():
    """More numbers of updates may be kept now."""
    places = [certified_example.POSITIONS.index(k) for k in first_positions()]
    now = {}
    for name, array in certified_example.load().arrays.items():
        axes = [axis for axis, size in enumerate(array.shape) if size == len(certified_example.POSITIONS)]
        array = np.take(array, places, axis=axes[0]) if axes else array
        now[name] = hashlib.sha256(content(array)).hexdigest()[:16]
    assert {name: now.get(name) for name in FIRST["worked example"]} == FIRST["worked example"]


def test_there_are_as_many_as_there_were():
    assert len(FIRST["cases"]) == 619
    assert sum(len(case["tensors"]) for case in FIRST["cases"].values()) > 2_000


@pytest.mark.parametrize("name", ["Linear/batch 3", "SGD/lr 0.1, momentum 0.9", "Training/batch"])
def test_a_change_is_seen(name, monkeypatch):
    first = FIRST["cases"][name]
    right = answers

    def wrong(case, family, dtype):
        (tensor, value), *rest = right(case, family, dtype)
        hi = value.hi.copy()
        hi.flat[-1] = np.nextafter(hi.flat[-1], 9)
        yield tensor, Truth(hi, value.lo, value.undecided) if dtype == "float32" else value
        yield from rest

    assert changed(CASES[name], first) == []
    assert changed(None, first) == ["the case is gone"]
    assert changed(CASES[name], {**first, "families": ["other"]}) == ["the family other is gone"]
    assert changed(CASES[name], {**first, "tensors": {"grad.other": "0" * 16}}) == ["grad.other: gone"]
    monkeypatch.setitem(globals(), "answers", wrong)
    (line,) = changed(CASES[name], first)
    assert line.endswith(": another answer")
