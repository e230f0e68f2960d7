"""Known mistakes in a hand computation, as rewritings of its formulas.

A mistake is a list of rules (figures, find, put). In the formula of every figure whose name matches the regular
expression `figures`, each match of `find` is replaced by `put`, in which <1> stands for the first group. A mistake is
one of a model's if it changes a formula there. A recipe, which says when weights and biases move, is written likewise.

The page gets the same lists, so that it and the terminal know the same mistakes by the same words. Every expression is
valid, and means the same, in Python and in JavaScript.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from parity.example.hand_computation import Figure
from parity.example.perceptron import Recipe

Rule = tuple[str, str, str]

SEQUENTIAL: tuple[Rule, ...] = tuple(
    (rf"^dE(_o{o + 1}/dout_h{h + 1}|/dout_h{h + 1}\|o{o + 1})", r"\{dnet_[^}]*\}", f"{{w{5 + 2 * o + h}@1}}")
    for o in range(2)
    for h in range(2)
)
"""The deltas of the hidden units come through output weights that have already moved."""

SHARED: tuple[Rule, ...] = (
    (r"^dE/db_", r"^\{dE/dnet_([ho])\d((?::\d)?)\} \* 1$", "{dE/dnet_<1>1<2>} + {dE/dnet_<1>2<2>}"),
)
"""A layer's units share one bias: its gradient is the sum over both."""


@dataclass(frozen=True)
class Mistake:
    """A known mistake.

    Attributes:
        key: its name. hint: a question that leads to it. answer: what was done, and what is right.
        rules: how the formulas become those of the mistake.
    """

    key: str
    hint: str
    answer: str
    rules: tuple[Rule, ...]


def _swapped(one: str, other: str) -> tuple[Rule, ...]:
    steps = ((one, "x"), (other, one), ("x", other))
    return tuple((r"^(net_|dnet_o\d/dout_h)", rf"\{{{old}\}}", f"{{{new}}}") for old, new in steps)


SIGNS = "Look at the signs."
ERROR = "Look at the definition of the error again."
MEAN = "What becomes of the two samples' gradients?"
SLOPE = "Is every factor of the chain rule there"
NO_SLOPE = "The derivative of the activation is missing {}: ∂E/∂net was taken to be ∂E/∂out."
PRODUCT, FIRST = r"^(\{dE/dout_[^}]*\}) \* .*$", "<1>"
PAIR = r"^\((\{[^}]*:1\}) \+ (\{[^}]*:2\})\) / 2$"

