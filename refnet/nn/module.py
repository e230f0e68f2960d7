"""The contract that every layer, loss and container keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np

from refnet import _absent
from refnet._steps import moved
from refnet.generator import Generator

Array = Any  # see refnet.arithmetic.special
Params = dict[str, Array]


class Held(dict[str, Array]):
    """The parameters or the buffers of a module in a network. Their arrays are written into and never replaced: the
    network and its optimizer hold them too, and another array would not be trained.

    Raises:
        ValueError: another array is put in the place of one, or an array is added or taken away.
    """

    def __setitem__(self, name: str, array: Array) -> None:
        # (P -= G puts the array that it has written into where it was)
        if self.get(name) is not array:
            raise ValueError(
                f"expected {name} to stay the array that the network was made of, got another one, which would not be "
                f"trained; write into it (params[{name!r}][...] = new), replace it before the network is made, or use "
                "bind"
            )

    def _refused(self, *_: Any, **__: Any) -> Any:
        raise ValueError("expected the arrays of a module in a network to stay what they are, got one taken away")

    __delitem__ = pop = popitem = clear = _refused

    def update(self, *given: Any, **more: Any) -> None:
        for name, array in dict(*given, **more).items():
            self[name] = array

    def __ior__(self, given: Any) -> Self:  # type: ignore[override,misc]
        self.update(given)
        return self

    def setdefault(self, name: str, default: Array = None) -> Array:
        if name not in self:
            self[name] = default
        return self[name]

    def __reduce__(self) -> Any:
        return Held, (dict(self),)


class IncompatibleKeys(NamedTuple):
    """The names that `load_state_dict` did not find in a state, and those that it left alone, as torch returns them."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"


