"""Optimizers under torch.optim's names, arguments and defaults."""

from refnet.optim import lr_scheduler as lr_scheduler
from refnet.optim import swa_utils as swa_utils
from refnet.optim.adadelta import Adadelta
from refnet.optim.adafactor import Adafactor
from refnet.optim.adagrad import Adagrad
from refnet.optim.adam import Adam
from refnet.optim.adamax import Adamax
from refnet.optim.adamw import AdamW
from refnet.optim.asgd import ASGD
from refnet.optim.lbfgs import LBFGS
from refnet.optim.lion import Lion
from refnet.optim.muon import Muon
from refnet.optim.nadam import NAdam
from refnet.optim.radam import RAdam
from refnet.optim.rmsprop import RMSprop
from refnet.optim.rprop import Rprop
from refnet.optim.sgd import SGD
from refnet.optim.sparse_adam import SparseAdam

__all__ = [
    "ASGD",
    "LBFGS",
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lion",
    "Muon",
    "NAdam",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SparseAdam",
]
