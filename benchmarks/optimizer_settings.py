"""The arguments that torch's own tests give its optimizers, each setting once and the defaults left out.

Source: torch 2.13, torch/testing/_internal/common_optimizers.py. That module is not imported, as it needs packages that
torch does not bring.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SETTINGS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "Adadelta": (
        {"lr": 0.01},
        {"weight_decay": 0.1},
        {"maximize": True},
        {"weight_decay": 0.1, "maximize": True},
        {"rho": 0.95, "weight_decay": 0.9},
    ),
    "Adafactor": (
        {"weight_decay": 0.1, "lr": 0.01},
        {"weight_decay": 0.1, "maximize": True},
        {"beta2_decay": -1.0},
        {"d": 1.5},
    ),
    "Adagrad": (
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "maximize": True},
        {"lr": 0.1},
        {"initial_accumulator_value": 0.1, "weight_decay": 0.1},
        {"lr": 0.1, "lr_decay": 0.5, "weight_decay": 0.1},
        {"lr": 0.0010000000474974513},
    ),
    "Adam": (
        {"lr": 0.01},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "maximize": True},
        {"weight_decay": 0.1, "amsgrad": True},
    ),
    "Adamax": (
        {"lr": 0.1},
        {"weight_decay": 0.1},
        {"maximize": True},
        {"weight_decay": 0.1, "maximize": True},
    ),
    "AdamW": (
        {"lr": 0.01},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "maximize": True},
        {"weight_decay": 0.1, "amsgrad": True},
    ),
    "ASGD": (
        {"lambd": 0.1},
        {"lr": 0.02},
        {"t0": 100},
        {"maximize": True},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "maximize": True},
    ),
    "Muon": (
        {"lr": 0.01},
        {"lr": 0.0010000000474974513},
        {"weight_decay": 0.2},
        {"momentum": 0.8},
        {"ns_steps": 6},
        {"ns_coefficients": (3.4, -4.7, 2.0)},
    ),
    "NAdam": (
        {"lr": 0.001},
        {"momentum_decay": 0.006},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "momentum_decay": 0.006},
        {"weight_decay": 0.1, "momentum_decay": 0.006, "decoupled_weight_decay": True},
        {"weight_decay": 0.1, "maximize": True},
    ),
    "RAdam": (
        {"lr": 0.002},
        {"eps": 1e-06},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "decoupled_weight_decay": True},
        {"weight_decay": 0.1, "maximize": True},
    ),
    "RMSprop": (
        {"lr": 0.001},
        {"weight_decay": 0.1},
        {"maximize": True},
        {"weight_decay": 0.1, "centered": True},
        {"maximize": True, "weight_decay": 0.1},
        {"weight_decay": 0.1, "centered": True, "momentum": 0.1},
        {"weight_decay": 0.1, "centered": True, "momentum": 0.1, "maximize": True},
    ),
    "Rprop": (
        {"lr": 0.0002},
        {"etas": (0.5, 1.5)},
        {"step_sizes": (2e-06, 100)},
        {"maximize": True},
    ),
    "SGD": (
        {"lr": 0.01},
        {"lr": 0.0010000000474974513},
        {"weight_decay": 0.5},
        {"momentum": 0.9},
        {"weight_decay": 0.1, "maximize": True},
        {"momentum": 0.9, "dampening": 0.5},
        {"momentum": 0.9, "weight_decay": 0.1},
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    ),
}
