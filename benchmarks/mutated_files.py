"""Mutated files of vectors and of answers: each gives a verdict or one clear line, and nothing else.

    python -m benchmarks.mutated_files --out benchmarks/results/mutated-files.json

Vectors are the package's own files and their manifest, as `parity run` reads them; answers are a file as `parity judge`
reads it. The mutations are fixed by the seed.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from parity.engines.refnet import RefnetEngine
from parity.families.listing import catalogue
from parity.records.encoding import encode_array
from parity.records.record import VJP, UsageError
from parity.run.judging_answers import judge_one, tasks
from parity.vectors import store
from refnet.files import write_bytes

FILE = "relu"
"""The file of vectors that is mutated: one of the smaller."""

NAMES = ("ReLU/moderate", "Linear/batch 3", "ReLU/no axes")

TOKENS = (b"null", b"true", b"-1", b"1e999", b"9" * 400, b'"nan"', b"NaN", b"[]", b"{}", b'"', b"\\", b"\0", b"\xff")


def mutated(content: bytes, draws: random.Random) -> bytes:
    """The content with one to three changes: bytes flipped, cut, doubled, put elsewhere, or replaced by tokens."""
    made = bytearray(content)
    for _ in range(draws.randint(1, 3)):
        a, b = sorted((draws.randrange(len(made) + 1), draws.randrange(len(made) + 1)))
        b = min(b, a + draws.choice((1, 8, 64, len(made))))
        match draws.randrange(6):
            case 0 if made:
                made[a % len(made)] ^= 1 << draws.randrange(8)
            case 1:
                del made[a:b]
            case 2:
                made[a:a] = made[a:b]
            case 3:
                made[a:a] = draws.choice(TOKENS)
            case 4:
                made[a : a + 4] = draws.choice(TOKENS)
            case _:
                # A number, where there is one: sizes, versions and offsets are what a reader trusts most.
                digits = [k for k, byte in enumerate(made) if 48 <= byte <= 57]
                if digits:
                    made[draws.choice(digits)] = 48 + draws.randrange(10)
        if not made:
            made = bytearray(b" ")
    return bytes(made)


def good_answers() -> bytes:
    """refnet's own answers to some records."""
    entries = []
    for case in catalogue():
        if case.name not in NAMES:
            continue
        for family in case.families:
            record = case.record(family, "float64")
            assert isinstance(record, VJP)
            answer = {name: encode_array(a) for name, a in RefnetEngine().vjp(record).items()}
            entries.append({"case": case.name, "family": family, "dtype": "float64", "answer": answer})
    document = {"format": "parity-answers", "version": 1, "engine": "mutated", "answers": entries}
    return json.dumps(document).encode()


def outcome(read: Callable[[], str]) -> str:
    """What came of a file: verdicts, or one line; anything else is told as it is."""
    try:
        return read()
    except UsageError as error:
        line = str(error)
        return "one line" if line.isprintable() and len(line) < 2_000 else f"an unclear line: {line[:200]!r}"
    except Exception as error:
        return f"raised {type(error).__name__}: {str(error)[:200]}"


def read_answers(content: bytes, folder: Path) -> str:
    file = folder / "answers.json"
    file.write_bytes(content)
    results = [judge_one(task) for task in tasks(file)]
    for result in results:
        for verdict in result.verdicts:
            if not verdict.reason.isprintable() or len(verdict.reason) > 2_000:
                return f"an unclear reason: {verdict.reason[:200]!r}"
    return "verdicts: " + ("all right" if all(r.conforms for r in results) else "some fail")


def read_vectors(content: bytes, folder: Path, name: str) -> str:
    good = {p: (store.FOLDER / p).read_bytes() for p in (f"{FILE}.safetensors", store.MANIFEST)}
    for file, own in {**good, name: content}.items():
        (folder / file).write_bytes(own)
    if name != store.MANIFEST:
        # With a sum that fits, so that more than the sum is tried.
        manifest = json.loads(good[store.MANIFEST])
        manifest["files"][FILE] = sha256(content).hexdigest()
        (folder / store.MANIFEST).write_text(json.dumps(manifest))
    arrays, _ = store.read(FILE, folder)
    right, _ = store.read(FILE)
    same = arrays.keys() == right.keys() and all(arrays[n].tobytes() == a.tobytes() for n, a in right.items())
    if not same and name == store.MANIFEST:
        raise AssertionError("expected other arrays to be refused")
    return f"read: {'unchanged' if same else 'other arrays'}"


def run(count: int, seed: int = 0) -> dict[str, dict[str, int]]:
    """How mutated files end, by how many: half of them answers, a quarter vectors, a quarter their manifest."""
    draws = random.Random(seed)
    sources = {
        "answers": good_answers(),
        f"{FILE}.safetensors": (store.FOLDER / f"{FILE}.safetensors").read_bytes(),
        store.MANIFEST: (store.FOLDER / store.MANIFEST).read_bytes(),
    }
    found: dict[str, Counter[str]] = {name: Counter() for name in sources}
    with TemporaryDirectory() as place:
        folder = Path(place)
        for k in range(count):
            name = ("answers", f"{FILE}.safetensors", "answers", store.MANIFEST)[k % 4]
            content = mutated(sources[name], draws)

            def read(name: str = name, content: bytes = content) -> str:
                if name == "answers":
                    return read_answers(content, folder)
                return read_vectors(content, folder, name)

            found[name][outcome(read)] += 1
    return {name: dict(sorted(counts.items())) for name, counts in found.items()}


@click.command()
@click.option("--count", type=click.IntRange(min=4), default=10_000, show_default=True, help="Files to try.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write the results as JSON.")
def main(count: int, seed: int, out: Path | None) -> None:
    """Mutate files of vectors and answers, and see what comes of reading them."""
    start = time.perf_counter()
    found = run(count, seed)
    document = {"files": count, "seed": seed, "outcomes": found, "seconds": round(time.perf_counter() - start, 1)}
    text = json.dumps(document, indent=1) + "\n"
    if out:
        write_bytes(out, text.encode())
    click.echo(text, nl=False)
    ends = {end for counts in found.values() for end in counts}
    if any(not end.startswith(("one line", "verdicts: ", "read: ")) for end in ends):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
