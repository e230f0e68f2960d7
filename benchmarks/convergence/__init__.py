"""The convergence study: batch, mini-batch and stochastic gradient descent, compared at equal numbers of updates."""
