"""Layers, losses and containers under torch.nn's names, arguments and defaults."""

from refnet.nn import init
from refnet.nn.activation import LogSoftmax, ReLU, Sigmoid, Softmax, Tanh
from refnet.nn.binary_cross_entropy import (
    BCELoss,
    BCEWithLogitsLoss,
    MultiLabelSoftMarginLoss,
    SoftMarginLoss,
)
from refnet.nn.container import Sequential
from refnet.nn.conv import Conv2d
from refnet.nn.cross_entropy import CrossEntropyLoss
from refnet.nn.distance import CosineSimilarity, PairwiseDistance
from refnet.nn.dropout import Dropout
from refnet.nn.likelihood import GaussianNLLLoss, KLDivLoss, NLLLoss, PoissonNLLLoss
from refnet.nn.linear import Flatten, Identity, Linear
from refnet.nn.linear_cross_entropy import LinearCrossEntropyLoss
from refnet.nn.loss import HalfSquaredError, HuberLoss, L1Loss, MSELoss, SmoothL1Loss
from refnet.nn.margin import (
    CosineEmbeddingLoss,
    HingeEmbeddingLoss,
    MarginRankingLoss,
    MultiLabelMarginLoss,
    MultiMarginLoss,
    TripletMarginLoss,
)
from refnet.nn.module import Module
from refnet.nn.normalization import BatchNorm1d, LayerNorm
from refnet.nn.rnn import LSTMCell

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "Conv2d",
    "CosineEmbeddingLoss",
    "CosineSimilarity",
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "GaussianNLLLoss",
    "HalfSquaredError",
    "HingeEmbeddingLoss",
    "HuberLoss",
    "Identity",
    "KLDivLoss",
    "L1Loss",
    "LSTMCell",
    "LayerNorm",
    "Linear",
    "LinearCrossEntropyLoss",
    "LogSoftmax",
    "MSELoss",
    "MarginRankingLoss",
    "Module",
    "MultiLabelMarginLoss",
    "MultiLabelSoftMarginLoss",
    "MultiMarginLoss",
    "NLLLoss",
    "PairwiseDistance",
    "PoissonNLLLoss",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "SmoothL1Loss",
    "SoftMarginLoss",
    "Softmax",
    "Tanh",
    "TripletMarginLoss",
    "init",
]
