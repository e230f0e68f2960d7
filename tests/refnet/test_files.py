"""A file is replaced whole or not at all."""

import os
import signal
import stat
import subprocess
import sys
import textwrap

import pytest

from refnet.files import write_bytes


def test_a_new_file_and_an_old_one(tmp_path):
    path = tmp_path / "x"
    for content in (b"first", b"", b"second" * 1000):
        write_bytes(path, content)
        assert path.read_bytes() == content
    write_bytes(str(path), b"third")
    assert path.read_bytes() == b"third"
    assert os.listdir(tmp_path) == ["x"]


def test_a_name_as_long_as_the_file_system_allows(tmp_path):
    path = tmp_path / ("x" * os.pathconf(tmp_path, "PC_NAME_MAX"))
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize(
    ("name", "error"), [("missing/x", FileNotFoundError), ("", IsADirectoryError), ("file/x", NotADirectoryError)]
)
def test_a_place_that_cannot_be_written_to_is_named(tmp_path, name, error):
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(error) as raised:
        write_bytes(tmp_path / name, b"new")
    assert raised.value.filename == str(tmp_path / name)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("operation", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "Ctrl-C"])
def test_what_goes_wrong_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, operation, error):
    path = tmp_path / "x"
    write_bytes(path, b"old")

    def fails(*_, **__):
        raise error

    monkeypatch.setattr(os, operation, fails)
    with pytest.raises(type(error)) as raised:
        write_bytes(path, b"new")
    if isinstance(error, OSError):
        assert str(raised.value) == f"[Errno 28] No space left on device: {str(path)!r}"
    assert os.listdir(tmp_path) == ["x"]
    assert path.read_bytes() == b"old"


def test_killed_before_the_renaming_the_old_file_is_whole(tmp_path):
    """SIGKILL removes nothing: a file under a temporary name stays."""
    path = tmp_path / "x"
    write_bytes(path, b"old")
    code = f"""
        import os, signal
        from refnet.files import write_bytes
        os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
        write_bytes({str(path)!r}, b"half")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"


def test_permissions(tmp_path):
    """Of a new file those of any new file; a file that is replaced keeps its own."""
    path = tmp_path / "x"
    before = os.umask(0o027)
    try:
        write_bytes(path, b"new")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o600)
        write_bytes(path, b"newer")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_a_link_stays_one(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)
    for content in (b"new", b"newer"):
        write_bytes(link, content)
        assert link.is_symlink()
        assert target.read_bytes() == content


def test_a_device_and_a_pipe_are_written_to():
    write_bytes(os.devnull, b"new")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    read, write = os.pipe()
    write_bytes(f"/dev/fd/{write}", b"through")
    os.close(write)
    assert os.read(read, 100) == b"through"
    os.close(read)
