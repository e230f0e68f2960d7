import sys
from pathlib import Path

import pytest

IMPORTABLE = Path(__file__).parent / "importable"

# Worker processes are given this process's path when they start.
sys.path.append(str(IMPORTABLE))


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
