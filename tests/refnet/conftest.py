"""For the tests of training: updates done in a given way, and faults seeded into the code."""

import inspect
import textwrap

import pytest

from refnet.train.capture import captured


@pytest.fixture
def do_updates(monkeypatch):
    """`do_updates("replayed")` or `do_updates("as machine code")`: so is every update that can be, in short trainings
    too.
    """

    def choose(way):
        monkeypatch.setattr(captured, "SHORT", 0)
        monkeypatch.setattr(captured, "PAID_BACK", float("inf") if way == "as machine code" else -1.0)
        return way

    return choose


@pytest.fixture(params=["replayed", "as machine code"])
def way(request, do_updates):
    """Both ways of doing captured updates."""
    if request.param == "as machine code":
        pytest.importorskip("llvmlite")
    return do_updates(request.param)


@pytest.fixture
def seed_fault(monkeypatch):
    """`seed_fault(owner, name, old, new)`: put `new` in place of `old`, which must stand there once, in the source of a
    function of a module or a method of a class.
    """

    def seed(owner, name, old, new):
        function = inspect.unwrap(inspect.getattr_static(owner, name))
        source = textwrap.dedent(inspect.getsource(function))
        assert source.count(old) == 1
        names = {}
        exec(source.replace(old, new), function.__globals__, names)
        monkeypatch.setattr(owner, name, names[name])

    return seed
