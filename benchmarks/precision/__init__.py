"""What the yardstick sees of an engine's precision: sums of a declared depth, products of rounded factors."""
