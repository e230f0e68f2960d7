"""Reference backpropagation: every backward pass written by hand in NumPy, under torch's names.

The logical "and", learned from its four cases:

    >>> import numpy as np
    >>> import refnet
    >>> from refnet import nn, optim
    >>> g = refnet.Generator(0)
    >>> net = nn.Sequential(nn.Linear(2, 2, generator=g), nn.Tanh(), nn.Linear(2, 1, generator=g))
    >>> loss = nn.BCEWithLogitsLoss()
    >>> opt = optim.SGD(net.params, lr=0.5, momentum=0.9)
    >>> inputs = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> targets = np.array([[0.0], [0.0], [0.0], [1.0]])
    >>> history = refnet.fit(net, loss, opt, inputs, targets, batch_size=2, iterations=500, generator=g)
    >>> bool(history.loss[-1] < 0.01)
    True
    >>> output, saved = net.forward(inputs)
    >>> (output > 0).astype(int).tolist()
    [[0], [0], [0], [1]]

A single step by hand, which is all that `fit` repeats:

    >>> value, saved_loss = loss.forward(output, targets)
    >>> (grad_output, _), _ = loss.backward(np.float64(1), saved_loss)
    >>> grad_inputs, grads = net.backward(grad_output, saved)
    >>> opt.step(grads)

Saved and loaded into a network of the same make:

    >>> refnet.save(net.state_dict(), "and.npz")
    >>> twin = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1))
    >>> twin.load_state_dict(refnet.load("and.npz"))
    <All keys matched successfully>
    >>> bool(np.array_equal(twin.forward(inputs)[0], net.forward(inputs)[0]))
    True
"""

from refnet import nn, optim
from refnet.generator import Generator, manual_seed
from refnet.state import load, save
from refnet.train.training import History, ensemble, fit

__version__ = "0.1.0"

__all__ = ["Generator", "History", "__version__", "ensemble", "fit", "load", "manual_seed", "nn", "optim", "save"]
