"""Mistakes of the training procedure: each is the whole loop with one of its lines wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from parity.families.fault import Fault, Lift, Steps, Train
from parity.families.whole.training.dropout_faults import DROPOUT
from parity.families.whole.training.loops import Grads, Loop, loop_of, parts_of, summed
from parity.families.whole.training.rate_faults import RATES
from refnet.arithmetic import special
from refnet.nn import Sequential
from refnet.nn.utils import EPSILON, NOT_CLIPPED, get_total_norm
from refnet.train.step import is_mean


def _sequential(loop: Loop, record: Train, k: int) -> Any:
    batch = record.batches[k]
    network, loss = loop.update.net, loop.update.loss
    assert isinstance(network, Sequential)
    output, saved = network.forward(loop.update.inputs[batch])
    value, saved_loss = loss.forward(output, loop.update.targets[batch])
    (dX, _), _ = loss.backward(special.lift(1.0, value), saved_loss)
    for place in range(len(network.layers) - 1, -1, -1):
        layer = network.layers[place]
        _, grads = layer.backward(dX, saved[place])
        loop.step({f"{place}.{name}": grad for name, grad in grads.items()})
        # dX[n,i] = sum_o dY[n,o] W[o,i] with the W that has just been updated
        dX, _ = layer.backward(dX, saved[place])
    return value


def _accumulating() -> Callable[[Train, Lift], Steps]:
    def train(record: Train, lift: Lift) -> Steps:
        total: Grads = {}

        def update(loop: Loop, record: Train, k: int) -> Any:
            value, grads = loop.gradients(record.batches[k])
            for name, grad in grads.items():
                # dP = dP of all updates so far
                total[name] = total[name] + grad if name in total else grad
            loop.step(total)
            return value

        return loop_of(update)(record, lift)

    return train


def _one_late() -> Callable[[Train, Lift], Steps]:
    def train(record: Train, lift: Lift) -> Steps:
        held: list[Grads] = []

        def update(loop: Loop, record: Train, k: int) -> Any:
            value, grads = loop.gradients(record.batches[k])
            held.append(grads)
            # theta_(k+1) = theta_k - gamma dP_(k-1)
            loop.step(held.pop(0) if len(held) > 1 else grads)
            return value

        return loop_of(update)(record, lift)

    return train


def _out_of_step(loop: Loop, record: Train, k: int) -> Any:
    batch = np.asarray(record.batches[k])
    # the targets of rows n + 1 for the inputs of rows n
    value, grads = loop.gradients(batch, (batch + 1) % len(record.inputs))
    loop.step(grads)
    return value


def _biases_frozen(loop: Loop, record: Train, k: int) -> Any:
    value, grads = loop.gradients(record.batches[k])
    loop.step({name: grad for name, grad in grads.items() if not name.endswith("bias")})
    return value


def _recorded_after(loop: Loop, record: Train, k: int) -> Any:
    _, grads = loop.gradients(record.batches[k])
    loop.step(grads)
    # the loss after update k + 1 for that before it
    return loop.gradients(record.batches[k])[0]


def _divided_again(loop: Loop, record: Train, k: int) -> Any:
    value, grads = loop.gradients(record.batches[k])
    # theta = theta - gamma dP / N
    loop.step({name: grad / len(record.batches[k]) for name, grad in grads.items()})
    return value


def _micro_batches_not_averaged(loop: Loop, record: Train, k: int) -> Any:
    batch = record.batches[k]
    half = len(batch) // 2
    value, grads = loop.gradients(batch)
    if half:
        (_, first), (_, second) = loop.gradients(batch[:half]), loop.gradients(batch[half:])
        # dP = g_1 + g_2, the gradients of the two halves' mean losses, against (g_1 + g_2) / 2
        grads = {name: first[name] + second[name] for name in grads}
    loop.step(grads)
    return value


def _in_plain_order(loop: Loop, record: Train, k: int) -> Any:
    size, n = len(record.batches[0]), len(record.inputs)
    value, grads = loop.gradients((np.arange(len(record.batches[k])) + k * size) % n)
    loop.step(grads)
    return value


def _first_batch_always(loop: Loop, record: Train, k: int) -> Any:
    value, grads = loop.gradients(record.batches[0])
    loop.step(grads)
    return value


def _mean_of_means(loop: Loop, record: Train, k: int) -> Any:
    value, grads = loop.gradients(record.batches[k])
    if loop.update.accumulate > 1 and is_mean(loop.update.loss):
        parts = parts_of(loop, record.batches[k], NOT_CLIPPED)
        # dP = sum_j dP_j / k
        grads = loop.update.clipping.of({name: g / len(parts) for name, g in summed([p[1] for p in parts]).items()})
    loop.step(grads)
    return value


def _parts_clipped(loop: Loop, record: Train, k: int) -> Any:
    value, grads = loop.gradients(record.batches[k])
    if loop.update.accumulate > 1 and not is_mean(loop.update.loss):
        # dP = sum_j clip(dP_j)
        grads = summed([p[1] for p in parts_of(loop, record.batches[k], loop.update.clipping)])
    loop.step(grads)
    return value


def _last_part_reported(loop: Loop, record: Train, k: int) -> Any:
    value, grads = loop.gradients(record.batches[k])
    if loop.update.accumulate > 1:
        parts = parts_of(loop, record.batches[k], NOT_CLIPPED)
        # L = L_k / k, of the last of k micro-batches
        value = parts[-1][0] / len(parts)
    loop.step(grads)
    return value


def _loss_one_late() -> Callable[[Train, Lift], Steps]:
    def train(record: Train, lift: Lift) -> Steps:
        held: list[Any] = []

        def update(loop: Loop, record: Train, k: int) -> Any:
            value, grads = loop.gradients(record.batches[k])
            loop.step(grads)
            held.append(value)
            # the loss at theta_(k-1) for that at theta_k
            return held.pop(0) if len(held) > 1 else value

        return loop_of(update)(record, lift)

    return train


def _same_draw_by_two_workers(loop: Loop, record: Train, k: int) -> Any:
    # The second of two workers, which has the state of the first, draws what that has drawn.
    value, grads = loop.gradients(record.batches[k - k % 2])
    loop.step(grads)
    return value


def _with_clipping(scaled: Callable[[Loop, Grads], Grads]) -> Callable[[Train, Lift], Steps]:
    """Gradients that are clipped in another way, where they are clipped by a norm."""

    def update(loop: Loop, record: Train, k: int) -> Any:
        right = loop.update.clipping
        if right.max_norm is not None:
            loop.update.clipping = NOT_CLIPPED
        value, grads = loop.gradients(record.batches[k])
        loop.update.clipping = right
        loop.step(grads if right.max_norm is None else scaled(loop, grads))
        return value

    return loop_of(update)


def _one_by_one(loop: Loop, grads: Grads) -> Grads:
    # g = g min(c / (N(g) + 1e-6), 1), with the norm of each parameter's own
    return {name: loop.update.clipping.of({name: G})[name] for name, G in grads.items()}


def _always_scaled(loop: Loop, grads: Grads) -> Grads:
    N = get_total_norm(grads, loop.update.clipping.norm_type)
    # g = g c / (N + 1e-6)
    factor = special.lift(loop.update.clipping.max_norm, N) / (N + special.lift(EPSILON, N))
    return {name: G * factor for name, G in grads.items()}


def _by_the_square(loop: Loop, grads: Grads) -> Grads:
    c, N = loop.update.clipping.max_norm, get_total_norm(grads, loop.update.clipping.norm_type)
    # g = g min(c / (N^2 + 1e-6), 1)
    factor = special.lift(c, N) / (N * N + special.lift(EPSILON, N))
    factor = np.where(factor < 1, factor, special.lift(1.0, N))
    return {name: G * factor for name, G in grads.items()}


SCALE = 65536.0
"""Of the loss: the first one of torch.amp.GradScaler."""


def _before_unscaling(loop: Loop, grads: Grads) -> Grads:
    # g = clip(S g) / S
    return {name: G / SCALE for name, G in loop.update.clipping.of({n: G * SCALE for n, G in grads.items()}).items()}


def _norm_of_order_2(loop: Loop, grads: Grads) -> Grads:
    return loop.update.clipping._replace(norm_type=2.0).of(grads)


def _frozen_by_zeros(loop: Loop, record: Train, k: int) -> Any:
    names = record.frozen_before(k)
    value, grads = loop.gradients(record.batches[k])
    loop.update.freeze(())
    # dP = 0 where P has no gradient: its decay and its momentum go on
    loop.step({**grads, **{name: loop.update.net.params[name] * 0 for name in names}})
    loop.update.freeze(names)
    return value


def _never_frozen(loop: Loop, record: Train, k: int) -> Any:
    loop.update.freeze(())
    value, grads = loop.gradients(record.batches[k])
    loop.step(grads)
    return value


FAULTS = (
    Fault(
        "sequential update",
        "dX = dY W with the W of after the update, against the W of before",
        "two layers and one step; the loss alone differs by 1e-7",
        "the article; mattm/simple-neural-network before 2015-03-15",
        train=loop_of(_sequential),
    ),
    Fault(
        "gradients not cleared",
        "dP += g at every update against dP = g",
        "two updates",
        "kind of bug: zero_grad left out",
        train=_accumulating(),
    ),
    Fault(
        "gradients one update late",
        "theta_k - gamma dP_(k-1) against theta_k - gamma dP_k",
        "two updates",
        "kind of bug: a stale gradient",
        train=_one_late(),
    ),
    Fault(
        "targets out of step",
        "targets of rows n + 1 against targets of rows n",
        "two samples of different targets",
        "kind of bug: inputs shuffled without their targets",
        train=loop_of(_out_of_step),
    ),
    Fault(
        "biases never updated",
        "b against b - gamma db",
        "a bias among the parameters",
        "the article, and programs after it",
        train=loop_of(_biases_frozen),
    ),
    Fault(
        "loss recorded after the update",
        "the loss at theta_(k+1) against the loss at theta_k",
        "any",
        "the article's figure after 10,000 updates, and programs after it",
        train=loop_of(_recorded_after),
    ),
    Fault(
        "loss one update behind",
        "the loss at theta_(k-1) against the loss at theta_k: the loss before an update told as that after it",
        "two updates",
        "animesh/ann; programs after the article",
        train=_loss_one_late(),
    ),
    Fault(
        "divided by the batch again",
        "theta - gamma dP / N against theta - gamma dP",
        "a batch of more than one",
        "d2l-ai/d2l-en#1000",
        train=loop_of(_divided_again),
    ),
    Fault(
        "data in plain order",
        "rows 0, 1, 2, ... against the shuffled order",
        "shuffled data",
        "kind of bug: an option ignored",
        train=loop_of(_in_plain_order),
    ),
    Fault(
        "first batch always",
        "the first batch at every update against the next one",
        "two batches",
        "kind of bug: an iterator made anew",
        train=loop_of(_first_batch_always),
    ),
    Fault(
        "same draw by two workers",
        "the batch of update k - k mod 2 against that of update k",
        "two batches",
        "facebookresearch/fairseq#1383, ultralytics/yolov5#4960",
        train=loop_of(_same_draw_by_two_workers),
    ),
    Fault(
        "micro-batches not averaged",
        "g_1 + g_2 against (g_1 + g_2) / 2, each the gradient of a mean over half of the batch",
        "a batch of more than one",
        "kind of bug: accumulated gradients not scaled",
        train=loop_of(_micro_batches_not_averaged),
    ),
    Fault(
        "mean of the micro-batches' means",
        "sum_j dP_j / k against sum_j n_j dP_j / n",
        "micro-batches of different sizes",
        "huggingface/transformers#34191, #34198",
        train=loop_of(_mean_of_means),
    ),
    Fault(
        "loss of the last micro-batch",
        "L_k / k of the last of k micro-batches against the loss of the batch",
        "accumulated gradients",
        "allenai/allennlp#4706",
        train=loop_of(_last_part_reported),
    ),
    Fault(
        "micro-batches clipped one by one",
        "sum_j clip(dP_j) against clip(sum_j dP_j)",
        "accumulated gradients that are clipped",
        "kind of bug: clip_grad_norm_ before the last backward",
        train=loop_of(_parts_clipped),
    ),
    Fault(
        "clipped parameter by parameter",
        "the norm of each gradient against the norm of all",
        "two parameters and a norm above the limit",
        "kind of bug: clip_grad_norm_ called in a loop over parameters",
        train=_with_clipping(_one_by_one),
    ),
    Fault(
        "scaled up to the limit",
        "c / N against min(c / N, 1)",
        "a norm below the limit",
        "kind of bug: gradients normalized, not clipped",
        train=_with_clipping(_always_scaled),
    ),
    Fault(
        "clipped by the square of the norm",
        "c / N^2 against c / N",
        "a norm above the limit, other than 1",
        "paiml/entrenar#312",
        train=_with_clipping(_by_the_square),
    ),
    Fault(
        "clipped before it is unscaled",
        "clip(S g) / S against clip(g), S = 2^16 the scale of the loss",
        "a norm above the limit, or S times it",
        "milesial/Pytorch-UNet#470, rwth-i6/returnn#1595, TorchSSL/TorchSSL#59",
        train=_with_clipping(_before_unscaling),
    ),
    Fault(
        "clipped by another norm",
        "the norm of order 2 against the one asked for",
        "a norm of another order than 2",
        "kind of bug: an option ignored",
        train=_with_clipping(_norm_of_order_2),
    ),
    Fault(
        "clipped after the step",
        "g against g min(c / N, 1)",
        "a norm above the limit",
        "kind of bug: clip_grad_norm_ behind optimizer.step()",
        train=_with_clipping(lambda loop, grads: grads),
    ),
    Fault(
        "frozen by a gradient of zero",
        "dP = 0 against no gradient: decay and momentum go on",
        "a frozen parameter that decays, or that has moved before",
        "kind of bug: zero_grad(set_to_none=False) and requires_grad_(False)",
        train=loop_of(_frozen_by_zeros),
    ),
    Fault(
        "never frozen",
        "P moves on against P stays",
        "a parameter that is frozen half-way",
        "kind of bug: an option ignored",
        train=loop_of(_never_frozen),
    ),
    *RATES,
    *DROPOUT,
)
