"""State files: what goes in comes out, bit for bit; what is damaged, foreign or executable does not."""

import io
import os
import pathlib
import sys
import time
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch

from refnet.state import load, save

SUFFIXES = (".npz", ".safetensors")
DTYPES = ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")


def state():
    rng = np.random.default_rng(0)
    return {
        "0.weight": rng.standard_normal((3, 4)),
        "0.bias": rng.standard_normal(3).astype(np.float32),
        "num_batches_tracked": np.array(7),
        "empty": np.empty((0, 3)),
        "special": np.array([np.nan, -np.inf, -0.0, 5e-324]),
        "file": np.arange(3),
    }


def assert_same(actual, expected):
    assert sorted(actual) == sorted(expected)
    for name, value in expected.items():
        assert (actual[name].dtype, actual[name].shape) == (value.dtype, value.shape), name
        assert actual[name].tobytes() == np.asarray(value).tobytes(), name


@pytest.fixture(params=SUFFIXES)
def path(request, tmp_path):
    return tmp_path / f"state{request.param}"


def test_what_is_saved_is_loaded(path):
    save(state(), path)
    assert_same(load(path), state())
    assert_same(load(str(path)), state())
    assert os.listdir(path.parent) == [path.name]


def test_an_empty_state(path):
    save({}, path)
    assert load(path) == {}


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(path, dtype):
    value = np.arange(6).reshape(2, 3).astype(dtype)
    save({"x": value}, path)
    assert_same(load(path), {"x": value})


def test_arrays_of_any_layout_and_byte_order(path):
    base = np.arange(24.0).reshape(4, 6)
    odd = {
        "transposed": base.T,
        "strided": base[::2, ::-3],
        "fortran": np.asfortranarray(base),
        "broadcast": np.broadcast_to(base[0], (3, 6)),
        "scalar": np.float32(0.1),
        "0-d view": base[1, 2, ...],
    }
    save({**odd, "foreign": base.astype(">f8")}, path)
    assert_same(load(path), {**odd, "foreign": base})


def test_loaded_arrays_can_be_written_and_are_apart(path):
    save({"a": np.zeros(3), "b": np.zeros(3), "c": np.array(0.0)}, path)
    loaded = load(path)
    loaded["a"][...] = 1
    loaded["c"][...] = 1
    assert loaded["b"].tolist() == [0, 0, 0]


def test_the_same_state_gives_the_same_bytes_at_any_time(path, monkeypatch):
    save(state(), path)
    first = path.read_bytes()
    monkeypatch.setattr(time, "time", lambda: 1e9)
    save(state(), path)
    assert path.read_bytes() == first


def test_npz_is_numpys(tmp_path):
    save(state(), tmp_path / "ours.npz")
    with np.load(tmp_path / "ours.npz", allow_pickle=False) as archive:
        assert_same(dict(archive), state())
    for write in (np.savez, np.savez_compressed):
        write(tmp_path / "theirs.npz", **{name: value for name, value in state().items() if name != "file"})
        assert_same({**load(tmp_path / "theirs.npz"), "file": np.arange(3)}, state())


def test_safetensors_goes_to_torch_and_back(tmp_path):
    net = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 2), torch.nn.BatchNorm2d(3))
    safetensors.torch.save_file(net.state_dict(), tmp_path / "theirs.safetensors")
    loaded = load(tmp_path / "theirs.safetensors")
    assert_same(loaded, {name: tensor.numpy() for name, tensor in net.state_dict().items()})

    save({name: value * 2 for name, value in loaded.items()}, tmp_path / "ours.safetensors")
    doubled = safetensors.torch.load_file(tmp_path / "ours.safetensors")
    assert sorted(doubled) == sorted(net.state_dict())
    assert all(torch.equal(doubled[name], tensor * 2) for name, tensor in net.state_dict().items())
    net.load_state_dict(doubled)


# Refusals


