"""Layers, losses and containers under torch.nn's names, arguments and defaults."""

from refnet.nn import init
from refnet.nn.activation import LogSoftmax, ReLU, Sigmoid, Softmax, Tanh
from refnet.nn.batchnorm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from refnet.nn.container import Sequential
from refnet.nn.conv import Conv2d
from refnet.nn.cross_entropy import CrossEntropyLoss
from refnet.nn.dropout import Dropout
from refnet.nn.instancenorm import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from refnet.nn.linear import Flatten, Identity, Linear
from refnet.nn.loss import BCELoss, BCEWithLogitsLoss, HalfSquaredError, L1Loss, MSELoss
from refnet.nn.module import Module
from refnet.nn.normalization import GroupNorm, LayerNorm, RMSNorm
from refnet.nn.rnn import LSTMCell

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Conv2d",
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "GroupNorm",
    "HalfSquaredError",
    "Identity",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "L1Loss",
    "LSTMCell",
    "LayerNorm",
    "Linear",
    "LogSoftmax",
    "MSELoss",
    "Module",
    "RMSNorm",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "init",
]
