"""Transformers through `fit` and `ensemble`: layers and stacks have, captured, the bits of a plain training."""

import numpy as np
import pytest
from twice import assert_as_machine_code, assert_same_bits, full, linear, start

import refnet
from refnet import Generator, nn, optim

UNITS, PLACES = 4, 3
X, T = full(1, 8, PLACES, UNITS), full(2, 8, PLACES, UNITS)
HOW = {"batch_size": 3, "iterations": 12, "record": [0, 7, 12]}
FED = {"dim_feedforward": 5, "batch_first": True}
ENCODER, DECODER = nn.TransformerEncoderLayer, nn.TransformerDecoderLayer


def layer(kind, dtype, dropout=0.0, **options):
    return kind(UNITS, 2, dropout=dropout, dtype=dtype, generator=Generator(3), **FED | options)


def attending(module):
    """A module of two inputs, which are the same."""
    return nn.Graph({"module": module}, (("output", "module", "input", "input"),))


class Causal(nn.Module):
    """An encoder that lets a place attend to those before it alone."""

    capturable = True

    def __init__(self, encoder):
        super().__init__()
        self.adopt({"encoder": encoder})
        self.mask = np.triu(np.ones((PLACES, PLACES), bool), 1)

    def forward(self, X):
        return self._modules["encoder"].forward(X, self.mask, is_causal=True)

    def backward(self, dY, saved):
        dX, dP = self._modules["encoder"].backward(dY, saved)
        return dX[0], {f"encoder.{name}": G for name, G in dP.items()}


def both(dtype, **options):
    sizes = {"num_encoder_layers": 2, "num_decoder_layers": 1, "dropout": 0.0}
    return attending(nn.Transformer(UNITS, 2, dtype=dtype, generator=Generator(3), **FED | sizes | options))


NETWORKS = {
    "encoder layer": lambda dtype: layer(ENCODER, dtype),
    "encoder": lambda dtype: nn.TransformerEncoder(layer(ENCODER, dtype), 2),
    "encoder, gelu, norms first and behind": lambda dtype: nn.TransformerEncoder(
        layer(ENCODER, dtype, activation="gelu", norm_first=True), 2, nn.LayerNorm(UNITS, dtype=dtype)
    ),
    "causal encoder": lambda dtype: Causal(nn.TransformerEncoder(layer(ENCODER, dtype, bias=False), 2)),
    "decoder layer": lambda dtype: attending(layer(DECODER, dtype, norm_first=True)),
    "decoder": lambda dtype: attending(
        nn.TransformerDecoder(layer(DECODER, dtype), 2, nn.LayerNorm(UNITS, dtype=dtype))
    ),
    "transformer": both,
    "transformer, gelu, norms first": lambda dtype: both(dtype, activation="gelu", norm_first=True),
}


def begun(make, dtype):
    def layers():
        return [linear(UNITS, UNITS, 1, dtype), make(dtype)]

    begin = start(layers, inputs=X, targets=T, dtype=dtype, momentum=0.9, lr=0.02)

    def again():
        made = begin()
        made.others = tuple(v for m in made.net.modules() for v in vars(m).values() if isinstance(v, Generator))
        return made

    return again


@pytest.mark.arithmetic
@pytest.mark.parametrize("name", NETWORKS)
def test_captured(name, kind):
    way = "replayed" if kind == np.float32 else "as machine code"
    assert_as_machine_code(way, assert_same_bits(begun(NETWORKS[name], kind), **HOW))


@pytest.mark.arithmetic
@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_with_dropout(name, do_updates):
    """Masks are drawn layer by layer; the generator is left where the plain training leaves it."""
    do_updates("replayed")
    kind, stack = (ENCODER, nn.TransformerEncoder) if name == "encoder" else (DECODER, nn.TransformerDecoder)

    def make(dtype):
        made = stack(layer(kind, dtype, dropout=0.3), 2)
        return made if name == "encoder" else attending(made)

    assert len(assert_same_bits(begun(make, np.float64), **HOW).loss) == HOW["iterations"]


@pytest.mark.arithmetic
@pytest.mark.parametrize("name", NETWORKS)
def test_many_at_once(name, do_updates):
    """Every run of an ensemble has the bits that it has alone."""
    do_updates("replayed")

    def runs():
        nets = [nn.Sequential(linear(UNITS, UNITS, seed), NETWORKS[name](np.float64)) for seed in (1, 2, 3)]
        return nets, [optim.SGD(net.params, lr=0.02, momentum=0.9) for net in nets], [Generator(s) for s in range(3)]

    how = {"batch_size": 3, "iterations": 6}
    nets, opts, generators = runs()
    histories = refnet.ensemble(nets, nn.MSELoss(), opts, X, T, generators=generators, **how)
    assert histories[0].why_plain == ""
    for net, history, (lone, opt, generator) in zip(nets, histories, zip(*runs(), strict=True), strict=True):
        alone = refnet.fit(lone, nn.MSELoss(), opt, X, T, generator=generator, capture=False, **how)
        np.testing.assert_array_equal(history.loss, alone.loss)
        for key, P in lone.params.items():
            np.testing.assert_array_equal(net.params[key], P)


def test_an_ensemble_refuses_what_draws():
    nets = [nn.Sequential(nn.TransformerEncoder(layer(ENCODER, np.float64, dropout=0.3), 1)) for _ in range(2)]
    opts = [optim.SGD(net.params, lr=0.1) for net in nets]
    with pytest.raises(TypeError, match="expected layers that draw nothing, got MultiheadAttention in training mode"):
        refnet.ensemble(nets, nn.MSELoss(), opts, X, T, iterations=2)
