"""Vectors for others, and answers from others."""

import hashlib
import json
import re
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from safetensors.numpy import load_file

from parity.engines.refnet import RefnetEngine
from parity.families.listing import catalogue, select
from parity.records.encoding import (
    Malformed,
    decode_array,
    encode_array,
    encode_record,
    hexadecimal,
    loads,
)
from parity.records.record import UsageError
from parity.run import exporting, judging_answers
from parity.run.judging import judge_case
from parity.vectors import exchange

BY_NAME = {case.name: case for case in catalogue()}
NAMES = (
    "Linear/batch 3",
    "ReLU/at the kink, both zeros",
    "ReLU/gradient transposed",
    "Sigmoid/extreme",
    next(case.name for case in catalogue() if case.name.startswith("PerSample/")),
    next(case.name for case in catalogue() if case.name.startswith("SGD/")),
    "Training/batch",
)


def floats(items):
    return np.array([float.fromhex(v) for v in items])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("vectors") / "out"
    cases = [BY_NAME[name] for name in NAMES]
    groups = {}
    for case in cases:
        documents = [exporting.document(case, family, "float64") for family in case.families]
        groups.setdefault(case.name.split("/")[0].lower(), []).extend(documents)
    exchange.export(place, groups)
    return place


@pytest.fixture(scope="module")
def entries(folder):
    found = {}
    for file in json.loads((folder / "manifest.json").read_text())["records"].values():
        for entry in json.loads((folder / file).read_text())["records"]:
            found[entry["case"], entry["family"], entry["dtype"]] = entry
    return found


def answer_of(case, family, dtype):
    """refnet's, as a stranger would write it."""
    record = case.record(family, dtype)
    kind = encode_record(record)["kind"]
    return {name: encode_array(a) for name, a in getattr(RefnetEngine(), kind)(record).items()}


def answers(*entries, **more):
    return {"format": "parity-answers", "version": 1, "engine": "a stranger", "answers": list(entries), **more}


def entry(name, family="full", dtype="float64", **more):
    return {"case": name, "family": family, "dtype": dtype, **more}


@pytest.fixture
def judged(tmp_path):
    def of(document):
        file = tmp_path / "answers.json"
        file.write_text(document if isinstance(document, str) else json.dumps(document))
        return judging_answers.judge(file, 1, lambda n: None, lambda: None)

    return of


# ---- export


def test_every_file_fits_its_schema_and_its_sum(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["format"], manifest["version"]) == ("parity-vectors", 1)
    assert set(manifest["files"]) == {p.name for p in folder.iterdir()} - {"manifest.json"}
    for name, of in manifest["files"].items():
        content = (folder / name).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (of["sha256"], of["bytes"])
    validator = jsonschema.Draft202012Validator(json.loads((folder / "vectors.schema.json").read_text()))
    for name in set(manifest["records"].values()):
        validator.validate(json.loads((folder / name).read_text()))


def test_the_schema_is_held_by_every_kind(entries):
    """It refuses what is left out or spelled otherwise: it is no schema that anything passes."""
    validator = jsonschema.Draft202012Validator(exchange.schema("vectors.schema.json"))
    one = next(iter(entries.values()))
    good = {"format": "parity-vectors", "version": 1, "records": [one]}
    assert validator.is_valid(good)
    for name in one:
        assert not validator.is_valid({**good, "records": [{k: v for k, v in one.items() if k != name}]}), name
    assert not validator.is_valid({**good, "version": 2})
    assert not validator.is_valid({**good, "records": [{**one, "flag": []}]})


def test_a_stranger_gets_the_same_numbers(entries):
    for (name, family, dtype), found in entries.items():
        record = BY_NAME[name].record(family, dtype)
        if found["record"]["kind"] != "vjp":
            continue
        for x, own in zip(found["record"]["inputs"], record.inputs, strict=True):
            assert np.array_equal(floats(x["hex"]).reshape(x["shape"]), own)
            assert [float(v) for v in x["decimal"]] == own.ravel().tolist()


def test_the_right_answer_lies_within_the_exported_budgets(entries):
    """As a reader that was written from the page alone would judge."""
    for (name, family, dtype), found in entries.items():
        record = BY_NAME[name].record(family, dtype)
        if found["record"]["kind"] == "train":
            continue
        answer = getattr(RefnetEngine(), found["record"]["kind"])(record)
        assert answer.keys() == found["tensors"].keys()
        for tensor, of in found["tensors"].items():
            got = answer[tensor].astype(np.float64).ravel()
            hi, lo = floats(of["hi"]), floats(of["lo"])
            with np.errstate(invalid="ignore"):
                error = abs((got - hi) - lo)
            assert (error <= floats(of["budget"])).all(), (name, tensor)
            assert list(answer[tensor].shape) == of["shape"]
            assert str(answer[tensor].dtype) == of["dtype"]
            assert [float(v) for v in of["decimal"]] == hi.tolist()


