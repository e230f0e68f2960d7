"""Mistakes in stacks of layers, beside those of the layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from parity.families.fault import Fault, Unsupported, of, replaced

ENCODER, DECODER, BOTH = "TransformerEncoder", "TransformerDecoder", "Transformer"


def _several(stack: Any) -> None:
    if stack.num_layers == 1:
        raise Unsupported("one layer")


def _normed(stack: Any) -> None:
    if stack.norm is None:
        raise Unsupported("no norm behind")


def _norm_forgotten(stack: Any, right: Any, *args: Any, **given: Any) -> Any:
    _normed(stack)
    own, stack.norm = stack.norm, None
    Y, saved = right(*args, **given)
    stack.norm = own
    # Y = f_N(... f_1(X)), with the gradient of it
    return Y, saved._replace(norm=own.forward(Y)[1])


def _norm_not_differentiated(stack: Any, right: Any, dY: Any, saved: Any) -> Any:
    _normed(stack)
    _, dP = stack.norm.backward(dY, saved.norm)
    norm, stack.norm = stack.norm, _Identity(dP)
    result = right(dY, saved)
    stack.norm = norm
    return result


class _Identity:
    """dnorm(dY) = dY, beside the right gradients of the norm's parameters."""

    def __init__(self, grads: Any) -> None:
        self.grads = grads

    def backward(self, dY: Any, saved: Any) -> Any:
        return dY, self.grads


def _last_saved(stack: Any, right: Any, dY: Any, saved: Any) -> Any:
    _several(stack)
    # what the last layer saved stands for every layer's
    return right(dY, saved._replace(layers=stack.num_layers * saved.layers[-1:]))


def _in_forward_order(stack: Any, right: Any, dY: Any, saved: Any) -> Any:
    _several(stack)
    # df_1(df_2(dY)) against df_2(df_1(dY))
    layers, stack.layers = stack.layers, _Backwards(stack.layers)
    result = right(dY, saved._replace(layers=saved.layers[::-1]))
    stack.layers = layers
    return result


class _Backwards:
    """The layers from the last to the first, whose gradients stand where they belong."""

    def __init__(self, layers: Any) -> None:
        self.layers = layers

    def __iter__(self) -> Any:
        return reversed([*self.layers])

    def add_grads(self, grads: Any, place: str, inner: Any) -> None:
        self.layers.add_grads(grads, str(len(self.layers) - 1 - int(place)), inner)


def _first_layer_again(stack: Any, right: Any, *args: Any, **given: Any) -> Any:
    _several(stack)
    # f_1(... f_1(X)): the layers share what was meant to be copied
    layers, stack.layers = stack.layers, [stack.layers[0]] * stack.num_layers
    result = right(*args, **given)
    stack.layers = layers
    return result


def _zero_mask(name: str) -> Any:
    """A mask that is not handed on to the layers: one that leaves nothing out stands in its place."""

    def forward(stack: Any, right: Any, *args: Any, **given: Any) -> Any:
        mask = given.get(name)
        if mask is None:
            raise Unsupported(f"no {name}")
        # what is added is 0, and nothing is left out
        return right(*args, **{**given, name: mask * 0 if mask.dtype.kind == "f" else mask & ~mask})

    return forward


def _one_dropout(stack: Any, right: Any, *args: Any, **given: Any) -> Any:
    _several(stack)
    masks = {name: mask for name, mask in given.items() if "dropout" in name and mask is not None}
    if not masks or not stack.training:
        raise Unsupported("no dropout")
    # the masks of the first layer in every layer
    return right(*args, **{**given, **{name: mask[[0] * stack.num_layers] for name, mask in masks.items()}})


def _one_layer_of_memory(stack: Any, right: Any, dY: Any, saved: Any) -> Any:
    _several(stack)
    # dM = dM_1 against sum_k dM_k
    kept: list[Any] = []
    (dX, _, *masks), grads = right(dY, saved)
    inner = dY if stack.norm is None else stack.norm.backward(dY, saved.norm)[0]
    for layer, s in reversed([*zip(stack.layers, saved.layers, strict=True)]):
        (inner, *others), _ = layer.backward(inner, s)
        kept.append(others[0])
    return (dX, kept[-1], *masks), grads


def _memory_detached(both: Any, right: Any, dY: Any, saved: Any) -> Any:
    encoder = both.encoder

    class Detached:
        """dencoder(0): the decoder's gradient does not come to the encoder."""

        def backward(self, dM: Any, saved: Any) -> Any:
            return encoder.backward(dM * 0, saved)

    both.encoder = Detached()
    result = right(dY, saved)
    both.encoder = encoder
    return result