MISTAKES = (
    Mistake(
        "no-slope-output",
        f"{SLOPE}, at the outputs?",
        NO_SLOPE.format("at the outputs"),
        ((r"^dE/dnet_o", PRODUCT, FIRST),),
    ),
    Mistake(
        "no-slope-hidden",
        f"{SLOPE}, in the hidden layer?",
        NO_SLOPE.format("at the hidden units"),
        ((r"^dE/dnet_h", PRODUCT, FIRST),),
    ),
    Mistake(
        "no-slope",
        f"{SLOPE}?",
        NO_SLOPE.format("in both layers"),
        ((r"^dE/dnet_h", PRODUCT, FIRST), (r"^dE/dnet_o", PRODUCT, FIRST)),
    ),
    Mistake(
        "slope-at-net",
        "At which number is the derivative of the activation taken?",
        "The derivative of the activation was written with net in the place of out.",
        ((r"^dout_", r"\{out_", "{net_"),),
    ),
    Mistake(
        "slope-of-sigmoid",
        "Of which function is the derivative taken?",
        "The hidden units' derivative was taken as out (1 - out), which is that of the sigmoid.",
        (
            (r"^dout_h", r"^1 - (\{out_[^}]*\}) \*\* 2$", "<1> * (1 - <1>)"),
            (r"^dout_h", r"^step\(\{net_([^}]*)\}\)$", "{out_<1>} * (1 - {out_<1>})"),
        ),
    ),
    Mistake(
        "no-square",
        "What is the derivative of tanh?",
        "The derivative of tanh was taken as 1 - out. It is 1 - out².",
        ((r"^dout_h", r"^1 - (\{out_[^}]*\}) \*\* 2$", "1 - <1>"),),
    ),
    Mistake(
        "slope-twice",
        "What is left of the softmax when its derivative meets that of the cross-entropy?",
        "The derivative out (1 - out) was multiplied in once more. With softmax and cross-entropy, "
        "∂E/∂net is out - target already.",
        ((r"^dE/dnet_o", r"^(\{out_[^}]*\})( \* .*)$", "(<1><2>) * <1> * (1 - <1>)"),),
    ),
    Mistake(
        "sign",
        SIGNS,
        "The sign is turned: the derivative is out - target, not target - out.",
        (
            (r"^dE/dout_o", r"^(.*) - (.*)$", "<2> - <1>"),
            (r"^dE/dnet_o", r"^(\{out_[^}]*\} \* \(.*\)) - (.*)$", "<2> - <1>"),
        ),
    ),
    Mistake(
        "ascent",
        SIGNS,
        "The step went uphill: rate × gradient is subtracted from a weight, not added to it.",
        ((r"@1$", r" - \{eta\}", " + {eta}"),),
    ),
    Mistake("no-half", ERROR, "The ½ is missing: E is the sum of ½ (target - out)².", ((r"^E_o", r" / 2$", ""),)),
    Mistake(
        "no-half-anywhere",
        ERROR,
        "The ½ is missing from the error, and so the gradients are twice theirs: with the ½, ∂E/∂out is out - target.",
        ((r"^E_o", r" / 2$", ""), (r"^dE/dout_o", r"^(.*)$", "2 * (<1>)")),
    ),
    Mistake(
        "half-gradient",
        "What does the ½ in the error become when it is differentiated?",
        "The ½ was kept in the derivative. It cancels the 2 of the square: ∂E/∂out is out - target.",
        ((r"^dE/dout_o", r"^(.*)$", "(<1>) / 2"),),
    ),
    Mistake(
        "log10",
        "Which logarithm is in the cross-entropy?",
        "The logarithm to the base 10 was taken. The cross-entropy has the natural one.",
        ((r"^E_o", r"ln\((.*)\)$", "ln(<1>) / ln(10)"),),
    ),
    Mistake(
        "no-bias",
        "Is everything there that enters a unit?",
        "The biases were left out of the net inputs.",
        ((r"^net_", r" \+ \{b\d\}$", ""),),
    ),
    Mistake(
        "one-share",
        "Along how many paths does a hidden unit act on the error?",
        "Only one output's share was taken: ∂E/∂out of a hidden unit is the sum of both outputs' shares.",
        (
            (r"^dE/dout_h1(:\d)?$", r"^(.*) \+ (.*)$", "<1>"),
            (r"^dE/dout_h2(:\d)?$", r"^(.*) \+ (.*)$", "<2>"),
        ),
    ),
    Mistake(
        "transposed",
        "Which weight belongs to which edge?",
        "The weights were taken crosswise: w1 and w2 lead into h1, w3 and w4 into h2, w5 and w6 into o1, w7 and w8 "
        "into o2.",
        _swapped("w2", "w3") + _swapped("w6", "w7"),
    ),
    Mistake(
        "no-rate",
        "How long is the step?",
        "The learning rate is missing: a weight moves by rate × gradient.",
        ((r"@1$", r"\{eta\} \* ", ""),),
    ),
    Mistake(
        "batch-sum",
        MEAN,
        "The samples' gradients were added. The error is the mean over the batch, and so is its gradient.",
        ((r"^dE/", PAIR, "<1> + <2>"),),
    ),
    Mistake(
        "batch-error-sum",
        "What is the error of a batch?",
        "The samples' errors were added. The error of the batch is their mean.",
        ((r"^E$", PAIR, "<1> + <2>"),),
    ),
    Mistake(
        "batch-first",
        MEAN,
        "Only the first sample's gradient was used. The gradient of the batch is the mean over both samples.",
        ((r"^dE/", PAIR, "<1>"),),
    ),
    Mistake(
        "batch-last",
        MEAN,
        "Only the second sample's gradient was used. The gradient of the batch is the mean over both samples.",
        ((r"^dE/", PAIR, "<2>"),),
    ),
)

BIASES = {
    "frozen": "the biases stay as they are",
    "unit": "each unit's bias is moved by its own gradient",
    "layer": "a layer's units share one bias, moved by the sum of their gradients",
}
TOO_EARLY = (
    "Through which output weights did the deltas go back to the hidden layer?",
    "The deltas of the outputs went back through w5 to w8 after these had been updated. Every gradient is taken at the "
    "old weights; only then do all weights move.",
)
WHICH_BIASES = (
    "Which biases move in this recipe, and by what?",
    "It is what one gets if {theirs}; here {ours}.",
)


def recipe_rules(recipe: Recipe) -> tuple[Rule, ...]:
    """How the formulas become those of a recipe."""
    return (*(SEQUENTIAL if recipe.order == "sequential" else ()), *(SHARED if recipe.biases == "layer" else ()))


def rewrite(formulas: Mapping[str, str], rules: Iterable[Rule]) -> dict[str, str]:
    """The formulas with the rules applied, one after the other."""
    found = dict(formulas)
    for figures, find, put in rules:
        for key, formula in found.items():
            if re.search(figures, key):
                found[key] = re.sub(find, partial(_put, put), formula)
    return found


def _put(put: str, match: re.Match[str]) -> str:
    return re.sub(r"<(\d)>", lambda group: match[int(group[1])] or "", put)


def of_model(figures: Iterable[Figure]) -> tuple[Mistake, ...]:
    """The mistakes that change a formula among these figures, each change once."""
    formulas = {figure.key: figure.formula for figure in figures}
    found: dict[tuple[str, ...], Mistake] = {tuple(formulas.values()): MISTAKES[0]}
    for mistake in MISTAKES:
        found.setdefault(tuple(rewrite(formulas, mistake.rules).values()), mistake)
    del found[tuple(formulas.values())]
    return tuple(found.values())