def test_flags_say_what_a_record_reveals(entries):
    kink = entries["ReLU/at the kink, both zeros", "grid", "float64"]
    assert "a zero among the inputs" in kink["flags"]
    assert "negative zero" in kink["flags"]
    assert any(flag.startswith("convention: ") for flag in kink["flags"])
    moderate = entries["ReLU/gradient transposed", "grid", "float64"]
    assert moderate["layouts"] == {"grad_outputs.0": "transposed"}
    assert "upstream gradient read as stored" in moderate["mistakes"]
    assert not any(flag.startswith("convention: ") for flag in moderate["flags"])
    extreme = entries["Sigmoid/extreme", "full", "float64"]
    assert any(flag.startswith("unstable: ") for flag in extreme["flags"])
    plain = entries["Linear/batch 3", "full", "float64"]
    assert not any(flag.startswith("unstable: ") for flag in plain["flags"])
    assert "bias gradient averaged" in plain["mistakes"]


def test_a_training_has_its_single_updates(entries):
    found = entries["Training/batch", "full", "float64"]
    assert found["updates"] == [1, 2, 10, 20]
    for of in found["single_updates"].values():
        assert set(of["tensors"]) >= {"loss", "update.0.weight"}
        assert len(of["record"]["batches"]) == 1


def test_large_arrays_lie_in_safetensors(tmp_path):
    large = np.arange(2_000, dtype=np.float32).reshape(2, 1_000)
    one = encode_array(large, largest=exchange.LARGEST)
    record = {"case": "A/b", "family": "full", "dtype": "float32", "record": {"inputs": [one]}}
    exchange.export(tmp_path / "out", {"a": [record]})
    document = json.loads((tmp_path / "out" / "a.json").read_text())
    where = document["records"][0]["record"]["inputs"][0]["tensor"]
    assert where == {"file": "a.safetensors", "name": "A/b, full, float32/record/inputs/0/tensor"}
    assert np.array_equal(load_file(tmp_path / "out" / where["file"])[where["name"]], large)


def test_a_place_that_takes_no_folder_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="expected a place in a folder that exists and is writable, got: Not a"):
        exchange.check_folder(tmp_path / "file" / "vectors")
    exchange.check_folder(tmp_path / "vectors")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_is_not_empty_stays_as_it_is(tmp_path):
    (tmp_path / "mine").write_text("x")
    with pytest.raises(UsageError, match="expected a folder that is empty or not there yet"):
        exchange.export(tmp_path, {})
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_the_page_names_every_member():
    """docs/vectors.md says what each name in the schemas means."""
    page = (Path(__file__).parents[3] / "docs" / "vectors.md").read_text(encoding="utf-8")

    def names(schema):
        if isinstance(schema, dict):
            for key, value in schema.items():
                if key == "properties":
                    yield from value
                yield from names(value)
        elif isinstance(schema, list):
            for value in schema:
                yield from names(value)

    for name in exchange.SCHEMAS:
        missing = {n for n in names(exchange.schema(name)) if not re.search(rf"[`\"]{n}[`\"]", page)}
        assert missing == set()


# ---- judge


def test_right_answers_conform(judged):
    names = ("Linear/batch 3", "ReLU/at the kink, both zeros", NAMES[5])
    document = answers(
        *(
            entry(name, family, answer=answer_of(BY_NAME[name], family, "float64"))
            for name in names
            for family in BY_NAME[name].families
        )
    )
    jsonschema.Draft202012Validator(exchange.schema("answers.schema.json")).validate(document)
    results = judged(document)
    assert results.engines == ("a stranger",)
    assert results.conforms
    # The verdicts are those on the engine itself.
    (own,) = judge_case(BY_NAME["Linear/batch 3"], "full", "float64", [RefnetEngine()])
    mine = next(r for r in results.cases if r.case == "Linear/batch 3" and r.family == "full")
    assert mine.verdicts == own.verdicts


def test_a_wrong_answer_fails_with_its_diagnosis(judged):
    answer = answer_of(BY_NAME["Linear/batch 3"], "full", "float64")
    answer["grad.bias"]["hex"] = [hexadecimal(float.fromhex(v) / 3) for v in answer["grad.bias"]["hex"]]
    (result,) = judged(answers(entry("Linear/batch 3", answer=answer))).cases
    assert {v.name: v.verdict for v in result.verdicts}["grad.bias"] == "FAIL"
    assert any("averaged" in d for d in result.diagnosis)


def test_parts_are_judged_where_all_are_answered(judged):
    case = BY_NAME[NAMES[4]]
    split = case.split("full", "float64")
    own = answer_of(case, "full", "float64")
    further = {
        str(k): {name: encode_array(a) for name, a in RefnetEngine().vjp(part).items()}
        for k, part in enumerate(split.parts)
    }
    (result,) = judged(answers(entry(case.name, answer=own, further=further))).cases
    assert any(v.name.startswith("part 0 ") for v in result.verdicts)
    assert result.conforms
    (result,) = judged(answers(entry(case.name, answer=own))).cases
    assert result.notes[0] == "parts: not judged, the file does not answer all of them"


