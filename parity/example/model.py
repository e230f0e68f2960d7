"""Which network is computed by hand: the article's, or one of the learner's own.

Two inputs, two hidden and two output units always. What may differ: what the hidden units do, what the outputs do and
how the error is measured, and whether a batch has one sample or two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

HIDDEN = {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "ReLU"}
"""What a hidden unit does with its net input, and its name in words."""

ERRORS = {
    "squares": "sigmoid, half the squared error",
    "cross-entropy": "softmax, cross-entropy",
}
"""What the outputs do with their net inputs, and how the error is measured."""

SAMPLES = (1, 2)

SECOND: Mapping[str, Fraction] = {
    "i1:2": Fraction("0.10"),
    "i2:2": Fraction("0.05"),
    "t1:2": Fraction("0.99"),
    "t2:2": Fraction("0.01"),
}
"""The second sample of a batch, until the learner gives another: the first one mirrored."""


@dataclass(frozen=True)
class Model:
    """A network with two inputs, two hidden and two output units.

    Attributes:
        hidden: a key of HIDDEN. error: a key of ERRORS.
        samples: how many samples a batch has; its error is the mean of theirs.
    """

    hidden: str = "sigmoid"
    error: str = "squares"
    samples: int = 1

    @property
    def key(self) -> str:
        return f"{self.hidden}/{self.error}/{self.samples}"

    def __str__(self) -> str:
        batch = "one sample" if self.samples == 1 else "a batch of two samples"
        return f"hidden units {HIDDEN[self.hidden]}; outputs {ERRORS[self.error]}; {batch}"


ARTICLE = Model()
MODELS = tuple(Model(hidden, error, samples) for hidden, error, samples in product(HIDDEN, ERRORS, SAMPLES))