@pytest.mark.parametrize("name", ["state.pt", "state", "state.npy", ".npz"])
def test_another_suffix_is_refused(tmp_path, name):
    for operation, call in (("save", lambda path: save({}, path)), ("load", load)):
        with pytest.raises(ValueError, match=rf"{operation} expected a path that ends in .npz or .safetensors, got"):
            call(tmp_path / name)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"x": np.array([None])}, ValueError, "as 'x', got object"),
        ({"x": np.array(["a"])}, ValueError, "as 'x', got <U1"),
        ({"x": np.zeros(1, complex)}, ValueError, "as 'x', got complex128"),
        ({"x": np.zeros(1, "f8,f8")}, ValueError, "as 'x', got"),
        ({"x": [1.0]}, TypeError, "expected an array as 'x', got list"),
        ({"x": torch.zeros(1)}, TypeError, "expected an array as 'x', got Tensor"),
        ({3: np.zeros(1)}, TypeError, "expected names that are strings, got int 3"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused_and_the_old_file_stays(path, bad, error, message):
    save({"x": np.ones(1)}, path)
    with pytest.raises(error, match=message):
        save(bad, path)
    assert os.listdir(path.parent) == [path.name]
    assert_same(load(path), {"x": np.ones(1)})


def test_the_name_that_safetensors_keeps_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'__metadata__'"):
        save({"__metadata__": np.ones(1)}, tmp_path / "x.safetensors")
    save({"__metadata__": np.ones(1)}, tmp_path / "x.npz")
    assert_same(load(tmp_path / "x.npz"), {"__metadata__": np.ones(1)})


def test_a_missing_file_is_not_found(path):
    with pytest.raises(FileNotFoundError, match=path.name):
        load(path)
    with pytest.raises(FileNotFoundError):
        save({}, path.parent / "missing" / path.name)


def test_a_file_cut_short_anywhere_is_refused(path):
    save({"0.weight": np.arange(3.0), "step": np.array(3)}, path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=rf"load expected a whole {path.suffix} file .* of {length} bytes"):
            load(path)


def test_a_changed_number_in_an_npz_is_noticed(tmp_path):
    path = tmp_path / "x.npz"
    save({"x": np.full(8, 1.5)}, path)
    whole = path.read_bytes()
    at = whole.index(np.full(8, 1.5).tobytes())
    for i in range(at, at + 64):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :])
        with pytest.raises(ValueError, match="CRC"):
            load(path)


def test_a_file_of_another_kind_is_refused(tmp_path):
    array = io.BytesIO()
    np.save(array, np.zeros(3))
    save({"x": np.zeros(3)}, tmp_path / "a.npz")
    save({"x": np.zeros(3)}, tmp_path / "a.safetensors")
    npz, tensors = ((tmp_path / f"a{suffix}").read_bytes() for suffix in SUFFIXES)
    for suffix, content in ((".npz", array.getvalue()), (".npz", tensors), (".safetensors", npz)):
        path = tmp_path / f"b{suffix}"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"load expected a whole {suffix} file of arrays, got .*b{suffix}"):
            load(path)


def npz(members, compression=zipfile.ZIP_STORED):
    """The bytes of a zip file of these members, pairs of a name and bytes."""
    content = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(content, "w", compression) as archive:
        warnings.simplefilter("ignore", UserWarning)  # of duplicate names
        for name, member in members:
            archive.writestr(name, member)
    return content.getvalue()


def npy(array):
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def with_comment(content):
    with zipfile.ZipFile(stream := io.BytesIO(content), "a") as archive:
        archive.comment = b"more"
    return stream.getvalue()