def test_a_malformed_answer_costs_its_record_alone(judged):
    good = answer_of(BY_NAME["Linear/batch 3"], "grid", "float64")
    results = judged(
        answers(
            entry("Linear/batch 3", "grid", answer=good),
            entry("Linear/batch 3", answer={**good, "output": {"dtype": "float64", "shape": [2]}}),
            entry("Linear/batch 3", "grid", "float32", unsupported="no float32"),
        )
    )
    assert [r.verdict for r in results.cases] == ["exact", "FAIL", "unsupported"]
    assert (
        results.cases[1].verdicts[0].reason == "answer: output: expected elements as hex, base64 or decimal, got none"
    )


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ("", "expected JSON, got nothing: it is empty"),
        ("[" * 100_000, "expected JSON, got: "),
        ('{"format": "parity-answers", "format": 1}', "expected each name once, got format twice"),
        ("{}", "the file: expected format (str), got nothing"),
        ({"format": "other"}, "expected the format parity-answers, got other"),
        ({"format": "parity-answers", "version": 2}, "expected version 1 of the format parity-answers, got 2"),
        (answers(), "expected 1 to 100,000 answers, got 0"),
        (answers(entry("Linear/batch 3"), entry("Linear/batch 3")), "answer 1: expected each record once, got Linear"),
        (answers(entry("Lineer")), "answer 0: expected a case's whole name (parity run --list), got Lineer"),
        (answers(entry("Linear/batch 3", dtype="int8")), "grid or full in float64 or float32, got full in int8"),
        (answers(entry("Linear/batch 3"), profiles={"float64": {"accumulator": "x87"}}), "expected formats among"),
        (answers(7), "answer 0: expected an object, got int"),
    ],
)
def test_files_that_are_none(judged, document, says):
    with pytest.raises(UsageError) as caught:
        judged(document)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


# ---- arrays


@pytest.mark.parametrize("encoding", ["hex", "base64", "decimal"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "bool"])
def test_an_array_and_back(encoding, dtype):
    values = [1.5, -0.0, 0.1, 5e-324, np.inf, -np.inf, np.nan, 3.4e38] if dtype.startswith("float") else [0, 1, 1, 0]
    with np.errstate(over="ignore", under="ignore"):
        array = np.array(values).astype(dtype).reshape(2, -1).T
    document = loads(json.dumps(encode_array(array, "hex" if encoding == "decimal" else encoding, decimals=True)))
    if encoding == "decimal" and dtype.startswith("float"):
        del document["hex"]
    back = decode_array(document, "it", 100)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == np.ascontiguousarray(array).tobytes()


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"shape": [1], "hex": ["0x0p+0"]}, "expected dtype"),
        ({"dtype": "complex64", "shape": [1], "hex": []}, "expected a dtype among"),
        ({"dtype": "float64", "shape": [-1], "hex": []}, "expected a shape"),
        ({"dtype": "float64", "shape": [True], "hex": ["0x0p+0"]}, "expected a shape"),
        ({"dtype": "float64", "shape": [10, 11], "hex": []}, "expected at most 100 elements"),
        ({"dtype": "float64", "shape": [1] * 17, "hex": ["0x0p+0"]}, "expected a shape of at most 16"),
        ({"dtype": "float64", "shape": [2], "hex": ["0x1p+0"]}, "expected 2 elements, got 1"),
        ({"dtype": "float64", "shape": [1], "hex": ["1.5"]}, "expected a number such as"),
        ({"dtype": "float64", "shape": [1], "hex": [1.5]}, "expected a number such as"),
        ({"dtype": "float64", "shape": [1], "hex": ["0x1p+99999"]}, "expected a number of float64"),
        ({"dtype": "float32", "shape": [1], "hex": ["0x1.0000000001p+0"]}, "expected numbers of float32"),
        ({"dtype": "float32", "shape": [1], "hex": ["0x1p+200"]}, "expected numbers of float32"),
        ({"dtype": "int64", "shape": [1], "hex": [2**63]}, "expected an integer of int64"),
        ({"dtype": "bool", "shape": [1], "hex": [2]}, "expected an integer of bool"),
        ({"dtype": "float64", "shape": [1], "base64": "AAAA"}, "expected 8 bytes in base64, got 3"),
        ({"dtype": "float64", "shape": [1], "base64": "!" * 12}, "expected base64"),
        ({"dtype": "float64", "shape": [1], "base64": "A" * 1_000}, "expected 8 bytes in base64, got 1000 char"),
        ({"dtype": "bool", "shape": [1], "base64": "Ag=="}, "expected bytes 0 or 1"),
    ],
)
def test_arrays_that_are_none(document, says):
    with pytest.raises(Malformed, match=re.escape(says)):
        decode_array(document, "it", 100)


def test_the_catalogue_can_be_written_down():
    """Every argument of every specification has a form in JSON."""
    for case in select(""):
        record = case.record(case.families[0], "float64")
        document = encode_record(record)
        assert loads(json.dumps(document, allow_nan=False)) == json.loads(json.dumps(document))
