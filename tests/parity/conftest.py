import sys
from pathlib import Path

import pytest

from parity.families.case import Draw, TrainCase, indices
from parity.records.record import Spec
from parity.run.certifying import certify
from parity.vectors import catalogue_answers

sys.path.append(str(Path(__file__).parent / "importable"))
pytest.register_assert_rewrite("mistakes_made")

NETWORK = Spec(
    "Sequential",
    layers=(
        Spec("Linear", {"in_features": 2, "out_features": 3}),
        Spec("Tanh"),
        Spec("Linear", {"in_features": 3, "out_features": 2}),
    ),
)


@pytest.fixture(scope="session")
def short_training():
    """A training of twelve updates with momentum, every third batch short."""
    return TrainCase(
        "Short/momentum, the last batch short",
        NETWORK,
        Spec("CrossEntropyLoss"),
        Spec("SGD", {"lr": 0.25, "momentum": 0.5}),
        Draw((5, 2)),
        indices((5,), 0, 1, 1, 0, 1),
        {"0.weight": Draw((3, 2)), "0.bias": Draw((3,)), "2.weight": Draw((2, 3)), "2.bias": Draw((2,))},
        batch_size=2,
        iterations=12,
        certified=(1, 2, 6),
    )


@pytest.fixture(scope="session")
def short_vectors(short_training, tmp_path_factory):
    """A folder with the certified answers to it."""
    pytest.importorskip("flint")
    folder = tmp_path_factory.mktemp("vectors")
    answers = {}
    for dtype in ("float64", "float32"):
        record = short_training.record("full", dtype)
        answers[catalogue_answers.key(record)] = certify(short_training, "full", dtype)
    catalogue_answers.write(catalogue_answers.file_name(short_training), answers, folder)
    return folder
