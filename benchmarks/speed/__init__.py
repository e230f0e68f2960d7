"""How fast a training step is: refnet beside its peers, one thread, in turn and in one process."""
