"""Benchmarks: what is claimed about speed, measured against named peers in one run."""
