"""Random trainings, done plainly and in every captured way: whether every bit is the same."""
