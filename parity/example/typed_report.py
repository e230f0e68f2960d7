"""What is said of a typed figure in a terminal: `parity example --check`.

Without a step, the figure is looked for among all figures; with one, it is judged as that step's answer too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from parity.example.certified_example import load
from parity.example.digits import exact, fixed, mark
from parity.example.hand_computation import constants
from parity.example.mistakes import BIASES, TOO_EARLY
from parity.example.model import ARTICLE, ERRORS, HIDDEN, SAMPLES, Model
from parity.example.perceptron import Recipe
from parity.example.provenance import SAYS, findings
from parity.example.published import PUBLISHED, SOURCES
from parity.example.typed_figure import TELLING, Judge, Judgement, Place, Typed, parse
from parity.records.record import UsageError

HEADINGS = {
    "right": "✓ Right",
    "cut": "≈ Right, but cut off instead of rounded",
    "carried": "≈ Right method, too few decimals on the way",
    "mistake": "✗ Not the figure",
    "elsewhere": "→ Another step's figure",
    "unexplained": "? Not explained",
}
PRINTED = {"bug": "a bug's figure", "slip": "off by a unit in its last digit", "unsettled": "not this figure"}
"""What a printed figure is that is not right."""


def render(console: Console, typed_text: str, step: str = "", own: Path | None = None) -> bool:
    """Print what a typed figure is; whether it is right.

    Raises:
        UsageError: the figure is no number, there is no such step, or the file is not as `read_own` says.
    """
    typed = parse(typed_text)
    judge = judge_of(own)
    if step and step not in judge.figures:
        after = f"; after an update it is {step}@1" if f"{step}@1" in judge.figures else ""
        raise UsageError(f"--step: expected the name of a figure, such as E@1 or dE/dw5, got {step}{after}")
    right = True
    if step:
        judgement, places = judge.recognise(step, typed)
        right = judgement.kind == "right"
        lines = [*_judged(judge, step, typed, judgement), *_located(judge, typed, places)]
    else:
        places = judge.places(typed)
        right = any(place.kind == "right" and not place.cut for place in places)
        lines = list(_located(judge, typed, places)) or [Text(_nowhere(typed))]
    console.print(Text(typed.text, style="bold"))
    for line in lines:
        console.print(line, soft_wrap=True)
    return right


def judge_of(own: Path | None = None) -> Judge:
    """The judge of the article's network, or of the one in a file."""
    if own is not None:
        return read_own(own)
    certified = load()

    def truth(key: str, recipe: Recipe) -> Fraction:
        return exact(certified.figure(key, recipe))

    return Judge(ARTICLE, constants(ARTICLE), "frozen", truth, PUBLISHED)


