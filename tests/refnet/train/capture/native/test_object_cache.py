"""What was translated is kept on disk: taken from there with the same bits, and only if it is whole and the user's."""

import ctypes
import os
import subprocess
import sys
import textwrap

import pytest

from refnet.train.capture.native import object_cache, translator

pytest.importorskip("llvmlite")

TEXTS = [f"; {number}\ndefine void @kernel() {{ ret void }}" for number in range(6)]

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty cache, and a process that has translated nothing yet."""
    monkeypatch.setenv("REFNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(translator, "_known", {})
    return tmp_path / "cache"


@pytest.fixture
def compiled(monkeypatch):
    """The modules that were translated."""
    sources, true = [], translator.compiled
    monkeypatch.setattr(translator, "compiled", lambda source: sources.append(source) or true(source))
    return sources


def translate(texts=TEXTS):
    """As another process would: nothing is known; how many kernels were missing on disk."""
    translator._known.clear()
    absent = translator.missing(texts)
    found = translator.translated(texts, float("inf"), lambda: False)
    assert list(found) == list(texts)
    assert all(address for address, _ in found.values())
    return absent


def test_another_process_translates_nothing(folder, compiled):
    assert translate() == len(TEXTS)
    assert len(compiled) == 2
    assert len(list(folder.iterdir())) == len(TEXTS)
    assert translate() == 0
    assert len(compiled) == 2


def test_kernels_are_found_one_by_one(folder, compiled):
    translate(TEXTS[:3])
    assert translate(TEXTS[2:]) == 3


def test_files_that_hold_the_same_kernel(folder):
    # Each file holds all that was translated at once: the second kernel is in two of them.
    texts = [f"define void @kernel(ptr %to) {{\nstore i64 {n}, ptr %to\nret void\n}}" for n in (3, 5, 7)]
    translate(texts[:2])
    (folder / translator._key(texts[1])).unlink()
    translate(texts[1:])
    assert translate(texts) == 0
    for text, number in zip(texts, (3, 5, 7), strict=True):
        written = ctypes.c_int64()
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(translator.known()[text][0])(ctypes.addressof(written))
        assert written.value == number


DAMAGES = {
    "empty": lambda content: b"",
    "cut": lambda content: content[:-1],
    "longer": lambda content: content + b"\0",
    "one bit": lambda content: content[:-40] + bytes([content[-40] ^ 1]) + content[-39:],
    "another format": lambda content: b"R" + content[1:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_made_anew(damage, folder):
    translate()
    for file in folder.iterdir():
        file.write_bytes(DAMAGES[damage](file.read_bytes()))
    assert translate() == len(TEXTS)
    assert translate() == 0


def test_a_file_under_another_name_is_not_taken(folder):
    translate(TEXTS[:2])
    first, second = folder.iterdir()
    first.write_bytes(second.read_bytes())
    assert translate(TEXTS[:2]) == 1


@posix
def test_only_what_nobody_else_can_write_is_taken(folder):
    translate()
    file = next(folder.iterdir())
    file.chmod(0o666)
    assert translate() == 1
    folder.chmod(0o777)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert translate() == len(TEXTS)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@posix
def test_a_link_is_not_followed(folder, tmp_path):
    translate(TEXTS[:1])
    (file,) = folder.iterdir()
    elsewhere = file.rename(tmp_path / "elsewhere")
    file.symlink_to(elsewhere)
    assert translate(TEXTS[:1]) == 1


@posix
def test_files_of_another_user_are_not_taken(folder, monkeypatch):
    translate()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert translate() == len(TEXTS)


def test_it_can_be_turned_off(folder, monkeypatch):
    monkeypatch.setenv("REFNET_CACHE", "0")
    translate()
    assert translate() == len(TEXTS)
    assert not folder.exists()


def test_a_folder_that_cannot_be_made_is_no_error(folder):
    folder.write_bytes(b"a file")
    translate()
    assert translate() == len(TEXTS)


def test_the_oldest_go(folder, monkeypatch):
    monkeypatch.setattr(object_cache, "MOST", 4)
    translate()
    kept = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime)
    for age, path in enumerate(kept):
        os.utime(path, (age, age))
    monkeypatch.setattr(object_cache, "_counted", False)
    object_cache.keep("new", b"code")
    assert {path.name for path in folder.iterdir()} == {path.name for path in kept[3:]} | {"new"}


def test_the_place_is_the_systems(monkeypatch, tmp_path):
    monkeypatch.delenv("REFNET_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert object_cache.folder() == tmp_path / "refnet"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert object_cache.folder().parts[-2:] == (".cache", "refnet")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert object_cache.folder().parts[-3:] == ("Library", "Caches", "refnet")


PROGRAM = textwrap.dedent("""
    import hashlib
    import numpy as np
    import refnet
    from refnet import nn, optim
    from refnet.train.capture import captured
    from refnet.train.capture.native import translator

    captured.PAID_BACK = float("inf")
    made, compiled = [], translator.compiled
    translator.compiled = lambda source: made.append(source) or compiled(source)
    g = refnet.Generator(0)
    net = nn.Sequential(nn.Linear(3, 4, generator=g), nn.Sigmoid(), nn.Linear(4, 2, generator=g))
    opt = optim.Adam(net.params)
    X, T = g.rand((5, 3), dtype=float), g.rand((5, 2), dtype=float)
    history = refnet.fit(net, nn.MSELoss(), opt, X, T, batch_size=2, iterations=200, generator=g)
    assert not history.why_not_native, history.why_not_native
    weights = b"".join(array.tobytes() for array in net.params.values())
    print(len(made), hashlib.sha256(weights + history.loss.tobytes()).hexdigest())
""")


def test_a_training_in_two_processes(tmp_path):
    told = []
    for where in (str(tmp_path), str(tmp_path), "0"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "REFNET_CACHE": where},
        )
        told.append(done.stdout.split())
    assert [int(made) > 0 for made, _ in told] == [True, False, True]
    assert len({bits for _, bits in told}) == 1
