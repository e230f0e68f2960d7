"""What theory says of the runs: how a batch's gradient scatters, how stochastic descent on a line does, and which rates
gradient descent on a line bears.

**The gradient of a batch drawn without replacement.** Of the N samples' gradients g_1, ..., g_N let gbar be the mean
(the full gradient, for losses that are a mean over samples) and sigma^2 = (1/N) sum_i |g_i - gbar|^2. The mean over a
batch of n different samples, every such batch being as likely, has

    E |g_batch - gbar|^2 = (sigma^2 / n) (N - n) / (N - 1)

Source: W. G. Cochran, *Sampling Techniques*, 3rd ed., Wiley 1977, theorem 2.2, summed over the gradient's components.

**Stochastic gradient descent on least squares**, one sample an update, drawn with replacement. With x_i extended by a
1 for the intercept, v = (w, b) and the loss l_i(v) = (x_i . v - y_i)^2, an update on sample i at the rate eta takes
e = v - v*, the distance from the least-squares solution v*, to

    e' = (I - eta A_i) e + eta g_i,    A_i = 2 x_i x_i^T,    g_i = 2 (y_i - x_i . v*) x_i,    sum_i g_i = 0

i does not depend on e. With H = (1/N) sum_i A_i, the Hessian of the cost, mean m and covariance C of e go on by

    m' = (I - eta H) m
    C' = (I - eta H) C (I - eta H) + (eta^2 / N) sum_i ((A_i - H) C (A_i - H) + xi_i xi_i^T),
    xi_i = g_i - (A_i - H) m

The first term of C' is the covariance of the update's mean given e, the rest the mean of its covariance given e. That
is exact for any number of updates and any sequence of rates. C stays bounded at a constant rate if and only if
C -> C - eta (H C + C H) + (eta^2 / N) sum_i A_i C A_i has a spectral radius below 1, that is for rates below 1 / rho,
rho the largest eigenvalue of C -> (H C + C H)^(-1) (1/N) sum_i A_i C A_i. Sources: F. Bach and E. Moulines,
"Non-strongly-convex smooth stochastic approximation with convergence rate O(1/n)", NIPS 2013; A. Défossez and F. Bach,
"Averaged least-mean-squares: bias-variance trade-offs and optimal sampling distributions", AISTATS 2015.

**Gradient descent on least squares**, e' = (I - eta H) e, converges from everywhere if and only if 0 < eta < 2 / L, L
the largest eigenvalue of H: Yu. Nesterov, *Introductory Lectures on Convex Optimization*, Kluwer 2004, section 1.2.3.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

import refnet
from benchmarks.convergence.arms import Arm, Schedule
from benchmarks.convergence.cells import checkpoints, order_options, start
from benchmarks.convergence.problems import Array, Problem, load
from refnet.arithmetic.runs import Runs
from refnet.generator import Generator

ELEMENTS = 2**22
"""The most elements that a layer's output may have when many batches go through a network at once."""

DIGITS = 30


@dataclass(frozen=True)
class GradientVariance:
    """How far the gradient of a batch lies from the full one, squared, in the mean.

    Attributes:
        updates: of the training before it was measured. batch_size, samples: n and N.
        draws: batches drawn. measured: the mean over them. standard_error: its standard error.
        predicted: (sigma^2 / n) (N - n) / (N - 1).
    """

    problem: str
    updates: int
    batch_size: int
    samples: int
    draws: int
    measured: float
    standard_error: float
    predicted: float


@dataclass(frozen=True)
class Moment:
    """Mean and standard deviation of a weight of stochastic gradient descent with replacement, all runs from one start.

    Attributes:
        update: the number of updates done. parameter: "w" or "b".
        exact_mean, exact_sd: from the recursion. mean, sd: over the runs. mean_error, sd_error: their standard errors.
    """

    problem: str
    rate: float
    schedule: str
    update: int
    parameter: str
    exact_mean: float
    exact_sd: float
    runs: int
    mean: float
    mean_error: float
    sd: float
    sd_error: float


@dataclass(frozen=True)
class Stability:
    """Which constant rates descent on a quadratic cost bears.

    Attributes:
        eigenvalue_low, eigenvalue_high: L lies between these; proved. eigenvalue: L, correctly rounded; proved.
        limit_low, limit_high, limit: the same of 2 / L.
        mean_square_limit: the rate from which on the covariance of single-sample descent with replacement grows
            without bound; computed in binary64, not proved.
    """

    problem: str
    eigenvalue_low: float
    eigenvalue_high: float
    eigenvalue: str
    limit_low: float
    limit_high: float
    limit: str
    mean_square_limit: float


