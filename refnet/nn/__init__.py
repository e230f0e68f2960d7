"""Layers, losses and containers under torch.nn's names, arguments and defaults."""

from refnet.nn import init
from refnet.nn import utils as utils
from refnet.nn.activation import (
    CELU,
    ELU,
    GELU,
    SELU,
    LogSigmoid,
    Mish,
    Sigmoid,
    SiLU,
    Softplus,
    Softsign,
    Tanh,
    Tanhshrink,
)
from refnet.nn.activation_gated import GEGLU, GLU, SwiGLU
from refnet.nn.activation_piecewise import (
    Hardshrink,
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    LeakyReLU,
    PReLU,
    ReLU,
    ReLU6,
    RReLU,
    Softshrink,
    Threshold,
)
from refnet.nn.activation_softmax import LogSoftmax, Softmax, Softmax2d, Softmin
from refnet.nn.attention import ScaledDotProductAttention
from refnet.nn.batchnorm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from refnet.nn.binary_cross_entropy import BCELoss, BCEWithLogitsLoss, MultiLabelSoftMarginLoss, SoftMarginLoss
from refnet.nn.container import Sequential
from refnet.nn.conv import Conv2d
from refnet.nn.cross_entropy import CrossEntropyLoss
from refnet.nn.distance import CosineSimilarity, PairwiseDistance
from refnet.nn.dropout import Dropout
from refnet.nn.graph import Graph
from refnet.nn.instancenorm import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
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
from refnet.nn.multihead_attention import MultiheadAttention
from refnet.nn.normalization import GroupNorm, LayerNorm, RMSNorm
from refnet.nn.rnn import LSTMCell
from refnet.nn.rotary import RotaryEmbedding
from refnet.nn.sparse import Embedding, EmbeddingBag
from refnet.nn.transformer import TransformerEncoderLayer
from refnet.nn.transformer_decoder import TransformerDecoderLayer
from refnet.nn.transformer_stack import Transformer, TransformerDecoder, TransformerEncoder

__all__ = [
    "CELU",
    "ELU",
    "GEGLU",
    "GELU",
    "GLU",
    "SELU",
    "BCELoss",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Conv2d",
    "CosineEmbeddingLoss",
    "CosineSimilarity",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "EmbeddingBag",
    "Flatten",
    "GaussianNLLLoss",
    "Graph",
    "GroupNorm",
    "HalfSquaredError",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "HingeEmbeddingLoss",
    "HuberLoss",
    "Identity",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "KLDivLoss",
    "L1Loss",
    "LSTMCell",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LinearCrossEntropyLoss",
    "LogSigmoid",
    "LogSoftmax",
    "MSELoss",
    "MarginRankingLoss",
    "Mish",
    "Module",
    "MultiLabelMarginLoss",
    "MultiLabelSoftMarginLoss",
    "MultiMarginLoss",
    "MultiheadAttention",
    "NLLLoss",
    "PReLU",
    "PairwiseDistance",
    "PoissonNLLLoss",
    "RMSNorm",
    "RReLU",
    "ReLU",
    "ReLU6",
    "RotaryEmbedding",
    "ScaledDotProductAttention",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SmoothL1Loss",
    "SoftMarginLoss",
    "Softmax",
    "Softmax2d",
    "Softmin",
    "Softplus",
    "Softshrink",
    "Softsign",
    "SwiGLU",
    "Tanh",
    "Tanhshrink",
    "Threshold",
    "Transformer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "TripletMarginLoss",
    "init",
]
