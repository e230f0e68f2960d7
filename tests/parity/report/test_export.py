"""Reports for machines: valid, complete, and no more exact than they say."""

import json
import math
import xml.etree.ElementTree as ET
from dataclasses import replace

import jsonschema
import pytest

from parity.report import export
from parity.run.results import CaseResult, Results
from parity.verdict.table import VERDICTS
from parity.verdict.tensor import TensorVerdict

NUMBER = {"anyOf": [{"type": "number"}, {"enum": ["inf", "-inf"]}]}
COUNT = {"type": "integer", "minimum": 0}


def thing(**properties):
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


COMPARISON = {"anyOf": [{"type": "null"}, thing(tensors=COUNT, same_bits=COUNT, due=COUNT, identical=COUNT)]}
TEXTS = {"type": "array", "items": {"type": "string"}}
TENSOR = thing(
    name={"type": "string"},
    verdict={"enum": list(VERDICTS)},
    formula={"type": "string"},
    digits=NUMBER,
    ulps=NUMBER,
    share=NUMBER,
    where={"type": "array", "items": COUNT},
    detection_limit=NUMBER,
    blind_share={"type": "number", "minimum": 0, "maximum": 1},
    reason={"type": "string"},
    coverage={"type": "string"},
)
CASE = thing(
    case={"type": "string"},
    family={"enum": ["grid", "full"]},
    dtype={"enum": ["float64", "float32"]},
    engine={"type": "string"},
    verdicts={"type": "array", "items": TENSOR},
    unsupported={"type": "string"},
    comparison=COMPARISON,
    diagnosis=TEXTS,
    notes=TEXTS,
    seconds={"type": "number"},
    traceback={"type": "string"},
    profile={"type": "string"},
    finding={"type": "string"},
    large={"type": "boolean"},
    bits={"type": "object", "additionalProperties": {"type": "string"}},
    command={"type": "string"},
    verdict={"enum": list(VERDICTS)},
)
ENGINE = thing(
    engine={"type": "string"},
    cases=COUNT,
    records=COUNT,
    classes=COUNT,
    judged=COUNT,
    classes_judged=COUNT,
    tensors=COUNT,
    sampled=COUNT,
    failed=COUNT,
    unsupported=COUNT,
    reasons={"type": "object", "additionalProperties": COUNT},
    findings={"type": "object", "additionalProperties": COUNT},
    unseen=TEXTS,
    verdicts={"type": "object", "additionalProperties": COUNT},
    formulas={"type": "object", "additionalProperties": COUNT},
    largest_share=NUMBER,
    largest_share_at={"type": "string"},
    weaker_share=NUMBER,
    weaker_share_at={"type": "string"},
    comparison=COMPARISON,
    conforms={"type": "boolean"},
)
SCHEMA = thing(
    format={"const": "refnet-results"},
    version={"const": 1},
    conforms={"type": "boolean"},
    seconds={"type": "number"},
    environment={"type": "object", "additionalProperties": {"type": "string"}},
    engines={"type": "object", "additionalProperties": ENGINE},
    cases={"type": "array", "items": CASE},
)


def refuse(constant):
    raise ValueError(f"{constant} is no JSON")


def parsed(results):
    return json.loads(export.to_json(results), parse_constant=refuse)


def test_json_is_complete(results):
    document = parsed(results)
    jsonschema.validate(document, SCHEMA)
    assert not document["conforms"]
    assert list(document["engines"]) == ["refnet", "torch", "mine:Engine"]
    assert [e["conforms"] for e in document["engines"].values()] == [True, True, False]
    assert [c["verdict"] for c in document["cases"]] == [case.verdict for case in results.cases]
    failing = document["cases"][2]["verdicts"][1]
    assert (failing["name"], failing["verdict"], failing["where"]) == ("grad.weight", "FAIL", [1, 2])
    assert "expected 0.25" in failing["reason"]
    assert document["cases"][2]["diagnosis"] == ["zero: 0"]
    assert document["cases"][5]["verdicts"][0]["share"] == "inf"
    assert document["cases"][8]["unsupported"] == "no optimize"
    assert document["environment"] == {"python": "3.11.0"}
    assert document["seconds"] == 12.346


def test_json_keeps_every_bit_of_a_figure(results):
    third = replace(results.cases[0], verdicts=(TensorVerdict("t", "rounding", share=1 / 3, digits=-math.inf),))
    document = parsed(Results(("refnet",), (third,), 0.0))
    assert document["cases"][0]["verdicts"][0]["share"] == 1 / 3
    assert document["cases"][0]["verdicts"][0]["digits"] == "-inf"


def test_json_of_nothing():
    document = parsed(Results(("refnet",), (), 0.0))
    jsonschema.validate(document, SCHEMA)
    assert not document["conforms"]


def test_junit_is_what_a_reader_of_junit_expects(results):
    suites = ET.fromstring(export.to_junit(results))
    assert (suites.tag, suites.get("name")) == ("testsuites", "parity")
    assert (suites.get("tests"), suites.get("failures"), suites.get("skipped")) == ("9", "2", "1")
    assert [suite.get("name") for suite in suites] == ["refnet", "torch", "mine:Engine"]
    first, failing, raised, skipped = suites[0][0], *suites[2]
    assert first.get("name") == "Linear/batch 3 (grid, float64)"
    assert first.get("classname") == "parity.refnet.Linear"
    assert float(first.get("time")) == 0.25
    assert list(first) == []
    message = failing.find("failure").get("message")
    assert message.startswith("grad.weight: 1 of 6 elements outside their budget, first [1, 2]: expected 0.25")
    assert message.endswith("; consistent with: zero: 0")
    assert raised.find("failure").get("message") == "answer: raised ValueError: [bold]no[/bold] & <no>"
    assert raised.find("failure").text == (
        'Traceback:\n  File "mine.py", line 7, in vjp\nValueError: [bold]no[/bold] & <no>\n'
        "this record alone: parity run --case "
        "'BatchNorm1d/mean 1000, in a rather long name, evaluation' --family full --dtype float32 --engine mine:Engine"
    )
    assert skipped.find("skipped").get("message") == "unsupported: no optimize"


@pytest.mark.parametrize("write", [export.to_json, export.to_junit])
def test_the_same_results_give_the_same_text(results, write):
    assert write(results) == write(results)


def test_letters_of_every_kind(results):
    odd = CaseResult("Linear/ä <&> \"'", "grid", "float64", "mine", (TensorVerdict("t", "FAIL", reason="ψ ≠ φ"),))
    document = Results(("mine",), (odd,), 0.0)
    assert parsed(document)["cases"][0]["case"] == odd.case
    suites = ET.fromstring(export.to_junit(document).encode())
    assert suites[0][0].get("name") == f"{odd.case} (grid, float64)"
    assert suites[0][0][0].get("message") == "t: ψ ≠ φ"