@dataclass(frozen=True)
class Surface:
    """A quadratic cost: J(v) = cost + 1/2 (v - v*)^T H (v - v*), v* = (w, b).

    Each figure is within a unit in the last place of the true one; proved.
    """

    problem: str
    w: float
    b: float
    cost: float
    hessian_ww: float
    hessian_wb: float
    hessian_bb: float


def gradient_variance(name: str, *, draws: int = 1_000, trained: int = 1_000, seed: int = 0) -> list[GradientVariance]:
    """The variance of a batch's gradient for n = 1, 2, 4, ..., N, measured and predicted: with the initial weights and
    after `trained` updates by the middle mini-batch at the middle rate of the problem's grid.

    Every gradient, single samples' too, is refnet's own. A draw is the beginning of a new permutation, as an epoch's
    first batch is.

    Raises:
        ValueError: an unknown problem; fewer than 2 draws.
    """
    if draws < 2:
        raise ValueError(f"gradient_variance: expected at least 2 draws, got {draws}")
    problem = load(name)
    net, generator = start(problem, seed)
    rows = _variances(problem, net, draws, generator, 0)
    arm = Arm(problem.batch_sizes[len(problem.batch_sizes) // 2])
    opt = refnet.optim.SGD(net.params, lr=problem.rates[len(problem.rates) // 2])
    refnet.fit(
        *(net, problem.loss(), opt, problem.train_inputs, problem.train_targets),
        **order_options(arm),
        iterations=trained,
        generator=generator,
    )
    return [*rows, *_variances(problem, net, draws, generator, trained)]


def _variances(
    problem: Problem, net: refnet.nn.Module, draws: int, generator: Generator, updates: int
) -> list[GradientVariance]:
    N = len(problem.train_inputs)
    permutations = np.stack([generator.randperm(N) for _ in range(draws)])
    full = batch_gradients(problem, net, np.arange(N)[None])
    sigma2 = _squared_distances(batch_gradients(problem, net, np.arange(N)[:, None]), full).mean()
    rows = []
    for n in (*(2**k for k in range(N.bit_length()) if 2**k < N), N):
        distances = _squared_distances(batch_gradients(problem, net, permutations[:, :n]), full)
        rows.append(
            GradientVariance(
                problem=problem.name,
                updates=updates,
                batch_size=n,
                samples=N,
                draws=draws,
                measured=float(distances.mean()),
                standard_error=float(distances.std(ddof=1) / math.sqrt(draws)),
                predicted=float(sigma2 / n * (N - n) / (N - 1)),
            )
        )
    return rows


def _squared_distances(G: Array, full: Array) -> Array:
    distances: Array = np.square(G - full).sum(axis=-1)
    return distances


def batch_gradients(problem: Problem, net: refnet.nn.Module, batches: Array) -> Array:
    """The gradient of each of R batches of n samples each, (R, n) of indices: (R, p), all p weights in one row."""
    from refnet.train.step import gradients

    R, n = batches.shape
    chunk = max(1, ELEMENTS // (n * max(problem.units)))
    rows = []
    for some in (batches[k : k + chunk] for k in range(0, R, chunk)):
        inputs, targets = Runs(problem.train_inputs[some]), Runs(problem.train_targets[some])
        _, grads = gradients(net, problem.loss(), inputs, targets, Runs(np.ones(len(some))))
        rows.append(np.concatenate([G.a.reshape(len(some), -1) for G in grads.values()], axis=-1))
    return np.concatenate(rows)


def moments(
    name: str = "line",
    *,
    rate: float,
    schedule: Schedule = "constant",
    iterations: int = 10_000,
    runs: int = 400,
    seed: int = 0,
) -> list[Moment]:
    """The moments of w and b at the checkpoints: exact, and over `runs` runs of `refnet.ensemble` from one start.

    Raises:
        ValueError: a problem that is no straight line; fewer than 2 runs.
    """
    problem = _quadratic(name)
    if runs < 2:
        raise ValueError(f"moments: expected at least 2 runs, got {runs}")
    arm = Arm(1, "replacement", schedule)
    factor = arm.lr_lambda(iterations)
    nets = [start(problem, seed)[0] for _ in range(runs)]
    first = np.array([nets[0].params["0.weight"].item(), nets[0].params["0.bias"].item()])
    rates = [rate if factor is None else rate * factor(k) for k in range(iterations)]
    updates = checkpoints(iterations)
    means, covariances = exact_moments(problem.train_inputs, problem.train_targets, first, rates, updates)
    histories = refnet.ensemble(
        nets,
        problem.loss(),
        [refnet.optim.SGD(net.params, lr=rate) for net in nets],
        problem.train_inputs,
        problem.train_targets,
        **order_options(arm),
        iterations=iterations,
        generators=[Generator(int(word)) for word in np.random.SeedSequence([seed, 1]).generate_state(runs)],
        lr_lambda=factor,
        record=updates,
    )
    rows = []
    for p, (parameter, key) in enumerate({"w": "0.weight", "b": "0.bias"}.items()):
        values = np.stack([history.weights[key].reshape(len(updates)) for history in histories])
        for k, update in enumerate(updates):
            exact_sd = math.sqrt(covariances[k, p, p])
            mean, sd, sd_error = _mean_and_deviation(values[:, k])
            rows.append(
                Moment(
                    problem=name,
                    rate=rate,
                    schedule=schedule,
                    update=update,
                    parameter=parameter,
                    exact_mean=float(means[k, p]),
                    exact_sd=exact_sd,
                    runs=runs,
                    mean=mean,
                    mean_error=exact_sd / math.sqrt(runs),
                    sd=sd,
                    sd_error=sd_error,
                )
            )
    return rows


def _mean_and_deviation(values: Array) -> tuple[float, float, float]:
    """The mean of R values, their standard deviation s and its standard error.

    Var(s^2) = (mu_4 - s^4 (R - 3) / (R - 1)) / R, with the values' own fourth moment, and d s = d s^2 / 2s.
    """
    R = len(values)
    # Equal values have a deviation of exactly 0 only if their mean is not rounded.
    distances = values - values[0]
    mean = distances.mean()
    squares = np.square(distances - mean)
    variance = squares.sum() / (R - 1)
    error = math.sqrt(max(np.square(squares).mean() - variance**2 * (R - 3) / (R - 1), 0.0) / R)
    sd = math.sqrt(variance)
    return float(values[0] + mean), sd, error / (2 * sd) if sd else 0.0


def exact_moments(
    inputs: Array, targets: Array, first: Array, rates: Sequence[float], updates: Iterable[int]
) -> tuple[Array, Array]:
    """Mean (c, 2) and covariance (c, 2, 2) of (w, b) after these updates of single-sample descent with replacement.

    Args:
        inputs, targets: (N, 1) each. first: (2,), where all runs start. rates: that of each update.
        updates: c numbers of updates, ascending, none above the number of rates.
    """
    A, H, best = _least_squares(inputs, targets)
    X = _extended(inputs)
    # A[n] = A_n - H, g[n] = g_n
    A, g = A - H, 2 * (targets - X @ best[:, None]) * X
    m, C = first - best, np.zeros((2, 2))
    wanted, rows = set(updates), []
    for k in range(len(rates) + 1):
        if k in wanted:
            rows.append((best + m, C))
        if k < len(rates):
            xi = g - A @ m
            noise = (A @ C @ A).mean(axis=0) + xi.T @ xi / len(xi)
            step = np.eye(2) - rates[k] * H
            m, C = step @ m, step @ C @ step + rates[k] ** 2 * noise
    means, covariances = zip(*rows, strict=True)
    return np.stack(means), np.stack(covariances)


def _extended(inputs: Array) -> Array:
    return np.concatenate([inputs, np.ones_like(inputs)], axis=-1)


def _least_squares(inputs: Array, targets: Array) -> tuple[Array, Array, Array]:
    """A_n (N, 2, 2), their mean H (2, 2) and the solution v* (2,)."""
    X = _extended(inputs)
    A = 2 * X[:, :, None] * X[:, None, :]
    return A, A.mean(axis=0), np.linalg.lstsq(X, targets[:, 0])[0]


def mean_square_limit(inputs: Array, targets: Array) -> float:
    """The rate from which on the covariance of single-sample descent with replacement grows without bound."""
    A, H, _ = _least_squares(inputs, targets)
    eye = np.eye(2)
    # On matrices as vectors, C -> P C Q is the Kronecker product of P and Q (both symmetric).
    both = np.kron(H, eye) + np.kron(eye, H)
    pairs = np.einsum("nij,nkl->ikjl", A, A).reshape(4, 4) / len(A)
    return float(1 / np.linalg.eigvals(np.linalg.solve(both, pairs)).real.max())


def stability(name: str = "line") -> list[Stability]:
    """The stability limits of a straight line's cost; needs python-flint.

    Raises:
        ValueError: a problem that is no straight line.
    """
    from parity.truth import ball

    problem = _quadratic(name)
    with ball.precision(ball.PRECISIONS[0]):
        (ww, wb), (_, bb) = _hessian(problem)[0]
        eigenvalue = (ww + bb + ((ww - bb) ** 2 + 4 * wb**2).sqrt()) / 2
        limit = 2 / eigenvalue
        return [
            Stability(
                name,
                *(*_between(eigenvalue), _digits(eigenvalue)),
                *(*_between(limit), _digits(limit)),
                mean_square_limit(problem.train_inputs, problem.train_targets),
            )
        ]


def surface(name: str = "line") -> list[Surface]:
    """The cost of a straight line as a function of w and b; needs python-flint.

    Raises:
        ValueError: a problem that is no straight line.
    """
    from parity.truth import ball

    problem = _quadratic(name)
    with ball.precision(ball.PRECISIONS[0]):
        ((ww, wb), (_, bb)), (cw, cb), cost = _hessian(problem)
        # H v* = -c, and the cost falls by 1/2 c^T H^(-1) c from v = 0 to there.
        determinant = ww * bb - wb**2
        w, b = (wb * cb - bb * cw) / determinant, (wb * cw - ww * cb) / determinant
        cost = cost + (cw * w + cb * b) / 2
        return [Surface(name, *(float(_ends(x.mid())[0]) for x in (w, b, cost, ww, wb, bb)))]


def _quadratic(name: str) -> Problem:
    problem = load(name)
    if problem.kind != "regression" or problem.units != (1, 1):
        raise ValueError(f"expected the problem of a straight line, got {name}, {problem.title}")
    return problem


def _hessian(problem: Problem) -> tuple[list[list[Any]], list[Any], Any]:
    """H, the gradient c at v = 0 and the cost there, as balls: the network's own lines, run in ball arithmetic.

    The cost is quadratic, so its gradient is H v + c, and H's columns are what the gradient gains at unit vectors.
    """
    from parity.truth import ball
    from refnet.train.step import gradients

    inputs, targets = ball.lift(problem.train_inputs), ball.lift(problem.train_targets)

    def at(w: float, b: float) -> tuple[Any, list[Any]]:
        net = problem.network()
        net.bind({"0.weight": ball.lift(np.array([[w]])), "0.bias": ball.lift(np.array([b]))})
        value, grads = gradients(net, problem.loss(), inputs, targets, ball.lift(np.ones(())))
        return ball.values(value).item(), [ball.values(grads[key]).item() for key in ("0.weight", "0.bias")]

    cost, c = at(0.0, 0.0)
    columns = [[a - b for a, b in zip(at(*unit)[1], c, strict=True)] for unit in ((1.0, 0.0), (0.0, 1.0))]
    return [list(row) for row in zip(*columns, strict=True)], c, cost


def _ends(x: Any) -> tuple[Fraction, Fraction]:
    """The exact ends of a ball."""
    ends = []
    for end in (x.lower(), x.upper()):
        mantissa, exponent = (int(part) for part in end.man_exp())
        ends.append(mantissa * Fraction(2) ** exponent)
    return ends[0], ends[1]


def _between(x: Any) -> tuple[float, float]:
    """The closest binary64 numbers that the whole ball lies between."""
    low, high = _ends(x)
    below, above = float(low), float(high)
    return (
        below if Fraction(below) <= low else math.nextafter(below, -math.inf),
        above if Fraction(above) >= high else math.nextafter(above, math.inf),
    )


def _digits(x: Any) -> str:
    """The ball's number to DIGITS significant digits, correctly rounded: both ends of the ball say the same.

    Raises:
        Undecided: they do not.
    """
    from parity.truth.value import decimal
    from refnet.arithmetic.array_like import Undecided

    low, high = (decimal(end, DIGITS) for end in _ends(x))
    if low != high:
        raise Undecided(f"expected a ball that settles {DIGITS} digits, got {x}")
    return low