ONE = npy(np.ones(1))
FOREIGN = {
    "one name twice": (npz([("x.npy", ONE), ("x.npy", npy(np.zeros(1)))]), "expected each array once, got x twice"),
    "one name with and without suffix": (npz([("x", ONE), ("x.npy", ONE)]), "expected each array once, got x twice"),
    "bytes after the archive": (npz([("x.npy", ONE)]) + b"more", "nothing after the end of the archive"),
    "a comment": (with_comment(npz([("x.npy", ONE)])), "nothing after the end of the archive"),
    "bytes before the archive": (b"more" + npz([("x.npy", ONE)]), "expected the archive at the first byte, got 4"),
    "bytes after the numbers": (npz([("x.npy", ONE + b"more")]), "expected 8 bytes of numbers in x.npy, got 12"),
    "too few numbers": (npz([("x.npy", ONE[:-1])]), "expected 8 bytes of numbers in x.npy, got 7"),
    "a shape of any size": (
        npz([("x.npy", ONE.replace(b"(1,), }" + b" " * 15, b"(1" + b"0" * 15 + b",), }"))]),
        "expected 8000000000000000 bytes of numbers in x.npy, got 8",
    ),
    "much in little": (
        npz([("x.npy", bytes(1 << 27))], zipfile.ZIP_DEFLATED),
        f"expected at most {1 << 26} bytes once unpacked, got {1 << 27}",
    ),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_an_npz_that_no_writer_of_arrays_makes_is_refused(tmp_path, kind):
    content, message = FOREIGN[kind]
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "x.npz")


def test_an_npz_that_unpacks_to_more_than_it_states_is_refused_before_it_does(tmp_path):
    """The stated size is changed in the directory of a file whose member is 0x7654321 zeros."""
    content = npz([("x.npy", bytes(0x7654321))], zipfile.ZIP_DEFLATED)
    stated = (0x7654321).to_bytes(4, "little")
    assert content.count(stated) == 2
    (tmp_path / "x.npz").write_bytes(content.replace(stated, (100).to_bytes(4, "little")))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"expected a whole \.npz file"):
            load(tmp_path / "x.npz")
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()


def test_compressed_files_of_common_size_are_loaded(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros(1 << 20))
    assert load(tmp_path / "x.npz")["x"].shape == (1 << 20,)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "a" * 65_001])
def test_a_name_that_npz_would_change_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="save expected names of at most 65000 bytes"):
        save({name: np.ones(1)}, tmp_path / "x.npz")
    assert os.listdir(tmp_path) == []


def test_bytes_after_a_safetensors_file_are_refused(tmp_path):
    save({"x": np.ones(1)}, tmp_path / "x.safetensors")
    (tmp_path / "x.safetensors").write_bytes((tmp_path / "x.safetensors").read_bytes() + b"more")
    with pytest.raises(ValueError, match=r"expected a whole \.safetensors file"):
        load(tmp_path / "x.safetensors")


def test_a_pickle_is_refused_and_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return pathlib.Path.touch, (tmp_path / "sprung",)

    np.savez(tmp_path / "x.npz", x=np.array([Trap()], dtype=object))
    with pytest.raises(ValueError, match="Object arrays cannot be loaded when allow_pickle=False"):
        load(tmp_path / "x.npz")
    assert not (tmp_path / "sprung").exists()
    with np.load(tmp_path / "x.npz", allow_pickle=True) as archive:
        archive["x"]
    assert (tmp_path / "sprung").exists(), "the trap would not have sprung"


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(path, monkeypatch):
    save({"x": np.ones(1)}, path)

    def full(_):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save({"x": np.zeros(1)}, path)
    assert os.listdir(path.parent) == [path.name]
    assert_same(load(path), {"x": np.ones(1)})


def test_without_safetensors_the_package_is_named(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    save({"x": np.ones(1)}, path)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    for call in (lambda: save({"x": np.ones(1)}, path), lambda: load(path)):
        with pytest.raises(ImportError, match="pip install safetensors"):
            call()
    save({"x": np.ones(1)}, tmp_path / "x.npz")
    assert_same(load(tmp_path / "x.npz"), {"x": np.ones(1)})
