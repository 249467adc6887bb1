"""Through PgBouncer as Debian 12 and 13 ship it, in session and in transaction mode: answers, limits, statements,
cancelling."""

import concurrent.futures
import contextlib
import json
import os
import re
import socket
import subprocess
import time

import psycopg2
import pytest

from ..support import fastcgi
from ..support.pgbouncer import PgBouncer, newer
from ..support.postgres import Cluster
from ..support.processes import as_user, wait_until
from ..support.sample import BILLING, DATA, DAY
from ..support.worker import ROOT_TOKEN, Worker, cgi, check

MODES = ["session", "transaction"]


@pytest.fixture(params=["Debian 12", "Debian 13"])
def pgbouncer(request):
    return PgBouncer if request.param == "Debian 12" else newer()


@pytest.fixture
def own_database():
    """In a cluster of its own, which the test stops and starts."""
    cluster = Cluster(name="pooled")
    database = cluster.database("calls")
    database.script(DATA)
    yield database
    cluster.remove()


def assert_answered_by_cgi(url, folder, pooler):
    status, body, log = cgi(url, folder, DAY)
    assert (status, body) == (200, BILLING), f"{log}\n{pooler.process.text()}"


@pytest.mark.parametrize("mode", MODES)
def test_answers_come_through_a_pooler(mode, replay_database, pgbouncer, start):
    pooler = start(pgbouncer, replay_database, mode)
    for url in (pooler.url, pooler.tcp_url):
        worker = start(Worker, url)
        with concurrent.futures.ThreadPoolExecutor(16) as threads:
            answers = list(threads.map(lambda _, worker=worker: worker.ask("GET", DAY), range(200)))
        assert {(answer.status, answer.body) for answer in answers} == {(200, BILLING)}, worker.text()
        assert_answered_by_cgi(url, worker.folder, pooler)


def test_statements_without_a_name_take_over_where_prepared_ones_are_lost(replay_database, pgbouncer, start):
    """Two workers whose statements have the same names, on server connections that they share."""
    pooler = start(pgbouncer, replay_database, "transaction")
    workers = [start(Worker, pooler.url) for _ in range(3)]
    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda at: workers[at % 3].ask("GET", DAY), range(300)))
    assert {(answer.status, answer.body) for answer in answers} == {(200, BILLING)}
    counts = [worker.text().count("prepared statements do not last") for worker in workers]
    expected = 1 if pgbouncer is PgBouncer else 0
    assert max(counts) == expected, "noted, and once; PgBouncer 1.21 and newer keeps them"


def test_session_keeps_its_prepared_statements(replay_database, pgbouncer, start):
    pooler = start(pgbouncer, replay_database, "session")
    worker = start(Worker, pooler.url)
    assert worker.ask("GET", DAY).body == BILLING
    assert "prepared statements do not last" not in worker.text()
    # `callstats check` must not disturb, or be disturbed by, the statements of the worker.
    environment = {"DATABASE_URL": pooler.url, "CALLSTATS_ROOT_TOKEN_FILE": str(worker.root_token_file)}
    for _ in range(2):
        code, text = check(environment)
        assert "through a pooler" in text and "FAIL   database" not in text, text


@pytest.fixture
def settings_as_calls(one_folder):
    """The answer shows what holds for its own statement: settings as the agent, the timeout as the duration."""
    one_folder.query("""
        create function callstats.ms(text) returns int language sql stable as
            $$ select (extract(epoch from current_setting($1)::interval) * 1000)::int $$;
        create view callstats.call_source as
            select 1 as organization_id, date '2026-03-03' as call_date, 1 as folder_id,
            concat_ws(' ', current_setting('transaction_read_only'), current_setting('jit'),
                current_setting('plan_cache_mode'), current_setting('idle_in_transaction_session_timeout'),
                current_setting('search_path')) as agent_id,
            1 as calls, callstats.ms('statement_timeout') as duration_ms;
        grant select on callstats.call_source to callstats_worker;
        grant execute on function callstats.ms(text) to callstats_worker""")
    return one_folder


ROLE_LIMITS = {"statement_timeout": "30s", "idle_in_transaction_session_timeout": "60s"}


@pytest.fixture(params=["as schema.sql has it", "without limits", "with limits of the site"])
def role(request, one_folder):
    """The role is that of all databases of the server: what it had is set again."""
    limits = {
        "as schema.sql has it": ROLE_LIMITS,
        "without limits": dict.fromkeys(ROLE_LIMITS, 0),
        "with limits of the site": {"statement_timeout": "1s", "idle_in_transaction_session_timeout": "7s"},
    }

    def set_limits(values):
        for name, value in values.items():
            one_folder.query(f"alter role callstats_worker set {name} = '{value}'")

    set_limits(limits[request.param])
    yield "7s" if "site" in request.param else "1min"
    set_limits(ROLE_LIMITS)


