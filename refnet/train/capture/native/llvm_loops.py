"""Operations that IEEE 754 prescribes bit by bit, as loops in LLVM's intermediate representation.

A sum, difference, product, quotient or square root of two numbers is the exact one rounded, whoever computes it: a loop
of such operations has NumPy's bits, in whatever order it goes through the elements, and several of them can be one
loop. What is not prescribed, such as exp and the order of a long sum, stays NumPy's own code.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

TYPES = {"f8": "double", "f4": "float", "b1": "i8"}
"""By NumPy's name of a dtype, LLVM's."""

DECLARATIONS = "\n".join(
    f"declare {t} @llvm.{name}.{f}({', '.join([t] * arguments)})"
    for t, f in (("double", "f64"), ("float", "f32"))
    for name, arguments in (("sqrt", 1), ("fabs", 1), ("fma", 3))
)

_EXTREME = (
    # NaN if either is; of equals the second, which shows in the sign of zero.
    "{y}.nan = fcmp uno {t} {a}, {a}\n  {y}.first = fcmp %s {t} {a}, {b}\n  {y}.a = or i1 {y}.nan, {y}.first\n  "
    "{y} = select i1 {y}.a, {t} {a}, {t} {b}"
)

OF_FLOATS: dict[np.ufunc, str] = {
    np.add: "{y} = fadd {t} {a}, {b}",
    np.subtract: "{y} = fsub {t} {a}, {b}",
    np.multiply: "{y} = fmul {t} {a}, {b}",
    np.divide: "{y} = fdiv {t} {a}, {b}",
    np.negative: "{y} = fneg {t} {a}",
    np.absolute: "{y} = call {t} @llvm.fabs.{f}({t} {a})",
    np.sqrt: "{y} = call {t} @llvm.sqrt.{f}({t} {a})",
    np.minimum: _EXTREME % "olt",
    np.maximum: _EXTREME % "ogt",
}
"""Results of the operands' dtype."""

COMPARISONS: dict[np.ufunc, str] = {
    np.equal: "eq",
    np.not_equal: "ne",
    np.less: "lt",
    np.less_equal: "le",
    np.greater: "gt",
    np.greater_equal: "ge",
}

OF_BOOLEANS: dict[np.ufunc, str] = {
    np.logical_and: "{y} = and i8 {a}, {b}",
    np.bitwise_and: "{y} = and i8 {a}, {b}",
    np.logical_or: "{y} = or i8 {a}, {b}",
    np.bitwise_or: "{y} = or i8 {a}, {b}",
    np.logical_not: "{y} = xor i8 {a}, 1",
    np.invert: "{y} = xor i8 {a}, 1",
}

SELECT = "{y}.on = icmp ne i8 {a}, 0\n  {y} = select i1 {y}.on, {t} {b}, {t} {c}"
COPY = "{y} = bitcast {t} {a} to {t}"
CASTS = {
    ("float", "double"): "{y} = fpext float {a} to double",
    ("double", "float"): "{y} = fptrunc double {a} to float",
}
"""Copies from one type to another, rounded to nearest as IEEE 754 has it, by LLVM's types."""

WIDEST = 512
"""Bits of the widest vectors that there are."""

ZERO = "{y} = bitcast {t} zeroinitializer to {t}"


def formula(ufunc: np.ufunc, operands: Sequence[np.dtype[Any]], out: np.dtype[Any]) -> str | None:
    """What an elementwise operation does, if IEEE 754 says so: `y` of operands `a`, `b` of type `t`."""
    first, name = operands[0], COMPARISONS.get(ufunc)
    if name and all(dtype.kind in "iu" and dtype != np.uint64 and dtype.isnative for dtype in operands):
        return _of_integers(name, operands)
    if any(dtype != first for dtype in operands) or first.str[1:] not in TYPES or not first.isnative:
        return None
    if first.kind == "f" and out == first:
        return OF_FLOATS.get(ufunc)
    if first.kind == "f" and name:
        compare = f"{{y}}.bit = fcmp {'u' if name == 'ne' else 'o'}{name} {{t}} {{a}}, {{b}}"
        return f"{compare}\n  {{y}} = zext i1 {{y}}.bit to i8"
    return OF_BOOLEANS.get(ufunc) if first.kind == "b" and out == np.bool_ else None


