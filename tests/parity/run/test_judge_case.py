"""Engines of every kind on one case: what they do to themselves, and that they do it to nobody else."""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from parity.budget.array import Budget, Profile
from parity.budget.formats import FORMATS, Format
from parity.engines.base import Engine
from parity.engines.faulty import FaultyEngine
from parity.engines.refnet import RefnetEngine
from parity.families.listing import catalogue
from parity.records.record import VJP, Spec, Undecided, Unsupported, UsageError
from parity.run import judging
from parity.run.judging import judge_case
from parity.run.results import Comparison
from parity.truth.value import Truth
from parity.vectors import catalogue_answers

pytestmark = pytest.mark.arithmetic

BY_NAME = {case.name: case for case in catalogue()}
LINEAR = BY_NAME["Linear/batch 3"]
SGD = BY_NAME["SGD/lr 0.1, momentum 0.9"]


class Mine(Engine):
    """refnet, with what it answers (and what it is asked) changed."""

    def __init__(self, change=lambda answer, record: answer, name="mine", profile=None):
        self.change, self.name, self.own_profile = change, name, profile

    def profile(self, dtype):
        return self.own_profile or Profile.of(dtype)

    def vjp(self, record):
        return self.change(RefnetEngine().vjp(record), record)

    def optimize(self, record):
        return self.change(RefnetEngine().optimize(record), record)

    def train(self, record):
        return self.change(RefnetEngine().train(record), record)


def raising(error):
    def change(answer, record):
        raise error

    return Mine(change)


def result(engine, case=LINEAR, family="full", dtype="float64", **more):
    (found,) = judge_case(case, family, dtype, [engine], **more)
    return found


# ---- right engines


@pytest.mark.parametrize("case", [LINEAR, SGD], ids=lambda case: case.name)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_two_right_engines(case, dtype):
    first, second = judge_case(case, "full", dtype, [RefnetEngine(), Mine()])
    assert (first.case, first.family, first.dtype, first.engine) == (case.name, "full", dtype, "refnet")
    assert (first.verdict, second.verdict) == ("rounding", "rounding")
    assert first.verdicts == second.verdicts
    n = len(first.verdicts)
    assert (first.comparison, second.comparison) == (None, Comparison(n, n, 0, 0))
    assert first.diagnosis == second.diagnosis == ()
    assert second.seconds > 0


def test_every_bit_is_compared_with_the_first_engines():
    _, second = judge_case(LINEAR, "grid", "float64", [RefnetEngine(), Mine()])
    assert second.comparison == Comparison(4, 4, 4, 4)

    def next_number(answer, record):
        return {name: np.nextafter(t, np.inf) for name, t in answer.items()}

    _, off, third = judge_case(LINEAR, "grid", "float64", [RefnetEngine(), Mine(next_number), Mine()])
    assert off.comparison == Comparison(4, 0, 4, 0)
    # The third is compared with the first, not with the second.
    assert third.comparison == Comparison(4, 4, 4, 4)
    _, off, _ = judge_case(LINEAR, "full", "float64", [RefnetEngine(), Mine(next_number), Mine()])
    assert off.comparison == Comparison(4, 0, 0, 0)


def test_the_sign_of_a_zero_is_a_bit_but_not_a_value():
    def negative(answer, record):
        return {name: np.where(t == 0, -t, t) for name, t in answer.items()}

    _, other = judge_case(BY_NAME["ReLU/everything off"], "grid", "float64", [RefnetEngine(), Mine(negative)])
    assert other.verdict == "exact"
    assert other.comparison == Comparison(2, 0, 2, 2)


def test_with_nothing_to_compare_with():
    silent = raising(Unsupported("not today"))
    first, second = judge_case(LINEAR, "full", "float64", [silent, Mine()])
    assert first.verdict == "unsupported"
    assert second.comparison is None


