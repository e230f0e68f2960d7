"""Kept files: what is read is what was written, or it is refused in words."""

import json
import os
import stat
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from parity.records.record import UsageError
from parity.vectors import store

ARRAYS = {
    "a/hi": np.array([[1.0, -0.0], [np.inf, 5e-324]]),
    "a/undecided": np.array([0, 1], np.uint8),
    "0d": np.array(2.5, np.float32),
    "empty": np.zeros((0, 3)),
}
METADATA = {"about": "a test", "zeta": "2", "alpha": "1"}


@pytest.fixture
def folder(tmp_path):
    store.write("answers", ARRAYS, METADATA, tmp_path)
    return tmp_path


def refused(folder, name="answers"):
    """The one line that a refusal says."""
    with pytest.raises(UsageError) as caught:
        store.read(name, folder)
    message = str(caught.value)
    assert "\n" not in message
    assert "expected" in message
    assert "got" in message
    assert "Reinstall the package" in message
    return message


def edit_manifest(folder, **changes):
    path = folder / store.MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# ---- right files


def test_what_is_read_is_what_was_written(folder):
    arrays, metadata = store.read("answers", folder)
    assert metadata == METADATA
    # In an order of their own, not in that of a hash map.
    assert list(arrays) == sorted(ARRAYS)
    for name, array in ARRAYS.items():
        assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape)
        assert arrays[name].tobytes() == array.tobytes()
    assert store.names(folder) == ["answers"]


def test_the_same_content_gives_the_same_bytes(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    turned = {name: np.asarray(ARRAYS[name], order="F") for name in reversed(ARRAYS)}
    store.write("answers", turned, dict(reversed(METADATA.items())), other)
    for name in ("answers.safetensors", store.MANIFEST):
        assert (folder / name).read_bytes() == (other / name).read_bytes()


def test_several_files_and_writing_one_again(folder):
    store.write("more", {"x": np.ones(2)}, {}, folder)
    store.write("answers", {"x": np.zeros(2)}, {}, folder)
    assert store.names(folder) == ["answers", "more"]
    assert store.read("more", folder)[0]["x"].tolist() == [1, 1]
    assert store.read("answers", folder) == ({"x": pytest.approx(np.zeros(2))}, {})
    assert sorted(p.name for p in folder.iterdir()) == ["MANIFEST.json", "answers.safetensors", "more.safetensors"]


def test_no_manifest_is_no_files(tmp_path):
    assert store.names(tmp_path) == []


def test_the_packages_own_files_are_sound():
    assert "linear" in store.names()
    for name in store.names():
        store.read(name)


# ---- files that are refused


def test_missing(folder):
    (folder / "answers.safetensors").unlink()
    message = refused(folder)
    assert message.startswith("answers.safetensors: expected a readable file, got: No such file")
    assert message.endswith("or compute it again with: parity certify")


def test_unlisted(folder):
    message = refused(folder, "others")
    assert message.startswith("others.safetensors: expected one of the files in MANIFEST.json (answers), got others")


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: b"",
        lambda content: content + b"\0",
        lambda content: content[:-8] + bytes(8),
        lambda content: content.replace(b"a test", b"a jest"),
    ],
    ids=["last byte", "half", "all", "longer", "a number", "a word"],
)
def test_truncated_corrupt_or_edited(folder, damage):
    path = folder / "answers.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    message = refused(folder)
    assert message.startswith("answers.safetensors: expected SHA-256 ")
    assert "truncated, corrupt or edited" in message


@pytest.mark.parametrize("content", [b"", b"not safetensors", b"\xff" * 64, (2**62).to_bytes(8, "little") + b"{}"])
def test_what_is_no_safetensors_file_though_its_checksum_is_right(folder, content):
    import hashlib

    (folder / "answers.safetensors").write_bytes(content)
    edit_manifest(folder, files={"answers": hashlib.sha256(content).hexdigest()})
    assert refused(folder).startswith("answers.safetensors: expected a safetensors file, got: ")


def test_another_version(folder):
    edit_manifest(folder, version=2)
    assert refused(folder).startswith("MANIFEST.json: expected version 1 of the format refnet-vectors, got 2")
    with pytest.raises(UsageError, match="expected version 1"):
        store.names(folder)
    with pytest.raises(UsageError, match="expected version 1"):
        store.write("more", {}, {}, folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected JSON, got: "),
        ("{", "expected JSON, got: "),
        ("[]", "expected the format refnet-vectors, got []"),
        ('{"format": "other"}', "expected the format refnet-vectors, got {'format': 'other'}"),
        ('{"format": "refnet-vectors", "version": 1}', "expected the SHA-256 of each file under files, got None"),
    ],
)
def test_a_manifest_that_is_none(folder, content, message):
    (folder / store.MANIFEST).write_text(content)
    assert refused(folder).startswith(f"MANIFEST.json: {message}")


def test_a_manifest_that_is_no_text_or_no_file(folder):
    path = folder / store.MANIFEST
    path.write_bytes(b"\xff\xfe\x00")
    assert refused(folder).startswith("MANIFEST.json: expected JSON")
    path.unlink()
    assert refused(folder).startswith("MANIFEST.json: expected a readable file, got: No such file")
    path.mkdir()
    assert refused(folder).startswith("MANIFEST.json: expected a readable file, got: Is a directory")


# ---- writing


def test_a_place_that_cannot_be_written_to(tmp_path):
    for place, why in (
        (tmp_path / "missing" / "x", "No such file or directory"),
        (tmp_path, "Is a directory"),
    ):
        with pytest.raises(UsageError, match=f"{place}: expected a place to write to, got: {why}"):
            store.replace(place, b"new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(folder):
    folder.chmod(0o500)
    try:
        with pytest.raises(UsageError, match="expected a place to write to, got: Permission denied"):
            store.write("answers", {}, {}, folder)
    finally:
        folder.chmod(0o700)
    assert store.read("answers", folder)[1] == METADATA


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_else(folder, monkeypatch, step):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*{"fsync": (os, "fsync", full), "replace": (os, "rename", full)}[step])
    monkeypatch.setattr(store.Path, "replace", full) if step == "replace" else None
    with pytest.raises(UsageError, match="No space left on device"):
        store.write("answers", {"x": np.ones(1)}, {}, folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_an_interruption_leaves_the_old_file_and_nothing_else(folder, monkeypatch):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def interrupted(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.write("answers", {"x": np.ones(1)}, {}, folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_killed_before_the_renaming_the_old_file_is_whole(folder):
    """SIGKILL removes nothing: a file under a temporary name stays, which no reader looks at."""
    code = f"""
        import os, signal
        from pathlib import Path
        from parity.vectors import store
        os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
        store.replace(Path({str(folder / "answers.safetensors")!r}), b"half")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert done.returncode == -9
    assert store.read("answers", folder)[1] == METADATA
    assert len(list(folder.iterdir())) == 3


def test_permissions_are_those_of_any_new_file(tmp_path):
    before = os.umask(0o027)
    try:
        store.replace(tmp_path / "x", b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640


def test_a_link_stays_one_and_a_pipe_is_written_to(tmp_path):
    target = tmp_path / "target"
    target.write_bytes(b"old")
    link = tmp_path / "link"
    link.symlink_to(target)
    store.replace(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    store.replace(store.Path(os.devnull), b"new")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
