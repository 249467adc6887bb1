"""Fixtures: one private PostgreSQL for all tests, a database and a worker for each."""
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from tests.support.postgres import Cluster  # noqa: E402
from tests.support.processes import PROJECT  # noqa: E402
from tests.support.worker import Worker  # noqa: E402


@pytest.fixture(scope="session")
def cluster():
    cluster = Cluster()
    yield cluster
    cluster.remove()


@pytest.fixture
def database(cluster):
    database = cluster.database()
    yield database
    database.drop()


@pytest.fixture(scope="session")
def replay_database(cluster):
    """With the tenants of the replay files; no test changes it."""
    database = cluster.database()
    database.script(PROJECT / "tests" / "replay" / "data.sql")
    yield database
    database.drop()


@pytest.fixture(scope="session")
def replay_worker(replay_database):
    """Serves that database; no test stops it."""
    worker = Worker(replay_database.url)
    yield worker
    worker.stop()


@pytest.fixture
def start(request):
    """Starts workers, web servers and the like, and stops them when the test is over."""
    def started(kind, *arguments, **options):
        thing = kind(*arguments, **options)
        request.addfinalizer(thing.stop)
        return thing
    return started