# ---- engines that fail


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "raised TypeError: expected a dict of NumPy arrays, got NoneType"),
        ([np.ones(3)], "raised TypeError: expected a dict of NumPy arrays, got list"),
        ({1: np.ones(3)}, "raised TypeError: expected names of tensors, got 1"),
        ({"output": [1.0]}, "raised TypeError: expected a NumPy array of numbers as output, got list"),
        ({"output": 1.0}, "raised TypeError: expected a NumPy array of numbers as output, got float"),
        ({"output": None}, "raised TypeError: expected a NumPy array of numbers as output, got NoneType"),
        ({"output": np.array("x")}, "expected a NumPy array of numbers as output, got ndarray of <U1"),
        ({"output": np.array([None])}, "expected a NumPy array of numbers as output, got ndarray of object"),
        ({"output": np.ones(2, complex)}, "expected a NumPy array of numbers as output, got ndarray of complex128"),
    ],
)
def test_answers_that_are_none(answer, reason):
    found = result(Mine(lambda right, record: answer))
    (verdict,) = found.verdicts
    assert (verdict.name, verdict.verdict, verdict.share) == ("answer", "FAIL", math.inf)
    assert verdict.reason.endswith(reason)
    assert found.diagnosis == ()


def test_tensors_of_torch():
    torch = pytest.importorskip("torch")
    found = result(Mine(lambda answer, record: {name: torch.from_numpy(t) for name, t in answer.items()}))
    assert found.verdicts[0].reason.endswith("expected a NumPy array of numbers as output, got Tensor")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("two\n  lines"), "raised ValueError: two lines"),
        (ZeroDivisionError(), "raised ZeroDivisionError:"),
        (SystemExit(0), "raised SystemExit: 0"),
        (AssertionError("\x1b[31mred\x00"), "raised AssertionError: [31mred"),
        (RuntimeError("long " * 1000), "raised RuntimeError: long long"),
    ],
)
def test_an_engine_that_raises(error, reason):
    (verdict,) = result(raising(error)).verdicts
    assert verdict.reason.startswith(reason)
    assert verdict.reason.isprintable()
    assert len(verdict.reason) <= 300


def test_a_crash_shows_where():
    def careless(answer, record):
        return record.arrays["no such weight"]

    found = result(Mine(careless))
    assert found.verdicts[0].reason == "raised KeyError: 'no such weight'"
    assert found.traceback.startswith("Traceback (most recent call last):")
    assert 'return record.arrays["no such weight"]' in found.traceback
    assert found.traceback.endswith("KeyError: 'no such weight'\n")
    assert result(Mine()).traceback == ""
    assert "\x1b" not in result(raising(AssertionError("\x1b[31mred\x00"))).traceback


def test_an_interruption_is_none_of_the_engines_failures():
    with pytest.raises(KeyboardInterrupt):
        result(raising(KeyboardInterrupt()))


def test_unsupported_is_no_failure():
    found = result(raising(Unsupported("no Linear\nhere")))
    assert (found.verdict, found.unsupported, found.verdicts) == ("unsupported", "no Linear here", ())
    assert found.conforms
    assert result(raising(Unsupported())).unsupported == "no reason given"


def test_wrong_names_and_numbers_of_tensors():
    def renamed(answer, record):
        return {name.replace("grad.", "d"): t for name, t in answer.items()}

    found = {v.name: v.reason for v in result(Mine(renamed)).verdicts if v.verdict == "FAIL"}
    assert found["grad.weight"] == "missing"
    assert found["dweight"].startswith("expected no tensor but output, grad_input, grad.weight")
    nothing = result(Mine(lambda answer, record: {}))
    assert {v.reason for v in nothing.verdicts} == {"missing"}


def test_an_engine_that_computes_in_another_dtype():
    def other(answer, record):
        return {name: t.astype(np.float32) for name, t in answer.items()}

    said = result(Mine(other))
    assert {v.reason for v in said.verdicts} == {"expected dtype float64, got float32"}

    def hidden(answer, record):
        return {name: t.astype(np.float32).astype(np.float64) for name, t in answer.items()}

    found = result(Mine(hidden))
    assert found.verdict == "imprecise"
    assert {v.formula for v in found.verdicts if v.formula} == {"computed in float32"}


def test_numpy_scalars_are_0d_arrays():
    case = BY_NAME["MSELoss/batch 3, mean"]

    def scalars(answer, record):
        return {name: t[()] for name, t in answer.items()}

    assert isinstance(scalars(RefnetEngine().vjp(case.record("full", "float64")), None)["output"], np.float64)
    assert result(Mine(scalars), case).conforms


def test_masks_do_not_hide_wrong_numbers():
    def masked(answer, record):
        return {name: np.ma.array(t + 1, mask=True) for name, t in answer.items()}

    assert {v.verdict for v in result(Mine(masked)).verdicts} == {"FAIL"}


# ---- profiles