def _of_integers(name: str, operands: Sequence[np.dtype[Any]]) -> str:
    """A comparison, in 64 bits."""
    lines, wide = [], []
    for letter, dtype in zip("ab", operands, strict=True):
        if dtype.itemsize < 8:
            extend = "sext" if dtype.kind == "i" else "zext"
            lines.append(f"{{y}}.{letter} = {extend} {type_of(dtype)} {{{letter}}} to i64")
        wide.append(f"{{y}}.{letter}" if dtype.itemsize < 8 else f"{{{letter}}}")
    lines.append(f"{{y}}.bit = icmp {name if name in ('eq', 'ne') else 's' + name} i64 {wide[0]}, {wide[1]}")
    return "\n  ".join([*lines, "{y} = zext i1 {y}.bit to i8"])


@functools.cache
def type_of(dtype: np.dtype[Any]) -> str:
    """LLVM's type; of dtypes that are only moved, an integer of that size."""
    return TYPES.get(dtype.str[1:], f"i{8 * dtype.itemsize}")


class Operand(NamedTuple):
    """One number at each place of a loop: the address of the first, bytes to the next along each axis, and LLVM's
    type."""

    first: int
    steps: tuple[int, ...]
    type: str


@dataclass(frozen=True)
class Statement:
    """At each place of a loop, `out` from `operands`: `lines(y, names)` are the instructions for it."""

    operands: tuple[Operand, ...]
    out: Operand
    lines: Callable[[str, Sequence[str]], list[str]]


def elementwise(form: str, operands: Sequence[Operand], out: Operand) -> Statement:
    """A statement by a formula."""
    t = operands[-1].type if operands else out.type

    def lines(y: str, names: Sequence[str]) -> list[str]:
        return [form.format(y=y, t=t, f="f64" if t == "double" else "f32", **dict(zip("abc", names, strict=False)))]

    return Statement(tuple(operands), out, lines)


_NORMAL = {np.dtype(np.float32): 126, np.dtype(np.float64): 1022}
"""For each dtype the largest k for which both 2^k and 2^-k are normal numbers."""


def inverse_of(divisor: NDArray[Any]) -> NDArray[Any] | None:
    """1 / c for a power of two c, if it is one, too: x (1 / c) is the same real number as x / c, and rounded alike; it
    takes a fifth of the time."""
    if divisor.shape != () or divisor.dtype not in _NORMAL:
        return None
    # c = significand 2^exponent
    significand, exponent = math.frexp(divisor)
    if abs(significand) != 0.5 or abs(exponent - 1) > _NORMAL[divisor.dtype]:
        return None
    return np.asarray(1 / divisor, divisor.dtype)


def single_term(fused: bool) -> str:
    """The formula of a matrix product of one term, added to 0 with one rounding (`fused`) or with two, which differ in
    the sign of a product that underflows to 0."""
    if fused:
        return "{y} = call {t} @llvm.fma.{f}({t} {a}, {t} {b}, {t} 0.0)"
    return "{y}.p = fmul {t} {a}, {b}\n  {y} = fadd {t} {y}.p, 0.0"


def short_sum(total: Operand, first: Operand, terms: int, step: int) -> Statement:
    """`total` plus the sum of `terms` numbers, added from the first to the last."""

    def lines(y: str, names: Sequence[str]) -> list[str]:
        before, sum_, *others = names
        made = []
        for number, x in enumerate(others):
            made.append(f"{y}.{number} = fadd {total.type} {sum_}, {x}")
            sum_ = f"{y}.{number}"
        return [*made, f"{y} = fadd {total.type} {before}, {sum_}"]

    numbers = [first._replace(first=first.first + i * step) for i in range(terms)]
    return Statement((total, *numbers), total, lines)