def _swapped(first: str, second: str) -> Callable[..., Any]:
    """Two masks of one shape, each in the place of the other."""

    def forward(both: Any, right: Any, *args: Any, **given: Any) -> Any:
        A, B = given.get(first), given.get(second)
        if A is None or B is None or A.dtype != B.dtype or A.shape != B.shape or A.dtype.kind == "b":
            raise Unsupported(f"no {first} and {second} that differ")
        return right(*args, **{**given, first: B, second: A})

    return forward


def _memory_without_norm(both: Any, right: Any, *args: Any, **given: Any) -> Any:
    _normed(both.encoder)
    norm = both.encoder.norm

    class Skipped:
        """norm(M) = M in forward."""

        def forward(self, X: Any) -> Any:
            return X, norm.forward(X)[1]

    both.encoder.norm = Skipped()
    result = right(*args, **given)
    both.encoder.norm = norm
    return result


def _padding_of_source_for_memory(both: Any, right: Any, *args: Any, **given: Any) -> Any:
    mask = given.get("src_key_padding_mask")
    if mask is None or given.get("memory_key_padding_mask") is not None:
        raise Unsupported("no padding of the source alone")
    # the decoder leaves out what the encoder leaves out, though it is not told to
    Y, saved = right(*args, **{**given, "memory_key_padding_mask": mask})
    return Y, saved._replace(names=[n for n in saved.names if n != "memory_key_padding_mask"])


_MISSING = "kind of bug: a missing term"
_STATE = "kind of bug: a value saved for another place"
_ARGUMENT = "kind of bug: an argument that is not handed on"


def _of_stack(kind: str, letter: str, mask: str) -> tuple[Fault, ...]:
    """Those that both stacks have."""
    return of(
        kind,
        (f"{letter}: norm left out", "Y = f_N(...)", "a norm behind", _MISSING, replaced("forward", _norm_forgotten)),
        (
            f"{letter}: norm not differentiated",
            "df_N(dY) against df_N(dnorm(dY))",
            "a norm behind",
            _MISSING,
            replaced("backward", _norm_not_differentiated),
        ),
        (
            f"{letter}: saved values of the last layer",
            "s_N for s_k",
            "layers",
            _STATE,
            replaced("backward", _last_saved),
        ),
        (
            f"{letter}: backward in the order of forward",
            "df_N(... df_1(dY)) against df_1(... df_N(dY))",
            "layers",
            "kind of bug: another order",
            replaced("backward", _in_forward_order),
        ),
        (
            f"{letter}: one layer in every place",
            "f_1(... f_1(X)): one layer, not copied",
            "layers that differ",
            "torch.nn documentation of ModuleList; kind of bug: [layer] * N",
            replaced("forward", _first_layer_again),
        ),
        (f"{letter}: {mask} left out", f"{mask} = 0", f"a {mask}", _ARGUMENT, replaced("forward", _zero_mask(mask))),
        (
            f"{letter}: dropout masks of the first layer",
            "K_1 for K_k",
            "dropout in layers",
            "kind of bug: one seed for all layers",
            replaced("forward", _one_dropout),
        ),
    )


FAULTS = (
    *_of_stack(ENCODER, "encoder", "src_key_padding_mask"),
    *_of_stack(DECODER, "decoder", "memory_key_padding_mask"),
    *of(
        DECODER,
        (
            "decoder: memory's gradient of one layer",
            "dM = dM_1 against sum_k dM_k",
            "layers",
            _MISSING,
            replaced("backward", _one_layer_of_memory),
        ),
    ),
    *of(
        BOTH,
        (
            "transformer: memory detached",
            "dsrc = 0 against dencoder(dM)",
            "any",
            "kind of bug: a graph that is cut",
            replaced("backward", _memory_detached),
        ),
        (
            "transformer: masks of target and memory exchanged",
            "tgt_mask in memory_mask's place",
            "both masks, added",
            "kind of bug: an argument in another's place",
            replaced("forward", _swapped("tgt_mask", "memory_mask")),
        ),
        (
            "transformer: paddings of source and target exchanged",
            "src_key_padding_mask in tgt_key_padding_mask's place",
            "both paddings, added",
            "kind of bug: an argument in another's place",
            replaced("forward", _swapped("src_key_padding_mask", "tgt_key_padding_mask")),
        ),
        (
            "transformer: memory without the encoder's norm",
            "M = f_N(...) against norm(f_N(...))",
            "any but a custom encoder",
            _MISSING,
            replaced("forward", _memory_without_norm),
        ),
        (
            "transformer: padding of the source for the memory",
            "memory_key_padding_mask = src_key_padding_mask",
            "padding of the source alone",
            "kind of bug: a default of one's own",
            replaced("forward", _padding_of_source_for_memory),
        ),
        (
            "transformer: causal mask left out",
            "tgt_mask = 0",
            "a tgt_mask",
            _ARGUMENT,
            replaced("forward", _zero_mask("tgt_mask")),
        ),
    ),
)
