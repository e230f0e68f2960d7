import re
from dataclasses import replace

from benchmarks.convergence import cell_overhead


def test_a_line_for_each_number_of_cells(monkeypatch):
    trained = []

    def train(cells):
        trained.append(len(cells))
        return genuine(cells)

    genuine = cell_overhead.train
    monkeypatch.setattr(cell_overhead, "train", train)
    heading, columns, *lines = cell_overhead.report((2, 3))
    assert "100 updates" in heading
    assert columns.split() == ["cells", "computed", "without", "its", "training", "found"]
    assert [line.split()[0] for line in lines] == ["2", "3"]
    for line in lines:
        assert re.fullmatch(r"\s+\d+(\s+\d+\.\d\d){3}", line)
        computed, untrained, found = map(float, line.split()[1:])
        assert computed > untrained > 0
        assert computed > found > 0
    # One by one, so that the price of a cell is not that of a group; and once more for an outcome to give out.
    assert trained == [1] * (2 + 1 + 3 + 1)


def test_an_outcome_given_for_every_cell():
    cell = cell_overhead.Cell("line", cell_overhead.Arm(1), 0.125, 0, "refnet", 5)
    given = cell_overhead._given(cell_overhead._one_by_one([cell]), [cell, replace(cell, seed=1)])
    assert repr(given) == repr(cell_overhead.train([cell]) * 2)