PAIRWISE = 8
"""So many numbers in a row NumPy adds up by halves; fewer one after the other, before they go to the total."""


def ordered_sum(rows: Sequence[Sequence[Operand]], out: Operand) -> Statement:
    """0 plus the sum of each row, one row after the other. The numbers of a row are added as NumPy adds up to 128 in a
    row: fewer than 8 from the first to the last; more in 8 sums, number i to sum i mod 8, which are added in pairs, and
    to that what is left over.
    """

    def lines(y: str, names: Sequence[str]) -> list[str]:
        made: list[str] = []

        def plus(a: str, b: str) -> str:
            made.append(f"{y}.{len(made)} = fadd {out.type} {a}, {b}")
            return f"{y}.{len(made) - 1}"

        total, left = "zeroinitializer", list(names)
        for row in rows:
            numbers, left = left[: len(row)], left[len(row) :]
            whole = len(row) // PAIRWISE * PAIRWISE
            sums = numbers[: min(whole, PAIRWISE)]
            for i in range(PAIRWISE, whole):
                sums[i % PAIRWISE] = plus(sums[i % PAIRWISE], numbers[i])
            while len(sums) > 1:
                sums = [plus(a, b) for a, b in zip(sums[::2], sums[1::2], strict=True)]
            sum_, *others = [*sums, *numbers[whole:]]
            for x in others:
                sum_ = plus(sum_, x)
            total = plus(total, sum_)
        return [*made, f"{y} = bitcast {out.type} {total} to {out.type}"]

    return Statement(tuple(number for row in rows for number in row), out, lines)


def product(
    factors: Sequence[tuple[Operand, Operand]], out: Operand, *, fused: bool, zero_last: bool = False
) -> Statement:
    """0 plus the product of each pair of factors, one after the other; a product is rounded before it is added or not
    (`fused`). `zero_last`: 0 is added after them as well."""
    t, f = (out.type, "f64" if out.type == "double" else "f32")

    def lines(y: str, names: Sequence[str]) -> list[str]:
        made, total = [], "zeroinitializer"
        for k, (x, w) in enumerate(zip(names[::2], names[1::2], strict=True)):
            if fused:
                made.append(f"{y}.{k} = call {t} @llvm.fma.{f}({t} {x}, {t} {w}, {t} {total})")
            else:
                made += [f"{y}.p{k} = fmul {t} {x}, {w}", f"{y}.{k} = fadd {t} {total}, {y}.p{k}"]
            total = f"{y}.{k}"
        if zero_last:
            made.append(f"{y}.z = fadd {t} {total}, zeroinitializer")
            total = f"{y}.z"
        return [*made, f"{y} = bitcast {t} {total} to {t}"]

    return Statement(tuple(factor for pair in factors for factor in pair), out, lines)


class Kernel(NamedTuple):
    """A function with the signature of NumPy's inner loops, without an address in it: loops of the same kind on other
    memory are the same kernel.

    Attributes:
        text: its definition, in which @kernel, !group, !loop and !accesses stand for names.
        operands: in the order in which it takes them.
    """

    text: str
    operands: tuple[Operand, ...]


