"""Fixtures: one private PostgreSQL for all tests, a database and a worker for each."""
import os
import random
import signal
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from tests.support import no_skips, torture  # noqa: E402
from tests.support.browser import Browser  # noqa: E402
from tests.support.postgres import Cluster  # noqa: E402
from tests.support.sample import DATA, ONE_FOLDER, Failing, Gated  # noqa: E402
from tests.support.worker import Worker  # noqa: E402


def pytest_configure(config):
    config.pluginmanager.register(no_skips)
    # A shell's background ignores Ctrl-C, nohup the end of its terminal, and so would all that the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(items):
    """A process runs whole files. Those of deploy/ build in the same folder and take long: one process, at first."""
    for item in items:
        in_deploy = item.path.parent.name == "deploy"
        item.add_marker(pytest.mark.xdist_group("deploy" if in_deploy else item.path.stem))
    items.sort(key=lambda item: item.path.parent.name != "deploy")


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


@pytest.fixture
def sample_database(database):
    """With the sample's tenants and calls."""
    database.script(DATA)
    return database


@pytest.fixture(scope="session")
def replay_database(cluster):
    """With the tenants of the replay files; no test changes it. Its name is the one in the shipped files."""
    database = cluster.database("calls")
    database.script(DATA)
    yield database
    database.drop()


@pytest.fixture(scope="session")
def replay_worker(replay_database):
    """Serves that database; no test stops it."""
    worker = Worker(replay_database.url)
    yield worker
    worker.stop()


@pytest.fixture(scope="session")
def browser():
    browser = Browser()
    yield browser
    browser.stop()


@pytest.fixture
def start(request):
    """Starts workers, web servers and the like, and stops them when the test is over."""
    def started(kind, *arguments, **options):
        thing = kind(*arguments, **options)
        request.addfinalizer(thing.stop)
        return thing
    return started


@pytest.fixture
def one_folder(database):
    """With the folder acme/support/Billing, and no call_source: the test creates its own."""
    database.query(ONE_FOLDER)
    database.query("drop view callstats.call_source")
    return database


@pytest.fixture
def gated(cluster):
    """A request waits until the test opens the gate."""
    database = cluster.database(kind=Gated)
    database.install()
    yield database
    database.drop()


@pytest.fixture
def failing(cluster):
    """An answer fails after 30,000 days, which is after its first bytes were sent."""
    database = cluster.database(kind=Failing)
    database.install(30_000)
    yield database
    database.drop()


@pytest.fixture
def a_thousand_calls(database):
    """In two organizations and seven folders, in the first days of March 2026."""
    database.query(torture.TENANTS)
    choice = random.Random(1)
    for _ in range(10):
        database.query(
            "insert into callstats.call (organization_id, folder_id, agent_id, started_at, duration_ms) values "
            + ", ".join(torture.row(choice) for _ in range(100))
        )
    return database