def read_own(file: Path) -> Judge:
    """The judge of a network in a JSON file: an object of numbers by name, the others being the article's.

    Names: i1 i2 t1 t2 w1 ... w8 b1 b2 eta, and i1:2 i2:2 t1:2 t2:2 of a second sample. Besides: `hidden` (sigmoid,
    tanh, relu), `error` (squares, cross-entropy), `samples` (1, 2), `biases` (frozen, unit, layer).

    Raises:
        UsageError: the file cannot be read, is no such object, or has another name or value.
    """
    try:
        # As text: 0.1 means one tenth here, whatever its nearest float is.
        given = json.loads(file.read_text(encoding="utf-8"), parse_float=str, parse_int=str, parse_constant=str)
    except OSError as error:
        raise UsageError(f"--own: expected a readable file, got {file}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"--own: expected JSON in {file}, got: {error}") from None
    if not isinstance(given, dict):
        raise UsageError(f"--own: expected an object of numbers by name in {file}, got {type(given).__name__}")
    choices = {
        "hidden": tuple(HIDDEN),
        "error": tuple(ERRORS),
        "samples": tuple(map(str, SAMPLES)),
        "biases": (*BIASES,),
    }
    chosen = {name: str(given.pop(name, values[0])) for name, values in choices.items()}
    for name, value in chosen.items():
        if value not in choices[name]:
            raise UsageError(f"--own: {name}: expected {' or '.join(choices[name])}, got {value}")
    model = Model(chosen["hidden"], chosen["error"], int(chosen["samples"]))
    numbers = dict(constants(model))
    for name, value in given.items():
        if name not in numbers:
            raise UsageError(f"--own: expected the names {', '.join((*numbers, *choices))}, got {name}")
        numbers[name] = _number(name, value)
    return Judge(model, numbers, chosen["biases"])


def _number(name: str, value: Any) -> Fraction:
    try:
        return parse(str(value)).exact
    except UsageError as error:
        raise UsageError(f"--own: {name}: {error}") from None


def name(key: str) -> str:
    """A figure's name in words."""
    what, _, updates = key.partition("@")
    what, _, sample = what.partition(":")
    what, _, through = what.partition("|")
    words = f"{what}{f' through {through}' if through else ''}{f' of sample {sample}' if sample else ''}"
    return words + (f" after {int(updates):,} update{'' if updates == '1' else 's'}" if updates else "")


def decimals(n: int) -> str:
    return f"{n} decimal{'' if n == 1 else 's'}"


def sentences(said: Judgement, typed: Typed) -> Iterator[str]:
    """What is said of a judgement, sentence by sentence."""
    if said.kind == "right":
        yield f"To all {decimals(typed.places)} that you gave." if typed.places else "As a whole number."
        return
    if said.kind == "cut":
        rounded = fixed(said.truth, typed.places)
        yield f"Your figure is the right one, cut off after {decimals(typed.places)}. Rounded, it is {rounded}."
        return
    if said.kind == "carried":
        if said.carried:
            yield (
                f"It is what one may get who carried {decimals(said.carried)} on the way: rounding each result to that "
                "many may move the figure this far."
            )
            if said.cut > said.carried:
                yield f"Or {said.cut}, cut off instead of rounded."
        else:
            yield f"It is what one may get who carried {decimals(said.cut)} on the way, cut off instead of rounded."
        if said.blind:
            yield "With so few decimals this figure is lost altogether: 0 would pass as well."
        return
    n = len(said.mistakes)
    if n:
        yield "A known mistake explains it." if n == 1 else f"{n} known mistakes explain it."
    else:
        yield "None of the known mistakes yields it. Look for a slip of the pen, or at the step before."
    kept = max(said.carried, said.cut)
    if kept and said.blind:
        yield (
            f"Without a mistake, no more than {decimals(kept)} can have been carried on the way, and with so few this "
            "figure is lost altogether: 0 would pass as well."
        )
    elif kept and 2 * kept < typed.places:
        yield (
            f"Rounding does not explain it: no more than {decimals(kept)} would have to be carried on the way, and it "
            f"was given with {typed.places}."
        )
    elif kept:
        yield f"Without a mistake, no more than {decimals(kept)} can have been carried on the way."


def _judged(judge: Judge, step: str, typed: Typed, said: Judgement) -> Iterator[Text]:
    yield Text(f"{name(step)}: {HEADINGS[said.kind]}", style="green" if said.kind == "right" else "yellow")
    yield from _compared(judge, step, typed)
    if said.kind == "elsewhere":
        return
    for sentence in sentences(said, typed):
        yield Text(f"  {sentence}")
    for mistake in said.mistakes:
        how = "to every digit" if mistake.carried == float("inf") else f"with {decimals(int(mistake.carried))} carried"
        yield Text(f"  - {mistake.answer} ({'cut off' if mistake.cut else how})")


def _compared(judge: Judge, key: str, typed: Typed) -> Iterator[Text]:
    truth, blur = judge.truth(key)
    agree, differ = mark(fixed(typed.exact, typed.places), fixed(truth, typed.places))
    label = "in binary64" if blur else "certified"
    where = f"decimal {len(agree.partition('.')[2]) + 1} differs" if "." in agree else "differs before the point"
    yield (
        Text(f"  {'yours':<12}{agree}")
        .append(differ, style="bold underline")
        .append(f"{'  ' if differ else ''}")
        .append(f"({where})" if differ else "")
    )
    yield Text(f"  {label:<12}{fixed(truth, min(typed.places + 3, 60))}")


def _located(judge: Judge, typed: Typed, places: list[Place]) -> Iterator[Text]:
    for place in places:
        words = name(place.figure)
        if place.kind == "right":
            cut = ", cut off instead of rounded" if place.cut else ""
            yield Text(f"It is right as {words}{cut}.", style="yellow" if cut else "green")
        elif place.published is not None:
            finding = next(f for f in findings(load()) if f.published == place.published)
            about = PRINTED.get(finding.says, SAYS[finding.says])
            yield Text(f"It is printed as {words}, and is {about}.", style="yellow")
            yield Text(f"  In print: {SOURCES[place.published.source]}.")
            yield Text(f"  Yielded by: {finding.by}.")
            if finding.says == "bug":
                yield Text(f"  What that is: {TOO_EARLY[1]}")
        elif place.mistake is not None:
            yield Text(f"It is {words}, with a mistake. {place.mistake.answer}", style="yellow")
        yield from _compared(judge, place.figure, typed)
    if places and typed.digits < TELLING:
        yield Text("With so few digits, that may be chance.", style="dim")


def _nowhere(typed: Typed) -> str:
    if typed.digits < TELLING:
        return (
            f"It is no figure of the computation. With {TELLING} significant digits or more, known mistakes are looked "
            "for too; with --step, what too few decimals on the way may do."
        )
    return "It is no figure of the computation, and none that a known mistake yields."