def test_a_profile_widens_the_budget():
    def eleven_bits(answer, record):
        return {**answer, "output": answer["output"] * np.float32(1 + 2.0**-13)}

    assert result(Mine(eleven_bits), dtype="float32").verdict == "FAIL"
    tf32 = Profile.of("float32", product="tf32")
    granted = result(Mine(eleven_bits, profile=tf32), dtype="float32")
    assert (granted.verdict, granted.profile) == ("rounding", "float32, factors in tf32")


@pytest.mark.parametrize(
    ("profile", "reason"),
    [
        (Profile.of("float16"), "raised ValueError: expected a profile that stores float64, got float16"),
        (
            Profile(Format("float64", 1, -1022, 1023), *[FORMATS["float64"]] * 2),
            "raised ValueError: expected a profile of formats in parity.budget.formats.FORMATS, "
            "got Format(name='float64', precision=1, min_exponent=-1022, max_exponent=1023)",
        ),
        ("float64", "raised AttributeError: 'str' object has no attribute 'storage'"),
    ],
)
def test_a_profile_that_is_none(profile, reason):
    assert [v.reason for v in result(Mine(profile=profile)).verdicts] == [reason]


# ---- what an engine does to its arrays is its own affair


def wrecking(answer, record):
    """A right answer, and everything within reach overwritten."""
    kept = {name: t.copy() for name, t in answer.items()}
    arrays = vars(record).values()
    for group in arrays:
        for array in group.values() if isinstance(group, dict) else group if isinstance(group, tuple) else [group]:
            if isinstance(array, np.ndarray) and array.flags.writeable:
                array[...] = 7
    return kept


def parted(result):
    """The verdicts on the answer, and the reasons against the engine's conduct."""
    conduct = [v for v in result.verdicts if v.name in ("inputs", "asked again")]
    return tuple(v for v in result.verdicts if v not in conduct), {v.name: v.reason for v in conduct}


@pytest.mark.parametrize(
    ("case", "inputs"),
    [
        (LINEAR, "input 0, upstream gradient 0"),
        (SGD, "gradient of weight"),
        (BY_NAME["Linear/input transposed"], "input 0, upstream gradient 0"),
    ],
    ids=lambda given: getattr(given, "name", ""),
)
def test_an_engine_that_writes_into_its_record(case, inputs):
    """It fails for it, and nobody else is touched."""
    wrecked, after = judge_case(case, "full", "float32", [Mine(wrecking), RefnetEngine()])
    (untouched,) = judge_case(case, "full", "float32", [RefnetEngine()])
    verdicts, conduct = parted(wrecked)
    assert verdicts == after.verdicts == untouched.verdicts
    assert list(conduct) == ["inputs"]
    assert conduct["inputs"].startswith(f"expected inputs that the engine leaves as they are, got others in {inputs}")
    assert wrecked.verdict == "FAIL"


def test_an_engine_may_write_into_its_parameters():
    def learned(answer, record):
        for array in record.arrays.values():
            array[...] = 7
        return answer

    assert result(Mine(learned)).conforms


@pytest.mark.parametrize("case", [LINEAR, BY_NAME["SGD/groups, each with its options"]], ids=lambda case: case.name)
def test_an_engine_that_takes_its_spec_apart(case):
    def apart(answer, record):
        record.spec.args.clear()
        for _, args in getattr(record, "groups", None) or ():
            args.clear()
        return answer

    for _ in range(2):
        taken, after = judge_case(case, "full", "float64", [Mine(apart), RefnetEngine()])
        assert taken.conforms
        assert after.conforms


def test_an_engine_that_writes_into_what_is_kept_of_a_training(short_training, short_vectors):
    def judged(*made):
        return judge_case(short_training, "full", "float64", made, short_vectors)

    wrecked, after = judged(Mine(wrecking), RefnetEngine())
    (untouched,) = judged(RefnetEngine())
    verdicts, conduct = parted(wrecked)
    assert verdicts == after.verdicts == untouched.verdicts
    assert conduct == {"inputs": "expected inputs that the engine leaves as they are, got others in inputs, targets"}
    assert after.conforms


def test_an_engine_that_answers_in_the_same_arrays_again(short_training, short_vectors):
    buffers = {}

    def reused(answer, record):
        for name, t in answer.items():
            buffer = buffers.setdefault((name, t.shape), np.empty_like(t))
            buffer[...] = t
        return {name: buffers[name, t.shape] for name, t in answer.items()}

    (found,) = judge_case(short_training, "full", "float64", [Mine(reused)], short_vectors)
    assert found.conforms


# ---- asked twice


