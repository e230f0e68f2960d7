"""Loss scaling, under torch.amp's name."""

from refnet.amp.grad_scaler import GradScaler

__all__ = ["GradScaler"]
