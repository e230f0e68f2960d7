"""Two processes of torch's DistributedDataParallel, for real, against the same batch in one."""

import numpy as np
import pytest

import parity
from parity.updating import AVERAGE

torch = pytest.importorskip("torch")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.skipif(
        not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
        reason="this torch is built without gloo, by which processes on one machine are joined",
    ),
]

LIMIT = 300.0


def network(dtype=torch.float64):
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).to(dtype)


def batch(dtype=torch.float64, n=8):
    rng = np.random.default_rng(0)
    return tuple(torch.tensor(rng.standard_normal((n, width))).to(dtype) for width in (3, 2))


def test_even_shares_of_a_mean_have_the_gradient_of_the_batch():
    report = parity.check_data_parallel(network(), torch.nn.MSELoss(), *batch(), timeout=LIMIT)
    assert report.ok, report
    assert {v.verdict for v in report.verdicts} <= {"exact", "rounding"}
    assert [v.name for v in report.verdicts] == [
        f"grad.network.{k}.{what}" for k in (0, 2) for what in ("weight", "bias")
    ]
    assert "the gradient of the whole batch in one process" in str(report)


def test_uneven_shares_of_a_mean_weigh_their_samples_unequally_and_that_is_named():
    x, t = batch(torch.float32)
    report = parity.check_data_parallel(network(torch.float32), torch.nn.MSELoss(), x, t, shards=(5, 3), timeout=LIMIT)
    assert report.ok, report
    assert {(v.verdict, v.formula) for v in report.verdicts} == {("convention", AVERAGE)}
    assert "weighs a sample of a smaller share more" in str(report)


@pytest.mark.parametrize("shards", [1, 9, (5, 2), (8, 0), (4, -1, 5)])
def test_shares_that_are_none_are_refused(shards):
    with pytest.raises(parity.UsageError, match="expected shares of at least two processes"):
        parity.check_data_parallel(network(), torch.nn.MSELoss(), *batch(), shards=shards)


def test_a_wrong_gradient_is_no_convention():
    """Seeded mistake: the gradients of the processes added up, and not divided."""
    from dataclasses import replace

    from parity import updating
    from parity.engines.refnet import RefnetEngine
    from parity.records.record import VJP, Spec

    rng = np.random.default_rng(1)
    spec = Spec("Objective", layers=(Spec("Linear", {"in_features": 2, "out_features": 1}), Spec("MSELoss")))
    arrays = {"network.weight": rng.standard_normal((1, 2)), "network.bias": rng.standard_normal(1)}
    whole = VJP(spec, arrays, (rng.standard_normal((4, 2)), rng.standard_normal((4, 1))), (np.ones(()),))
    parts = [replace(whole, inputs=tuple(a[own] for a in whole.inputs)) for own in (slice(0, 3), slice(3, 4))]
    each = [RefnetEngine().vjp(part) for part in parts]
    added = {name: sum(a[name] for a in each) for name in each[0] if name.startswith("grad.")}
    right = {name: g / 2 for name, g in added.items()}
    assert updating._report("right", whole, parts, [right, right]).ok
    wrong = updating._report("wrong", whole, parts, [added, added])
    assert [v.verdict for v in wrong.verdicts] == ["FAIL", "FAIL"]
    apart = updating._report("apart", whole, parts, [right, added])
    assert [v.reason for v in apart.verdicts if not v.ok] == ["expected the bits of process 0, got others"] * 2