def kernel(
    sizes: Sequence[int], statements: Sequence[Statement], unread: Collection[int] = (), *, wide: bool = False
) -> Kernel:
    """All statements at every place, the last axis innermost. A single axis may have any size: `dims[0]`.

    What a statement has computed stays in a register for those after it: two operands are the same numbers, or lie
    apart. Results that begin at an address in `unread` are for these statements alone and are not stored.

    `wide`: whether to take the widest vectors; the translator's own choice for a processor may be shorter.
    """
    operands = dict.fromkeys(operand for statement in statements for operand in (*statement.operands, statement.out))
    places = {operand: place for place, operand in enumerate(operands)}
    depth = len(sizes)
    ends = ["%n"] if depth == 1 else [str(size) for size in sizes]
    width = f' "prefer-vector-width"="{WIDEST}"' if wide else ""
    lines = [f"define void @kernel(ptr %args, ptr %dims, ptr %steps, ptr %data){width} {{"]
    lines += ["entry:", "%n = load i64, ptr %dims"]
    for place in places.values():
        lines += [f"%q{place} = getelementptr ptr, ptr %args, i64 {place}", f"%p{place} = load ptr, ptr %q{place}"]
    # The same number at every place, and nobody writes it: it is read once.
    written = {statement.out.first for statement in statements}
    same = {
        operand: f"%s{places[operand]}" for operand in places if not any(operand.steps) and operand.first not in written
    }
    lines += [f"{name} = load {operand.type}, ptr %p{places[operand]}, align 1" for operand, name in same.items()]
    lines.append("br label %axis0")
    for axis in range(depth):
        before = "entry" if axis == 0 else f"axis{axis - 1}"
        lines += [f"axis{axis}:", f"%i{axis} = phi i64 [0, %{before}], [%n{axis}, %next{axis}]"]
        if axis < depth - 1:
            lines.append(f"br label %axis{axis + 1}")
    lines += [*_body(places, statements, same, unread), f"br label %next{depth - 1}"]
    # Whatever the addresses: no place of the innermost axis needs what another has written.
    independent = all(statement.out.steps[-1] for statement in statements)
    for axis in reversed(range(depth)):
        after = f"next{axis - 1}" if axis else "done"
        mark = ", !llvm.loop !loop" if axis == depth - 1 and independent else ""
        lines += [
            f"next{axis}:",
            f"%n{axis} = add nuw nsw i64 %i{axis}, 1",
            f"%c{axis} = icmp ult i64 %n{axis}, {ends[axis]}",
            f"br i1 %c{axis}, label %axis{axis}, label %{after}{mark}",
        ]
    lines += ["done:", "ret void", "}"]
    lines += ["!group = distinct !{}", "!loop = distinct !{!loop, !accesses}"]
    lines.append('!accesses = !{!"llvm.loop.parallel_accesses", !group}')
    return Kernel("\n".join(lines), tuple(places))


def _body(
    places: dict[Operand, int], statements: Sequence[Statement], known: dict[Operand, str], unread: Collection[int]
) -> list[str]:
    """`known`: operands that have been read."""
    lines: list[str] = []
    for operand, place in places.items():
        offset = "0"
        for axis, step in enumerate(operand.steps):
            if step:
                lines += [f"%m{place}.{axis} = mul i64 %i{axis}, {step}"]
                lines += [f"%o{place}.{axis} = add i64 {offset}, %m{place}.{axis}"]
                offset = f"%o{place}.{axis}"
        lines.append(f"%a{place} = getelementptr i8, ptr %p{place}, i64 {offset}")
    last = {statement.out: number for number, statement in enumerate(statements)}
    for number, statement in enumerate(statements):
        for operand in statement.operands:
            if operand not in known:
                place = places[operand]
                known[operand] = f"%x{place}.{number}"
                lines.append(
                    f"{known[operand]} = load {operand.type}, ptr %a{place}, align 1, !llvm.access.group !group"
                )
        y, out = f"%y{number}", statement.out
        lines += statement.lines(y, [known[operand] for operand in statement.operands])
        # (what was read there in another type is no longer there)
        known = {operand: name for operand, name in known.items() if operand.first != out.first} | {out: y}
        if last[out] == number and out.first not in unread:
            lines.append(f"store {out.type} {y}, ptr %a{places[out]}, align 1, !llvm.access.group !group")
    return lines