@pytest.mark.parametrize("way", ["direct", *MODES])
def test_settings_hold_in_every_mode(way, role, settings_as_calls, pgbouncer, start):
    """Whatever the role has. The limit of idle transactions is the role's if it has one."""
    database = settings_as_calls
    url = database.url if way == "direct" else start(pgbouncer, database, way).url
    worker = start(Worker, url, CALLSTATS_STATEMENT_TIMEOUT_MS="12000")
    answers = [worker.ask("GET", DAY).body for _ in range(3)]
    answers.append(cgi(url, worker.folder, DAY, CALLSTATS_STATEMENT_TIMEOUT_MS="12000")[1])
    for answer in answers:
        (day,) = json.loads(answer)
        (agent,) = day["agents"]
        assert agent["agent_id"] == f"on off force_generic_plan {role} pg_catalog, pg_temp"
        assert day["avg_duration_seconds"] == 12


@pytest.mark.parametrize("mode", MODES)
def test_statement_timeout_holds_through_a_pooler(mode, gated, pgbouncer, start):
    worker = start(Worker, start(pgbouncer, gated, mode).url, CALLSTATS_STATEMENT_TIMEOUT_MS="300")
    began = time.monotonic()
    answer = worker.ask("GET", DAY)
    assert answer.status == 503 and "retry-after" not in answer.headers and time.monotonic() - began < 5
    assert cgi(worker.environment["DATABASE_URL"], worker.folder, DAY, CALLSTATS_STATEMENT_TIMEOUT_MS="300")[0] == 503
    gated.open()
    assert worker.ask("GET", DAY).body == BILLING


@pytest.mark.parametrize("mode", MODES)
def test_shared_server_connection_keeps_no_state(mode, replay_database, pgbouncer, start):
    """Another client of the same pool finds the defaults of the role."""
    pooler = start(pgbouncer, replay_database, mode, default_pool_size=1)
    worker = start(Worker, pooler.url, CALLSTATS_DB_CONNECTIONS="1")
    assert worker.ask("GET", DAY).body == BILLING
    if mode == "session":
        worker.process.stop()  # or it would hold the only server connection
    shown = subprocess.run(
        ["psql", "-X", "-At", pooler.url, "-c", "show statement_timeout", "-c", "show default_transaction_read_only"],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
        **as_user(),
    )
    assert shown.stdout.split() == ["30s", "off"]


@pytest.mark.parametrize("mode", MODES)
def test_statement_is_cancelled_through_a_pooler(mode, one_folder, pgbouncer, start):
    """A client that disconnects while rows arrive."""
    one_folder.query("""
        create function callstats.slowly(n int) returns int language plpgsql stable as
            $$ begin if n > 2000 then perform pg_sleep(0.001); end if; return 1000; end $$;
        create table callstats.day
            (organization_id int, call_date date, folder_id int, agent_id text collate "C", n int);
        insert into callstats.day select 1, date '2000-01-01' + n, 1, null, n from generate_series(0, 50000) n;
        create index on callstats.day (organization_id, call_date, folder_id, agent_id) include (n);
        analyze callstats.day;
        create view callstats.call_source as select organization_id, call_date, folder_id, agent_id, 1 as calls,
            callstats.slowly(n) as duration_ms from callstats.day;
        grant select on callstats.call_source to callstats_worker""")
    for option in ("hashagg", "seqscan", "bitmapscan"):  # as the planner decides for a large table
        one_folder.query(f"alter database {one_folder.name} set enable_{option} = off")
    worker = start(Worker, start(pgbouncer, one_folder, mode).url)

    def runs():
        return one_folder.query("""select 1 from pg_stat_activity
            where usename = 'callstats_worker' and state = 'active'
            and datname = current_database()""")

    uri = f"/stats/acme/support/Billing?token={ROOT_TOKEN}&daterange=20000101-21001231"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(worker.socket)
        connection.sendall(fastcgi.request(fastcgi.parameters("GET", uri)))
        assert connection.recv(100) and runs()
    wait_until(lambda: not runs(), 5, "the statement is cancelled")
    wait_until(lambda: "client disconnected" in worker.text())
    assert " WARN " not in worker.text()


# A server connection that PgBouncer could not open, or closed itself during its login because of PAUSE or KILL, counts
# as failed: PgBouncer opens no other for server_login_retry, which is 15 seconds unless it is set.
RETRY = {"server_login_retry": 1}


