"""Records and answers as JSON, for engines in other languages and for files. `docs/vectors.md` describes the form.

What is read comes from a stranger: nothing is allocated that was only announced, and what does not fit raises
`Malformed` with what was expected and what came.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from parity.records.record import VJP, Answer, Array, Optimize, Record, Spec, Train, UsageError

DTYPES = ("float64", "float32", "int64", "bool")
"""The dtypes that arrays may have."""

ENCODINGS = ("hex", "base64")
"""How an array's elements may be written; `decimal` is read too."""

FORMATS = ("float64", "float32", "tf32", "bfloat16", "float16")
"""The number formats in which an engine may add or multiply."""

RANK = 16
"""The most axes of an array."""

_HEX = re.compile(r"[+-]?(0x[0-9a-f]+(\.[0-9a-f]*)?(p[+-]?[0-9]{1,6})?|inf|infinity|nan)", re.IGNORECASE)
_DECIMAL = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?(e[+-]?[0-9]{1,6})?|inf|infinity|nan)", re.IGNORECASE)
_TRAILING_ZEROS = re.compile(r"\.?0*p")
_LONGEST = 1_000


class Malformed(ValueError):
    """What was read is no JSON, or not of the form that was expected."""


def loads(text: str | bytes) -> Any:
    """JSON as RFC 8259 has it: no NaN, no name twice in one object."""
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except (ValueError, RecursionError) as error:
        if isinstance(error, Malformed):
            raise
        came = f": {brief(str(error))}" if text.strip() else " nothing: it is empty"
        raise Malformed(f"expected JSON, got{came}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        raise Malformed(f"expected each name once, got {brief(next(n for n in names if names.count(n) > 1))} twice")
    return made


def _constant(name: str) -> Any:
    raise Malformed(f"expected JSON, which has no {name}; write it as a string")


def brief(value: object) -> str:
    """Anyone's value as a few printable characters."""
    text = "".join(c if c.isprintable() else " " for c in (value if isinstance(value, str) else repr(value)[:200]))
    return text if len(text) <= 80 else f"{text[:77]}..."


def member(document: Any, name: str, kind: type, where: str, default: Any = None) -> Any:
    """A member of a JSON object, of that type; the default where it is absent and there is one."""
    if not isinstance(document, Mapping):
        raise Malformed(f"{where}: expected an object, got {type(document).__name__}")
    if name not in document and default is not None:
        return default
    found = document.get(name)
    if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
        came = "nothing" if name not in document else brief(found)
        raise Malformed(f"{where}: expected {name} ({kind.__name__}), got {came}")
    return found


Made = TypeVar("Made")


def read(file: Path, most: int, made_of: Callable[[Any], Made]) -> Made:
    """What is made of the JSON in a file of at most so many bytes.

    Raises:
        UsageError: it can't be read, is larger, or is not what is expected (`made_of` raises `Malformed`).
    """
    try:
        size = file.stat().st_size
        if size > most:
            raise UsageError(f"{file}: expected at most {most:,} bytes, got {size:,}")
        with file.open("rb") as stream:
            content = stream.read(most + 1)
    except OSError as error:
        raise UsageError(f"{file}: expected a readable file, got: {error.strerror}") from None
    try:
        return made_of(loads(content))
    except Malformed as error:
        raise UsageError(f"{file}: {error}") from None


def expect_format(document: Any, name: str, version: int) -> None:
    """Refuse a file of another format, or of another version of it."""
    if member(document, "format", str, "the file") != name:
        raise Malformed(f"expected the format {name}, got {brief(document['format'])}")
    if member(document, "version", int, "the file") != version:
        raise Malformed(f"expected version {version} of the format {name}, got {document['version']}")


def profile_arguments(profiles: Any, dtype: str) -> tuple[str | None, str | None]:
    """What an engine says of its accumulator, and of the factors of its products, in a dtype."""
    of = member(profiles, dtype, dict, "profiles", {})
    if not of.keys() <= {"accumulator", "product"}:
        raise Malformed(f"profiles: expected accumulator and product of {dtype}, got {brief(of)}")
    for name in of.values():
        if name not in FORMATS:
            raise Malformed(f"profiles: expected formats among {', '.join(FORMATS)}, got {brief(name)}")
    return of.get("accumulator"), of.get("product")


# ---- arrays


def encode_array(
    array: Array, encoding: str = "hex", decimals: bool = False, largest: int | None = None
) -> dict[str, Any]:
    """An array as an object of dtype, shape and elements in C order, whatever its layout in memory.

    Args:
        largest: an array of more elements stands as itself under `tensor`, for whoever keeps it elsewhere.
    """
    array = np.asarray(array)
    dtype = str(array.dtype)
    if dtype not in DTYPES:
        raise ValueError(f"encode_array: expected a dtype among {', '.join(DTYPES)}, got {dtype}")
    made: dict[str, Any] = {"dtype": dtype, "shape": list(array.shape)}
    if largest is not None and array.size > largest:
        return made | {"tensor": array}
    if encoding == "base64":
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        return made | {"base64": base64.b64encode(little.tobytes()).decode()}
    if array.dtype.kind != "f":
        return made | {"hex": [int(v) for v in array.flat]}
    made["hex"] = [hexadecimal(v) for v in array.flat]
    if decimals:
        # The shortest decimals that are read as the same number of the dtype.
        made["decimal"] = [str(v) for v in array.reshape(-1)]
    return made


def hexadecimal(value: float) -> str:
    """A float as C's %a prints it, which strtod and every language with hexadecimal floats reads."""
    return _TRAILING_ZEROS.sub("p", float(value).hex())


def decode_array(document: Any, where: str, most: int) -> Array:
    """The array that an object describes, of at most that number of elements.

    Raises:
        Malformed: it describes none.
    """
    dtype = member(document, "dtype", str, where)
    if dtype not in DTYPES:
        raise Malformed(f"{where}: expected a dtype among {', '.join(DTYPES)}, got {brief(dtype)}")
    shape = member(document, "shape", list, where)
    if len(shape) > RANK or any(type(n) is not int or not 0 <= n <= most for n in shape):
        raise Malformed(f"{where}: expected a shape of at most {RANK} sizes from 0 to {most}, got {brief(shape)}")
    count = math.prod(shape)
    if count > most:
        raise Malformed(f"{where}: expected at most {most} elements, got shape {brief(shape)}")
    given = [name for name in (*ENCODINGS, "decimal") if name in document]
    if not given:
        raise Malformed(f"{where}: expected elements as hex, base64 or decimal, got none")
    if given[0] == "base64":
        flat = _from_base64(member(document, "base64", str, where), dtype, count, where)
    else:
        flat = _from_list(member(document, given[0], list, where), given[0], dtype, count, where)
    return flat.reshape(shape)


def _from_base64(text: str, dtype: str, count: int, where: str) -> Array:
    wanted = count * np.dtype(dtype).itemsize
    if len(text) > 4 * wanted + 4:
        raise Malformed(f"{where}: expected {wanted} bytes in base64, got {len(text)} characters")
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed(f"{where}: expected base64, got: {brief(str(error))}") from None
    if len(content) != wanted:
        raise Malformed(f"{where}: expected {wanted} bytes in base64, got {len(content)}")
    if dtype == "bool" and content.strip(b"\0\1"):
        raise Malformed(f"{where}: expected bytes 0 or 1 for bool, got others")
    return np.frombuffer(content, np.dtype(dtype).newbyteorder("<")).astype(dtype)


def _from_list(items: Sequence[Any], form: str, dtype: str, count: int, where: str) -> Array:
    if len(items) != count:
        raise Malformed(f"{where}: expected {count} elements, got {len(items)}")
    if dtype in ("int64", "bool"):
        low, high = (0, 1) if dtype == "bool" else (-(2**63), 2**63 - 1)
        for k, v in enumerate(items):
            if not isinstance(v, int) or not low <= v <= high:
                raise Malformed(f"{where}: expected an integer of {dtype} as element {k}, got {brief(v)}")
        return np.array(items, dtype)
    wide = np.array([_number(v, form, f"{where}: element {k}") for k, v in enumerate(items)], np.float64)
    with np.errstate(over="ignore"):
        made: Array = wide.astype(dtype)
    if form == "hex" and not np.array_equal(made.astype(np.float64), wide, equal_nan=True):
        raise Malformed(f"{where}: expected numbers of {dtype}, got others; round them")
    return made


def _number(value: Any, form: str, where: str) -> float:
    if form == "decimal" and type(value) in (int, float):
        value = repr(value) if abs(value) < 1e308 else str(float(value)) if type(value) is float else ""
    pattern = _HEX if form == "hex" else _DECIMAL
    if not isinstance(value, str) or len(value) > _LONGEST or not pattern.fullmatch(value):
        example = "0x1.8p+0" if form == "hex" else "1.5"
        raise Malformed(f'{where}: expected a number such as "{example}", "inf" or "nan", got {brief(value)}')
    try:
        return float.fromhex(value) if form == "hex" else float(value)
    except OverflowError:
        raise Malformed(f"{where}: expected a number of float64, got {brief(value)}") from None


# ---- records


def encode_spec(spec: Spec) -> dict[str, Any]:
    """A module, loss or optimizer as an object."""
    made: dict[str, Any] = {"type": spec.type, "args": {name: _written(value) for name, value in spec.args.items()}}
    if spec.layers:
        made |= {"layers": [encode_spec(layer) for layer in spec.layers], "places": list(spec.places)}
    return made


def _written(value: Any) -> Any:
    """An argument as JSON has it, which has no infinite numbers."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def encode_record(
    record: Record, encoding: str = "hex", decimals: bool = False, largest: int | None = None
) -> dict[str, Any]:
    """A record as an object; its arrays as `encode_array` has them."""

    def one(array: Array) -> dict[str, Any]:
        return encode_array(array, encoding, decimals, largest)

    def several(arrays: Mapping[str, Array]) -> dict[str, Any]:
        return {name: one(a) for name, a in arrays.items()}

    match record:
        case VJP():
            return {
                "kind": "vjp",
                "dtype": record.dtype,
                "spec": encode_spec(record.spec),
                "training": record.training,
                "arrays": several(record.arrays),
                "inputs": [one(x) for x in record.inputs],
                **({"names": list(record.names)} if record.names else {}),
                "grad_outputs": [one(g) for g in record.grad_outputs],
            }
        case Optimize():
            groups = record.groups and [{"names": list(names), "args": dict(args)} for names, args in record.groups]
            return {
                "kind": "optimize",
                "dtype": record.dtype,
                "spec": encode_spec(record.spec),
                "params": several(record.params),
                "grads": several(record.grads),
                **({"groups": groups} if groups else {}),
                **({"absent": {name: list(at) for name, at in record.absent.items()}} if record.absent else {}),
                **({"indices": several(record.indices)} if record.indices else {}),
                **(
                    {"objective": encode_record(record.objective, encoding, decimals, largest), "times": record.times}
                    if record.objective is not None
                    else {}
                ),
            }
        case Train():
            return {
                "kind": "train",
                "dtype": record.dtype,
                "network": encode_spec(record.network),
                "loss": encode_spec(record.loss),
                "optimizer": encode_spec(record.optimizer),
                "arrays": several(record.arrays),
                "inputs": one(record.inputs),
                "targets": one(record.targets),
                "batches": [[int(k) for k in batch] for batch in record.batches],
                "trainable": list(record.trainable if record.trainable is not None else _weights(record)),
                "state": several(record.state),
                **({"clip": {name: _written(value) for name, value in record.clip.items()}} if record.clip else {}),
                **({"accumulate": record.accumulate} if record.accumulate else {}),
                **({"frozen": dict(record.frozen)} if record.frozen else {}),
                **({"rates": list(record.rates)} if record.rates else {}),
                **({"masks": several(record.masks)} if record.masks else {}),
            }


def _weights(record: Train) -> list[str]:
    """The names of all parameters: what is trained where nothing else is said."""
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    return [name for name in record.arrays if name.rpartition(".")[2] not in buffers]


def elements(record: Record) -> int:
    """At least as many elements as a right answer to the record has, all its tensors together."""
    match record:
        case VJP():
            return sum(a.size for a in (*record.inputs, *record.grad_outputs, *record.arrays.values()))
        case Optimize():
            # An optimizer may keep the last changes of all parameters.
            kept = record.steps * (4 + 2 * record.steps) * (1 + sum(p.size for p in record.params.values()))
            return max(kept, 4 * sum(g.size for g in record.grads.values()))
        case Train():
            return (record.iterations + 1) * (1 + 4 * sum(a.size for a in record.arrays.values()))


def decode_answer(document: Any, record: Record, where: str = "answer") -> Answer:
    """The tensors of an answer to a record, whose size bounds theirs."""
    if not isinstance(document, Mapping):
        raise Malformed(f"{where}: expected an object of tensors, got {type(document).__name__}")
    most = 2 * elements(record) + 1_000
    answer: Answer = {}
    for name, tensor in document.items():
        if len(name) > 200:
            raise Malformed(f"{where}: expected names of at most 200 characters, got {brief(name)}")
        answer[name] = decode_array(tensor, f"{where}: {brief(name)}", most)
        most -= answer[name].size
        if most < 0 or len(answer) > 1_000:
            raise Malformed(f"{where}: expected the tensors that were asked for, got many more elements")
    return answer
