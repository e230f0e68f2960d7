"""The dictionary of known mistakes, and of rewritings that are none."""

from parity.faults.activation import ACTIVATION
from parity.faults.container import CONTAINER
from parity.faults.conv import CONV
from parity.faults.dropout import DROPOUT
from parity.faults.entropy import ENTROPY
from parity.faults.fault import Fault
from parity.faults.linear import LINEAR
from parity.faults.loss import LOSS
from parity.faults.normalization import NORMALIZATION
from parity.faults.numerics import NUMERICS
from parity.faults.optim import OPTIM
from parity.faults.rewritings import REWRITINGS
from parity.faults.rnn import RNN
from parity.faults.training import TRAINING

__all__ = ["FAULTS", "REWRITINGS", "Fault"]

FAULTS = (
    *LINEAR,
    *CONTAINER,
    *DROPOUT,
    *ACTIVATION,
    *NORMALIZATION,
    *CONV,
    *RNN,
    *LOSS,
    *ENTROPY,
    *OPTIM,
    *NUMERICS,
    *TRAINING,
)