def test_an_engine_that_answers_otherwise_the_second_time():
    """A sample of records is asked twice, always the same."""
    sample = {case.name for case in catalogue() if judging._twice(case, "full", "float64")}
    assert 0.05 < len(sample) / len(BY_NAME) < 0.2
    asked = next(BY_NAME[name] for name in sorted(sample) if name.startswith("Linear/"))
    calls = []

    def changing(answer, record):
        calls.append(1)
        return {**answer, "output": answer["output"] * (1 + 2.0**-52 * (len(calls) % 2))}

    found = result(Mine(changing), asked)
    assert len(calls) == 2
    assert parted(found)[1] == {"asked again": "expected the same answer, bit for bit, got another in output"}
    assert found.verdict == "FAIL"
    calls.clear()
    other = next(case for case in catalogue() if case.name.startswith("Linear/") and case.name not in sample)
    assert parted(result(Mine(changing), other))[1] == {}
    assert len(calls) == 1


def test_an_engine_that_raises_the_second_time():
    case = next(case for case in catalogue() if judging._twice(case, "full", "float64"))
    calls = []

    def spent(answer, record):
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("spent")
        return answer

    (verdict,) = result(Mine(spent), case).verdicts
    assert (verdict.name, verdict.reason) == ("answer", "raised RuntimeError: spent")


# ---- the arithmetic of the process


def flushes():
    """Whether denormal numbers are flushed to zero here."""
    return float(np.array(2.0**-1074) * np.array([1.0])[0]) == 0


@pytest.mark.parametrize("end", ["answers", "raises"])
def test_an_engine_that_flushes_denormals_does_so_alone(end):
    torch = pytest.importorskip("torch")
    seen = []

    def flushing(answer, record):
        if not torch.set_flush_denormal(True):
            pytest.skip("this processor does not flush")
        seen.append(flushes())
        if end == "raises":
            raise ValueError("flushed")
        return answer

    try:
        assert not flushes()
        found = result(Mine(flushing))
        assert seen[0]
        assert not flushes()
    finally:
        torch.set_flush_denormal(False)
    assert found.conforms == (end == "answers")


def test_numpys_handling_of_errors_is_put_back():
    def careless(answer, record):
        np.seterr(all="ignore")
        return answer

    before = np.geterr()
    assert result(Mine(careless)).conforms
    assert np.geterr() == before


# ---- trainings


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_training(short_training, short_vectors, dtype):
    refnet, mine = judge_case(short_training, "full", dtype, [RefnetEngine(), Mine()], short_vectors)
    assert refnet.conforms
    kinds = {"certified" if "certified" in v.name else "free" if "free" in v.name else "step" for v in refnet.verdicts}
    assert kinds == {"certified", "free", "step"}
    assert {v.verdict for v in refnet.verdicts} <= {"exact", "rounding"}
    assert mine.comparison.same_bits == mine.comparison.tensors == 9
    assert refnet.notes == ()


def test_a_training_with_one_wrong_update(short_training, short_vectors):
    def slip(answer, record):
        if record.iterations > 1:
            answer["param.2.bias"][7:] += 1e-6
        return answer

    (found,) = judge_case(short_training, "full", "float64", [Mine(slip)], short_vectors)
    failing = {v.name: v.reason for v in found.verdicts if v.verdict == "FAIL"}
    assert "first update 7, [0]" in failing["update.2.bias"]
    assert not any(name.startswith("certified") for name in failing)


def test_a_training_by_a_factor_and_one_that_leaves_out_a_parameter(short_training, short_vectors):
    def of_other_rate(rate):
        def train(answer, record):
            args = {**record.optimizer.args, "lr": rate * record.optimizer.args["lr"]}
            return RefnetEngine().train(replace(record, optimizer=Spec("SGD", args)))

        return Mine(train)

    def frozen(answer, record):
        answer["param.0.bias"][1:] = answer["param.0.bias"][0]
        return answer

    scaled, still = (
        judge_case(short_training, "full", "float64", [e], short_vectors)[0] for e in (of_other_rate(3.0), Mine(frozen))
    )
    names = "update.0.weight, update.0.bias, update.2.weight, update.2.bias"
    assert scaled.diagnosis == (f"a constant factor: 3, the number of batches times the truth in {names}",)
    assert "zero: 0 in every element in update.0.bias" in still.diagnosis


