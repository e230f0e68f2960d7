"""Results as a terminal table, JSON and JUnit: pure functions of `parity.run.results`."""
