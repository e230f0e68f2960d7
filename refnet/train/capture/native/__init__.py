"""Machine code for a program: what the rest of refnet needs of it stands here, and nothing else of it is imported."""

from refnet.train.capture.native.innermost import laid_out
from refnet.train.capture.native.lowering import TINY_PRODUCT
from refnet.train.capture.native.machine import Machine
from refnet.train.capture.native.translator import NotNative

__all__ = ["TINY_PRODUCT", "Machine", "NotNative", "laid_out"]