def test_a_training_whose_single_updates_are_wrong(short_training, short_vectors):
    """An engine that is right in a run and wrong where it starts from given weights."""

    def slip(answer, record):
        if record.iterations == 1:
            answer["param.2.bias"][1] += 1e-6
        return answer

    (found,) = judge_case(short_training, "full", "float64", [Mine(slip)], short_vectors)
    assert [v.name for v in found.verdicts if v.verdict == "FAIL"] == ["certified update.2.bias"]


def test_a_training_that_cannot_start_in_the_middle(short_training, short_vectors):
    def from_the_start(answer, record):
        if record.state:
            raise Unsupported("a given state")
        return answer

    (found,) = judge_case(short_training, "full", "float64", [Mine(from_the_start)], short_vectors)
    assert found.verdict == "rounding"
    assert found.notes == ("certified updates: not judged, unsupported: a given state",)
    assert not any(v.name.startswith("certified") for v in found.verdicts)


def test_a_training_of_another_shape_is_one_failure(short_training, short_vectors):
    def half(answer, record):
        return {name: t[: len(t) // 2] for name, t in answer.items()}

    (found,) = judge_case(short_training, "full", "float64", [Mine(half)], short_vectors)
    assert [v.name for v in found.verdicts] == ["run"]


def test_a_training_with_a_known_mistake_is_diagnosed(short_training, short_vectors):
    from parity.families.listing import FAULTS

    (fault,) = (f for f in FAULTS if f.name == "gradients not cleared")
    (found,) = judge_case(short_training, "full", "float64", [FaultyEngine(fault)], short_vectors)
    assert found.verdict == "FAIL"
    assert any(d.startswith(fault.name) for d in found.diagnosis)


def test_a_free_run_is_not_judged_by_the_budget_of_another_arithmetic(short_training, short_vectors):
    profile = Profile.of("float32", product="tf32")
    (found,) = judge_case(short_training, "full", "float32", [Mine(profile=profile)], short_vectors)
    assert found.conforms
    assert not any(v.name.startswith("free") for v in found.verdicts)
    assert found.notes == ("free run: not judged, its budget is that of plain float32",)


# ---- truth


def test_without_a_certified_answer(tmp_path):
    with pytest.raises(UsageError, match=r"MANIFEST\.json: expected a readable file"):
        result(Mine(), folder=tmp_path)


def test_a_case_that_rounding_leaves_undecided(monkeypatch):
    linear = Spec("Linear", {"in_features": 2, "out_features": 1, "bias": False})
    record = VJP(
        Spec("Sequential", layers=(linear, Spec("ReLU"))),
        {"0.weight": np.array([[0.1, -0.3]])},
        (np.array([[3.0, 1.0]]),),
        (np.ones((1, 1)),),
    )
    monkeypatch.setattr(type(LINEAR), "record", lambda self, family, dtype: record)
    truths = {
        "output": Truth.of([[0.0]]),
        "grad_input": Truth.of([[0.0, 0.0]]),
        "grad.0.weight": Truth.of([[0.0, 0.0]]),
    }
    monkeypatch.setattr(catalogue_answers, "truths", lambda *at: truths)

    def undecided(*_, **__):
        raise Undecided("np.greater: expected values further apart than their bounds, got 1 of 1 elements closer")

    monkeypatch.setattr(Budget, "FUNCTIONS", {**Budget.FUNCTIONS, np.where: undecided})
    found = result(RefnetEngine())
    assert (found.verdict, found.conforms) == ("undecided", False)
    assert "expected values further apart than their bounds" in found.verdicts[0].reason
    # Rounding excuses no answer that is none.
    right = RefnetEngine().vjp(record)
    for wrong in (
        {},
        {**right, "output": right["output"][0]},
        {**right, "grad_input": right["grad_input"].astype(np.float32)},
        {**right, "grad.0.weight": np.full((1, 2), math.nan)},
        {**right, "grad.0.bias": np.zeros(1)},
    ):
        assert result(Mine(lambda answer, record, wrong=wrong: wrong)).verdict == "FAIL"


def test_judging_needs_neither_flint_nor_mpmath():
    """A normal run reads what is certified; the packages that certify need not be there."""
    code = (
        "import sys; sys.modules['flint'] = sys.modules['mpmath'] = None\n"
        "from parity.run.judging import judge_case\nfrom parity.families.listing import select\n"
        "from parity.engines.loading import load\n"
        "(case,) = select('Linear/batch 3')\n"
        "print(judge_case(case, 'full', 'float64', [load('refnet')])[0].verdict)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "rounding\n"
