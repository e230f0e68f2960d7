import sys
from pathlib import Path

import pytest

from benchmarks.convergence import recorded_study, study_tables

IMPORTABLE = Path(__file__).parent / "importable"

# Worker processes are given this process's path when they start.
sys.path.append(str(IMPORTABLE))
import handmade_studies  # noqa: E402


@pytest.fixture(scope="session")
def dask(tmp_path_factory):
    """A Dask scheduler with two worker processes, on loopback; its address as a user would give it."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2,
        processes=True,
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",
        local_directory=str(tmp_path_factory.mktemp("dask")),
    ) as cluster:
        yield cluster.scheduler_address.replace("tcp://", "dask://")


@pytest.fixture(scope="session")
def study_of(tmp_path_factory):
    """A function that gives the study `handmade_studies.results(**options)`, as it is read from its written tables."""
    known = {}

    def read(**options):
        key = repr(sorted(options.items()))
        if key not in known:
            folder = tmp_path_factory.mktemp("study") / "tables"
            study_tables.write(folder, handmade_studies.results(**options))
            known[key] = recorded_study.read(folder)
        return known[key]

    return read


def _folder(folder, options):
    study_tables.write(folder / "tables", handmade_studies.results(**options))
    return folder


@pytest.fixture
def folder_of(tmp_path):
    """A function that makes a study's folder with the tables of `handmade_studies.results(**options)`."""
    return lambda **options: _folder(tmp_path / "study", options)


@pytest.fixture(scope="module")
def folder_with(tmp_path_factory):
    """The same for a whole module."""
    return lambda **options: _folder(tmp_path_factory.mktemp("folder"), options)