class Module(ABC):
    """A function of arrays with parameters, buffers and a hand-written derivative.

    A module holds parameters and buffers and nothing else: what `backward` needs travels in `saved`, so one module can
    stand at two places of a network, and two forward passes can be under way at once.

    Attributes:
        params: parameters under torch's state_dict names. Their arrays are updated in place, never rebound; of a module
            inside another they cannot be.
        buffers: state that is not trained (running statistics, class weights), under torch's names, written in place.
        training: whether the module is in training mode.
    """

    params: Params
    buffers: Params
    not_negative: ClassVar[tuple[str, ...]] = ()
    """Names of the buffers in which a number below 0 would be a mistake."""

    def __init__(self) -> None:
        self.params = {}
        self.buffers = {}
        self.training = True
        self._modules: dict[str, Module] = {}

    @property
    def draws(self) -> bool:
        """Whether `forward` may draw random numbers, as the module stands."""
        return self.training and any(isinstance(value, Generator) for value in vars(self).values())

    @abstractmethod
    def forward(self, *inputs: Array) -> tuple[Array, Any]:
        """Return `(output, saved)`; a tuple of outputs where the module has several."""

    @abstractmethod
    def backward(self, grad_output: Array, saved: Any) -> tuple[Array, Params]:
        """Return `(grad_input, grad_params)` for the upstream gradient of the output.

        `saved` may refer to the inputs and to the parameters, which are not copied: between `forward` and `backward`
        neither may be overwritten, nor may an optimizer step. torch raises then. A step, `load_state_dict` or `fit` in
        between is refused by every `Sequential` and `Graph`. A write by hand is not noticed, and the gradient is that
        of the new values: NumPy's arrays count no writes, as torch's tensors do, and to compare them with a copy would
        cost every layer a pass over all that it reads. `refnet.nn.utils.detect_overwriting` does that, on request.

        An upstream gradient of other real numbers than the output's is cast to its dtype, as by torch.

        `grad_input` is a tuple where the module has several inputs, with None for an input that has no derivative
        (integers); `grad_params` has the keys of `params`.
        """

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """The output of `forward` alone."""
        try:
            return self.forward(*inputs, **options)[0]
        except AttributeError:
            for name, given in (*enumerate(inputs), *options.items()):
                if isinstance(given, list | int | float):
                    which = f"argument {name}" if isinstance(name, int) else name
                    raise TypeError(
                        f"{type(self).__name__}: expected {which} to be an array, got {type(given).__name__}"
                    ) from None
            raise

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            # (only called where there is no such member)
            raise AttributeError(_absent.of_module(self, name))

    # Modules inside. All that follows derives from the one table that `adopt` keeps.

    def adopt(self, modules: Mapping[str, Module]) -> None:
        """Take these modules inside, under their names; one module may stand at several places. Parameters of this
        module's own are in `params` before.

        Raises:
            TypeError: one is no Module.
            ValueError: a name is empty or has a dot in it.
        """
        for name, module in modules.items():
            if not isinstance(module, Module):
                raise TypeError(
                    f"{type(self).__name__}: expected a Module at place {name}, got {type(module).__name__}"
                )
            if not name or "." in name:
                raise ValueError(f"{type(self).__name__}: expected names without dots, not empty, got {name!r}")
        self._modules = dict(modules)
        self._collect()

    def _collect(self) -> None:
        """Gather the arrays inside under their full names, and for each name the first that means the same array."""
        self.params, self.buffers = (
            {name: array for name, array in own.items() if "." not in name} for own in (self.params, self.buffers)
        )
        names = {id(array): name for name, array in (*self.params.items(), *self.buffers.items())}
        self._first = {name: name for name in names.values()}
        for place, module in self._modules.items():
            if type(module.params) is not Held or type(module.buffers) is not Held:
                module.params, module.buffers = Held(module.params), Held(module.buffers)
            for own, inner in ((self.params, module.params), (self.buffers, module.buffers)):
                for key, array in inner.items():
                    name = f"{place}.{key}"
                    first = self._first[name] = names.setdefault(id(array), name)
                    if first == name:
                        own[name] = array
        self._names = {
            place: {key: self._first[f"{place}.{key}"] for key in module.params}
            for place, module in self._modules.items()
        }
        self.params, self.buffers = Held(self.params), Held(self.buffers)

    def add_grads(self, grads: Params, place: str, inner: Params) -> None:
        """Add the gradients of the module at a place to those of this module, under the names of `params`."""
        names = self._names[place]
        for key, G in inner.items():
            name = names[key]
            grads[name] = grads[name] + G if name in grads else G

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules directly inside with their names, each once."""
        seen: set[int] = set()
        for name, module in self._modules.items():
            if id(module) not in seen:
                seen.add(id(module))
                yield name, module

    def children(self) -> Iterator[Module]:
        """The modules directly inside, each once."""
        return (module for _, module in self.named_children())

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """This module and all that are inside, with their full names; each once, or with `remove_duplicate=False` at
        every place.
        """
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            yield from module.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """This module and every module inside it, each once."""
        return (module for _, module in self.named_modules())

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Array]]:
        """Parameters with their names, each once, or with `remove_duplicate=False` at every place; with
        `recurse=False` those of this module alone.
        """
        arrays = self.params if remove_duplicate else {n: A for n, (A, _, kind) in self._arrays().items() if kind == 0}
        for name, P in arrays.items():
            if recurse or "." not in name:
                yield (f"{prefix}.{name}" if prefix else name), P

    def parameters(self, recurse: bool = True) -> Iterator[Array]:
        """The arrays of `named_parameters`."""
        return (P for _, P in self.named_parameters(recurse=recurse))

    def named_buffers(self, prefix: str = "", recurse: bool = True) -> Iterator[tuple[str, Array]]:
        """Buffers with their names, each once."""
        for name, B in self.buffers.items():
            if recurse or "." not in name:
                yield (f"{prefix}.{name}" if prefix else name), B

    def _arrays(self) -> dict[str, tuple[Array, Module, int]]:
        """Every array at every place, with the module that it belongs to; 0 for a parameter, 1 for a buffer.

        Raises:
            ValueError: a module inside holds another array than when it was taken inside, which would not be trained.
        """
        found = {
            name: (array, self, kind)
            for kind, own in enumerate((self.params, self.buffers))
            for name, array in own.items()
            if "." not in name
        }
        for place, module in self._modules.items():
            for name, (array, owner, kind) in module._arrays().items():
                full = f"{place}.{name}"
                known = (self.params if kind == 0 else self.buffers).get(self._first.get(full, full), array)
                if known is not array:
                    raise ValueError(
                        f"{type(self).__name__}: expected {full} to be the array that was there when the network was "
                        "made, got another one; write into it (P[...] = new), or use bind"
                    )
                found[full] = array, owner, kind
        return found

    def train(self, mode: bool = True) -> Self:
        """Put every module inside into training mode (or, with False, evaluation mode); returns self."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Put every module inside into evaluation mode; returns self."""
        return self.train(False)

    def state_dict(self) -> Params:
        """Parameters and buffers under torch's names. The arrays are the module's own: copy what must not move on."""
        return {name: array for name, (array, _, _) in self._arrays().items()}

    def bind(self, arrays: Mapping[str, Array]) -> None:
        """Stand on these very arrays, of any arithmetic, in place of the present ones; `arrays` has a value for every
        name of `params` and `buffers` (further names are left alone)."""
        self.params = {name: arrays[name] for name in self.params}
        self.buffers = {name: arrays[name] for name in self.buffers}
        for place, module in self._modules.items():
            inside = {name: f"{place}.{name}" for name in (*module.params, *module.buffers)}
            module.bind({name: arrays[self._first[full]] for name, full in inside.items()})
        if self._modules:
            self._collect()

    def load_state_dict(self, state_dict: Mapping[str, Array], strict: bool = True) -> IncompatibleKeys:
        """Copy a state into the parameters and buffers, in place.

        Nothing is written unless everything fits.

        Args:
            state_dict: arrays by name, of NumPy or torch.
            strict: whether all names must be there, and no others. If not, those that are there are copied, others are
                left alone, and both are returned, as by torch.

        Raises:
            KeyError: a name is missing or unexpected, and `strict`.
            ValueError: a shape differs; a value is NaN, infinite, or below 0 where it cannot be; an array of this
                module is read-only.
            TypeError: a value is no array, or its dtype differs.
        """
        own, state = self._arrays(), state_dict
        if not isinstance(state, Mapping):
            raise TypeError(f"load_state_dict: expected a dict of arrays, got {type(state).__name__}")
        missing, unexpected = [name for name in own if name not in state], [name for name in state if name not in own]
        if strict and (missing or unexpected):
            missing, unexpected = sorted(missing), sorted(unexpected)
            raise KeyError(f"load_state_dict: expected {sorted(own)}; missing {missing}, unexpected {unexpected}")
        values = {}
        own = {name: found for name, found in own.items() if name in state}
        for name, (array, owner, _) in own.items():
            if not hasattr(state[name], "dtype"):
                raise TypeError(f"load_state_dict: expected an array as {name}, got {type(state[name]).__name__}")
            try:
                given = values[name] = np.asarray(state[name])
            except (RuntimeError, TypeError, ValueError) as error:  # as of a tensor that is on a device
                what = type(state[name]).__name__
                raise TypeError(f"load_state_dict: expected {name} as a NumPy array, got {what}: {error}") from None
            if given.shape != array.shape:
                raise ValueError(f"load_state_dict: expected {name} of shape {array.shape}, got {given.shape}")
            if given.dtype != array.dtype:
                raise TypeError(f"load_state_dict: expected {name} of dtype {array.dtype}, got {given.dtype}")
            if given.dtype.kind == "f" and not np.isfinite(given).all():
                raise ValueError(f"load_state_dict: expected finite values in {name}, got NaN or infinity")
            if name.rpartition(".")[2] in owner.not_negative and (given < 0).any():
                raise ValueError(f"load_state_dict: expected no value below 0 in {name}, got {given.min()}")
            if not array.flags.writeable:
                raise ValueError(f"load_state_dict: expected {name} to be writeable, got a read-only array")
        for name, (array, _, _) in own.items():
            array[...] = values[name]
        moved(self.params.values())
        return IncompatibleKeys(missing, unexpected)

    def extra_repr(self) -> str:
        """What `repr` says in the parentheses: torch's words."""
        return ""

    def __repr__(self) -> str:
        extra = [self.extra_repr()] if self.extra_repr() else []
        inside = [f"({name}): {module!r}" for name, module in self._modules.items()]
        if not inside:
            return f"{type(self).__name__}({''.join(extra)})"
        lines = "\n".join([*extra, *inside]).replace("\n", "\n  ")
        return f"{type(self).__name__}(\n  {lines}\n)"
