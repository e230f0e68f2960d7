"""The dictionary of known mistakes, and of rewritings that are none."""

from parity.families.fault import Fault
from parity.families.nn.activation.faults import ACTIVATION
from parity.families.nn.batchnorm.faults import NORMALIZATION
from parity.families.nn.container.faults import CONTAINER
from parity.families.nn.conv.faults import CONV
from parity.families.nn.cross_entropy.faults import ENTROPY
from parity.families.nn.dropout.faults import DROPOUT
from parity.families.nn.linear.faults import LINEAR
from parity.families.nn.loss.faults import LOSS
from parity.families.nn.rnn.faults import RNN
from parity.families.optim.sgd.faults import OPTIM
from parity.families.whole.arithmetic.faults import NUMERICS
from parity.families.whole.arithmetic.rewritings import REWRITINGS
from parity.families.whole.training.faults import TRAINING

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
