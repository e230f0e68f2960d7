"""scikit-learn's multilayer perceptron.

With squared errors its outputs are linear, and its gradient is that of half the squares' sum over the samples, so
that the rate is multiplied by 2 / outputs to make the same step.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

from benchmarks.speed import initial_state
from benchmarks.speed.contenders import Training, Unsupported
from benchmarks.speed.networks import RATE, Linear, Network, ReLU


def mlp(network: Network) -> Training:
    if network.loss != "mse":
        raise Unsupported("no convolutions")
    if any(isinstance(layer, ReLU) for layer in network.layers):
        raise Unsupported("no rectifier after the last layer")
    places = [place for place, layer in enumerate(network.layers) if isinstance(layer, Linear)]
    hidden = [layer.outputs for layer in network.layers if isinstance(layer, Linear)][:-1]
    X, T = initial_state.data(network)
    model = MLPRegressor(
        hidden_layer_sizes=hidden,
        activation="logistic",
        solver="sgd",
        alpha=0,
        batch_size=network.batch,
        learning_rate_init=RATE * 2 / network.outputs,
        momentum=0,
        nesterovs_momentum=False,
        shuffle=False,
        max_iter=1,
        tol=0,
        n_iter_no_change=math.inf,
        warm_start=True,
    )

    def fit(steps: int) -> None:
        model.max_iter = steps
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(X, T)

    fit(1)  # makes the arrays; the start is copied into them
    weights = initial_state.start(network)
    for k, place in enumerate(places):
        model.coefs_[k][...] = weights[f"{place}.weight"][0].T
        model.intercepts_[k][...] = weights[f"{place}.bias"][0]

    def run(steps: int) -> Any:
        fit(steps)
        return 2 * model.loss_

    def present() -> dict[str, Any]:
        found = {}
        for k, place in enumerate(places):
            found[f"{place}.weight"] = model.coefs_[k].T.copy()
            found[f"{place}.bias"] = model.intercepts_[k].copy()
        return found

    return Training(run, present)
