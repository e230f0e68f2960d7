"""InstanceNorm1d, 2d and 3d against torch's: three steps with running statistics, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from refnet import nn

KINDS = {"InstanceNorm1d": (5,), "InstanceNorm2d": (2, 3), "InstanceNorm3d": (2, 1, 3)}
EVERYTHING = {"affine": True, "track_running_stats": True}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"momentum": 0.75, "bias": False}, {"momentum": None}], ids=str)
def test_three_steps_and_evaluation(kind: str, options: dict[str, Any]) -> None:
    rng = np.random.default_rng(1)
    ours = getattr(nn, kind)(3, **EVERYTHING, **options)
    theirs = getattr(torch.nn, kind)(3, dtype=torch.float64, **EVERYTHING, **options)
    for name, P in theirs.named_parameters():
        ours.params[name][...] = rng.normal(size=3)
        P.data = torch.tensor(ours.params[name])
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for batch in (4, 1, 2, 0):
        if batch == 0:
            ours.eval()
            theirs.eval()
        # the last input has no sample axis
        shape = (batch, 3, *KINDS[kind])[0 if batch else 1 :]
        X, dY = rng.normal(size=shape), rng.normal(size=shape)
        Y, saved = ours.forward(X)
        dX, grads = ours.backward(dY, saved)
        x = torch.tensor(X, requires_grad=True)
        theirs.zero_grad()
        y = theirs(x)
        y.backward(torch.tensor(dY))
        np.testing.assert_allclose(Y, y.detach().numpy(), rtol=1e-12, atol=1e-12)
        assert x.grad is not None
        np.testing.assert_allclose(dX, x.grad.numpy(), rtol=1e-11, atol=1e-11)
        for name, P in theirs.named_parameters():
            assert P.grad is not None
            np.testing.assert_allclose(grads[name], P.grad.numpy(), rtol=1e-11, atol=1e-11)
        for name, buffer in theirs.named_buffers():
            np.testing.assert_allclose(ours.buffers[name], buffer.numpy(), rtol=1e-13)


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 3, 0)], ids=str)
def test_what_is_empty_moves_no_statistics(shape: tuple[int, ...]) -> None:
    """torch raises an IndexError of an empty batch here."""
    layer = nn.InstanceNorm1d(3, **EVERYTHING)  # type: ignore[arg-type]
    Y, saved = layer.forward(np.zeros(shape))
    dX, grads = layer.backward(Y, saved)
    assert Y.shape == dX.shape == shape
    assert all(not G.any() and G.shape == (3,) for G in grads.values())
    assert layer.buffers["running_mean"].tolist() == [0.0] * 3
    assert layer.buffers["running_var"].tolist() == [1.0] * 3


REFUSED = {
    "axes": ("InstanceNorm2d", EVERYTHING, (2, 3), r"expected input of shape \(N, 3, H, W\) or \(3, H, W\), .* got"),
    "channels": ("InstanceNorm1d", EVERYTHING, (2, 4, 5), r"expected input of shape \(N, 3, L\) or \(3, L\), .* got"),
    "channels without a sample axis": ("InstanceNorm1d", EVERYTHING, (2, 5), r"expected input of shape .* \(2, 5\)"),
    "one place": ("InstanceNorm2d", {}, (4, 3, 1, 1), r"expected more than 1 element of a channel .* \(4, 3, 1, 1\)"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_torch_refuses_is_refused(what: str) -> None:
    kind, options, shape, message = REFUSED[what]
    with pytest.raises(ValueError, match=r".+"):
        getattr(torch.nn, kind)(3, **options)(torch.zeros(shape))
    with pytest.raises(ValueError, match=f"^{kind}: {message}"):
        getattr(nn, kind)(3, **options).forward(np.zeros(shape))


def test_other_channels_are_taken_with_a_warning_where_nothing_depends_on_them() -> None:
    with pytest.warns(UserWarning, match="num_features"):
        torch.nn.InstanceNorm1d(3)(torch.zeros(2, 4, 5))
    with pytest.warns(UserWarning, match="InstanceNorm1d: expected 3 channels, num_features, .* got 4"):
        assert nn.InstanceNorm1d(3).forward(np.zeros((2, 4, 5)))[0].shape == (2, 4, 5)


@pytest.mark.parametrize("eps", [-1e-5, 0.0])
def test_an_eps_that_is_not_positive_is_refused(eps: float) -> None:
    with pytest.raises(ValueError, match="InstanceNorm1d: expected eps > 0 with statistics of the instances, got"):
        nn.InstanceNorm1d(3, eps=eps).forward(np.zeros((2, 3, 5)))
