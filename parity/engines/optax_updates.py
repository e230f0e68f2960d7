"""optax's transformations: which one a record's optimizer is, its steps, and its state under torch's names."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

import refnet
from parity.records.record import Answer, Array, Optimize, Spec, Unsupported

NAMES = {
    "mu": "exp_avg",
    "nu": "exp_avg_sq",
    "nu_max": "max_exp_avg_sq",
    "trace": "momentum_buffer",
    "count": "step",
    "sum_of_squares": "sum",
    "e_g": "square_avg",
    "e_x": "acc_delta",
    "step_sizes": "step_size",
}
"""What optax calls an optimizer's state, and torch."""

OTHER_NAMES: Mapping[str, Mapping[str, str]] = {
    "Adamax": {"nu": "exp_inf"},
    "Muon": {"mu": "momentum_buffer"},
    "RMSprop": {"mu": "grad_avg", "nu": "square_avg"},
}
"""Where a name stands for something else in one class."""


def state_of(state: Any, own: Mapping[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    """What an optax transformation keeps for each parameter, under the names of torch's class of that name."""
    names = {**NAMES, **OTHER_NAMES.get(kind, {})}
    found: dict[str, dict[str, Any]] = {name: {} for name in own}
    for part in _parts(state):
        if hasattr(part, "v_row"):
            for name, param in own.items():
                found[name] |= _factored(part, name, param.shape)
            continue
        for key, value in part._asdict().items():
            if isinstance(value, Mapping) and value.keys() == own.keys():
                for name in own:
                    # (what optax.partition leaves to another transformation is no array)
                    if hasattr(value[name], "shape"):
                        found[name][names.get(key, key)] = value[name]
            elif getattr(value, "shape", None) == ():
                for name in own:
                    found[name][names.get(key, key)] = value
    return found


def _factored(part: Any, name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """What optax.adafactor keeps for one parameter, as torch has it: with axes of size 1 where means went over."""
    if part.v[name].shape == shape:
        return {"step": part.count, "variance": part.v[name]}
    shorter, longer = np.argsort(shape)[-2:]
    means = {longer: np.expand_dims(part.v_row[name], longer), shorter: np.expand_dims(part.v_col[name], shorter)}
    return {"step": part.count, "row_var": means[len(shape) - 1], "col_var": means[len(shape) - 2]}


def _parts(state: Any) -> Iterator[Any]:
    if hasattr(state, "_asdict"):
        yield state
    if isinstance(state, (tuple, list, Mapping)):
        for part in state.values() if isinstance(state, Mapping) else state:
            yield from _parts(part)


def stepped(transformation: Any, own: Any, grads: Any, state: Any) -> tuple[Any, Any]:
    """The parameters and the state after one step: optax.apply_updates."""
    import jax

    updates, state = transformation.update(grads, state, own)
    return jax.tree_util.tree_map(lambda p, u: p + u.astype(p.dtype), own, updates), state


def package(name: str) -> Any:
    """optax, or a part of it.

    Raises:
        Unsupported: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Unsupported(f"the package optax is needed: {error}") from None


# ---- optax's transformation for a class of torch.optim


def transformation(spec: Spec, args: Mapping[str, Any], params: Mapping[str, Any]) -> Any:
    """The transformation that a user of optax takes for an optimizer of these parameters with these options.

    Where optax has an option to be as torch, it is given. `maximize` is a gradient of the other sign, and a decay that
    is a part of the gradient is `add_decayed_weights` before all else.

    Raises:
        Unsupported: optax is not installed, has no such optimizer, or none with these options.
    """
    optax = package("optax")
    if spec.type not in OPTIMIZERS:
        raise Unsupported(ABSENT.get(spec.type, f"optax has no {spec.type}"))
    given = {**_defaults(spec.type), **args, "params": params}
    own = OPTIMIZERS[spec.type](optax, given)
    before = [optax.scale(-1.0)] if given.get("maximize") else []
    coupled = given.get("weight_decay", 0) and not _decoupled(spec.type, given)
    before += [optax.add_decayed_weights(given["weight_decay"])] if coupled else []
    return optax.chain(*before, own) if before else own


def _defaults(kind: str) -> Mapping[str, Any]:
    parameters = inspect.signature(getattr(refnet.optim, kind)).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _decoupled(kind: str, given: Mapping[str, Any]) -> bool:
    return kind in ("AdamW", "Adafactor", "Muon", "Lion") or bool(given.get("decoupled_weight_decay"))


def _refuse(given: Mapping[str, Any], function: str, **allowed: Any) -> None:
    for option, value in allowed.items():
        if given[option] != value:
            raise Unsupported(f"{function} has no {option}")


def _moments(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"b1": given["betas"][0], "b2": given["betas"][1], "eps": given["eps"]}


def _sgd(optax: Any, given: Mapping[str, Any]) -> Any:
    if given["momentum"]:
        _refuse(given, "optax.sgd", dampening=0)
    return optax.sgd(given["lr"], given["momentum"] or None, given["nesterov"])


def _adam(optax: Any, given: Mapping[str, Any]) -> Any:
    scaled = optax.scale_by_amsgrad if given["amsgrad"] else optax.scale_by_adam
    return _scaled(optax, scaled(**_moments(given)), given, _decoupled("Adam", given))


def _adamw(optax: Any, given: Mapping[str, Any]) -> Any:
    return _adam(optax, {**given, "decoupled_weight_decay": True})


def _scaled(optax: Any, scaled: Any, given: Mapping[str, Any], decoupled: bool) -> Any:
    decay = [optax.add_decayed_weights(given["weight_decay"])] if decoupled and given["weight_decay"] else []
    return optax.chain(scaled, *decay, optax.scale_by_learning_rate(given["lr"]))


def _nadam(optax: Any, given: Mapping[str, Any]) -> Any:
    if given["momentum_decay"] not in (0, 4e-3):
        raise Unsupported("optax.nadam has no momentum_decay")
    scaled = optax.scale_by_adam(**_moments(given), nesterov=True)
    return _scaled(optax, scaled, given, given["decoupled_weight_decay"])


def _radam(optax: Any, given: Mapping[str, Any]) -> Any:
    return _scaled(optax, optax.scale_by_radam(**_moments(given)), given, given["decoupled_weight_decay"])


def _adamax(optax: Any, given: Mapping[str, Any]) -> Any:
    return optax.adamax(given["lr"], **_moments(given))


def _adagrad(optax: Any, given: Mapping[str, Any]) -> Any:
    _refuse(given, "optax.adagrad", lr_decay=0)
    return optax.adagrad(given["lr"], given["initial_accumulator_value"], given["eps"])


def _adadelta(optax: Any, given: Mapping[str, Any]) -> Any:
    return optax.adadelta(given["lr"], given["rho"], given["eps"])


def _rmsprop(optax: Any, given: Mapping[str, Any]) -> Any:
    options = {"decay": given["alpha"], "eps": given["eps"], "centered": given["centered"]}
    return optax.rmsprop(given["lr"], **options, eps_in_sqrt=False, momentum=given["momentum"] or None)


def _rprop(optax: Any, given: Mapping[str, Any]) -> Any:
    return optax.rprop(given["lr"], *given["etas"], *given["step_sizes"])


def _adafactor(optax: Any, given: Mapping[str, Any]) -> Any:
    """The parts of optax.adafactor in its order: there the least scale is 1e-3.

    Both factor every matrix; torch's eps1 is squared where it bounds a square; its bound of the rate is a schedule, and
    its decay is in proportion to the rate.
    """
    for name, shape in {name: np.shape(p) for name, p in given["params"].items()}.items():
        if len(shape) > 1 and {*np.argsort(shape)[-2:]} != {len(shape) - 2, len(shape) - 1}:
            raise Unsupported(f"optax.adafactor factors the two longest axes, which of {name} are not the last two")
    numpy = importlib.import_module("jax.numpy")
    (eps1, eps2), gamma = given["eps"], given["lr"]
    if eps1 is None:
        eps1 = float(max((numpy.finfo(p.dtype).eps for p in given["params"].values()), default=0))
    decay = gamma * given["weight_decay"]
    return optax.chain(
        optax.scale_by_factored_rms(decay_rate=-given["beta2_decay"], min_dim_size_to_factor=1, epsilon=eps1 * eps1),
        optax.clip_by_block_rms(given["d"]),
        # rho_t = min(gamma, 1 / sqrt(t))
        optax.scale_by_learning_rate(lambda count: numpy.minimum(gamma, (count + 1.0) ** -0.5), flip_sign=False),
        optax.scale_by_param_block_rms(eps2),
        *([optax.add_decayed_weights(decay)] if decay else []),
        optax.scale(-1.0),
    )


def _muon(optax: Any, given: Mapping[str, Any]) -> Any:
    contrib = package("optax.contrib")
    return contrib.muon(
        given["lr"],
        given["ns_coefficients"],
        given["ns_steps"],
        given["momentum"],
        given["eps"],
        given["weight_decay"],
        nesterov=given["nesterov"],
        # A weight of torch's has its outputs first.
        muon_weight_dimension_numbers=contrib.MuonDimensionNumbers(reduction_axis=1, output_axis=0),
        consistent_rms=0.2 if given["adjust_lr_fn"] == "match_rms_adamw" else None,
    )


def _lion(optax: Any, given: Mapping[str, Any]) -> Any:
    return optax.lion(given["lr"], *given["betas"], weight_decay=given["weight_decay"])


OPTIMIZERS: Mapping[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    "SGD": _sgd,
    "Adam": _adam,
    "AdamW": _adamw,
    "NAdam": _nadam,
    "RAdam": _radam,
    "Adamax": _adamax,
    "Adagrad": _adagrad,
    "Adadelta": _adadelta,
    "RMSprop": _rmsprop,
    "Rprop": _rprop,
    "Adafactor": _adafactor,
    "Muon": _muon,
    "Lion": _lion,
}
"""By torch's name of the class."""

ABSENT: Mapping[str, str] = {
    "ASGD": "optax has no ASGD",
    "LBFGS": "optax.lbfgs has another line search and keeps another history",
    "SparseAdam": "JAX has no gradients at some indices alone",
}
"""Why there is no transformation for a class."""

KEPT_OTHERWISE: Mapping[str, tuple[str, ...]] = {"NAdam": ("mu_product",), "Rprop": ("prev",)}
"""The arrays of a class that optax does not keep: the product is a power of beta1, and signed steps stand in place of
gradients."""


def optimized(record: Optimize) -> Answer:
    """The answer to a record: a transformation for each group, as optax.partition has them.

    A number of steps is counted here where optax keeps none.

    Raises:
        Unsupported: as `transformation`; or a parameter lacks a gradient, which optax does not know.
    """
    import jax

    if record.absent:
        raise Unsupported("optax has no steps without a gradient of a parameter")
    given = record.groups or ((tuple(record.params), {}),)
    params = {name: jax.numpy.asarray(p) for name, p in record.params.items()}
    made = [
        (names, transformation(record.spec, {**record.spec.args, **own}, {name: params[name] for name in names}))
        for names, own in given
    ]
    series: dict[str, list[Array]] = {}
    for names, transform in made:
        own = {name: params[name] for name in names}
        state = transform.init(own)
        for k in range(record.steps):
            before = {name: np.asarray(p, np.float64) for name, p in own.items()}
            grads = {name: jax.numpy.asarray(record.grads[name][k]) for name in names}
            own, state = stepped(transform, own, grads, state)
            kept = state_of(state, own, record.spec.type)
            for name, p in own.items():
                series.setdefault(f"update.{name}", []).append(np.asarray(p, np.float64) - before[name])
                for key, known in record.spec.schema.items():
                    value = kept[name].get(key, k + 1 if known.counter else None)
                    if value is not None and key not in KEPT_OTHERWISE.get(record.spec.type, ()):
                        dtype = np.float32 if known.counter else record.params[name].dtype
                        series.setdefault(f"state.{name}.{key}", []).append(np.array(value, dtype))
    return {name: np.stack(values) for name, values in series.items()}