@pytest.mark.slow
def test_pooler_that_restarts_or_pauses_is_waited_for(replay_database, pgbouncer, start):
    pooler = start(pgbouncer, replay_database, "transaction", **RETRY)
    worker = start(Worker, pooler.url, CALLSTATS_DB_WAIT_MS="5000")
    assert worker.ask("GET", DAY).body == BILLING
    pooler.process.stop()
    assert worker.ask("GET", DAY).status == 503
    assert cgi(pooler.url, worker.folder, DAY)[0] == 503
    pooler.start()
    wait_until(lambda: worker.ask("GET", DAY).status == 200, 30)
    pooler.admin("PAUSE")
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(worker.ask, "GET", DAY)
        wait_until(lambda: os.path.exists(worker.socket))
        pooler.admin("RESUME")
        assert waiting.result(30).body == BILLING, worker.text() + (pooler.folder / "log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_requests_are_answered_soon_after_a_pooler_recovered(mode, own_database, pgbouncer, start):
    """Whatever kept it from answering. In session mode PAUSE waits for all clients to leave, so it is left out."""
    pooler = start(pgbouncer, own_database, mode, **RETRY)
    name, cluster = own_database.name, own_database.cluster
    worker = start(Worker, pooler.url, CALLSTATS_DB_WAIT_MS="1000")
    assert worker.ask("GET", DAY).body == BILLING
    ways = [
        (lambda: pooler.admin(f"KILL {name}"), lambda: pooler.admin(f"RESUME {name}")),
        (cluster.stop, cluster.start),
        (lambda: pooler.admin("RECONNECT"), lambda: None),
    ]
    if mode == "transaction":
        ways.append((lambda: pooler.admin("PAUSE"), lambda: pooler.admin("RESUME")))
    for fail, recover in ways:
        fail()
        for _ in range(2):
            began = time.monotonic()
            assert worker.ask("GET", DAY).status in (200, 503) and time.monotonic() - began < 4
        recover()
        wait_until(lambda: worker.ask("GET", DAY).body == BILLING, 6, f"recovered, {mode}")
    assert not re.search(r"Hint: *$", worker.text(), re.MULTILINE), worker.text()


def test_logins_that_a_pooler_refuses_are_reported_as_such(replay_database, start):
    pooler = start(PgBouncer, replay_database, "transaction", max_client_conn=2)
    with contextlib.closing(psycopg2.connect(pooler.url)), contextlib.closing(psycopg2.connect(pooler.url)):
        status, _, log = cgi(pooler.url, pooler.folder, DAY)
        assert status == 503 and "the database refused the connection: no more connections allowed" in log, log
        status, _, log = cgi(f"{pooler.url} options='-c work_mem=1MB'", pooler.folder, DAY)
        assert status == 503 and "unsupported startup parameter: options" in log, log
        assert "Hint: check the settings of the pooler, and options in DATABASE_URL" in log
    worker = start(Worker, pooler.url)
    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: worker.ask("GET", DAY), range(100)))
    assert {answer.body for answer in answers} == {BILLING}, "two connections are enough"


@pytest.mark.parametrize(
    "mode, settings, reason",
    [
        ("statement", {}, "transaction blocks not allowed in statement pooling mode"),
        ("transaction", {"disable_pqexec": 1}, "PQexec disallowed"),
    ],
)
def test_reason_that_a_pooler_sends_before_it_closes_is_reported(
    mode, settings, reason, replay_database, pgbouncer, start
):
    pooler = start(pgbouncer, replay_database, mode, **settings)
    worker = start(Worker, pooler.url, CALLSTATS_DB_WAIT_MS="1000")
    for _ in range(3):
        assert worker.ask("GET", DAY).status == 503
    causes = [line.partition(" ms: ")[2] for line in worker.text().splitlines() if " 503 " in line]
    assert len(causes) == 3 and all(reason in cause for cause in causes), worker.text()
    status, _, log = cgi(pooler.url, worker.folder, DAY)
    assert status == 503 and reason in log, log


def test_pooler_without_a_free_server_connection_is_answered_in_time(replay_database, start):
    """PgBouncer accepts any login, and leaves the first statement waiting."""
    pooler = start(PgBouncer, replay_database, "session", default_pool_size=1, reserve_pool_size=0)
    with contextlib.closing(psycopg2.connect(pooler.url)) as holder:
        holder.cursor().execute("select 1")
        folder = start(Worker, replay_database.url).folder
        started = time.monotonic()
        status, body, log = cgi(pooler.url, folder, DAY)
        assert (status, time.monotonic() - started < 10) == (503, True), (body, log)
        assert "no reply within 2000 ms" in log and "a pooler without a free server connection" in log, log
        worker = start(Worker, pooler.url)
        assert worker.ask("GET", DAY).status == 503
    assert_answered_by_cgi(pooler.url, folder, pooler)
    wait_until(lambda: worker.ask("GET", DAY).status == 200, 30)
