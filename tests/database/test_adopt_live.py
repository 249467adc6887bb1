"""Adopted tables while things happen: answers that stream over several sources, mappings that are replaced or removed
under requests, poolers, and a day with more groups than memory should hold."""
import contextlib
import datetime
import json
import subprocess
import threading

import psycopg2
import pytest

from ..support import fastcgi
from ..support.oracle import Call, Days, answer
from ..support.pgbouncer import PgBouncer
from ..support.processes import CALLSTATS, as_user, wait_until
from ..support.worker import ROOT_TOKEN, Worker
from .test_adopt import FLAT, adopt, body

OTHER = ("--relation", "public.other", "--company", "'acme'", "--organization", "'support'",
         "--folder", "queue", "--agent", "agent", "--start", "at", "--duration", "ms", "--unit", "ms",
         "--time_zone", "UTC")


def several_sources(database):
    """Loaded calls, a table with daily sums of its older days, and another one; returns the calls of all."""
    database.query(FLAT.format("timestamptz", "int"))
    database.query("create table public.other (queue text, agent text, at timestamptz, ms int)")
    today = datetime.datetime.now(datetime.UTC).replace(tzinfo=None, hour=0, minute=0, second=0, microsecond=0)
    calls = []
    for ago in range(300, -1, -1):
        day = today - datetime.timedelta(days=ago)
        for n in range(12):
            at = day + datetime.timedelta(hours=n)
            calls += [(source, Call("acme", "support", f"Queue {n % 2}", f"agent {n}" if n % 5 else None, at, ms))
                      for source, ms in (("flat", 1000 * n), ("other", 10 * n), ("loaded", n))]
    rows = {source: [call for named, call in calls if named == source] for source in ("flat", "other", "loaded")}

    def agent(call):
        return call.agent or "\\N"
    database.copy("public.calls", [
        f"acme\tsupport\t{call.folder}\t{agent(call)}\t{call.started_at}Z\t{call.duration_ms // 1000}\n"
        for call in rows["flat"]])
    database.copy("public.other", [f"{call.folder}\t{agent(call)}\t{call.started_at}Z\t{call.duration_ms}\n"
                                   for call in rows["other"]])
    database.query("create index on public.calls (company, organization, started); create index on public.other (at)")
    adopt(database, "on", "--preset", "flat", "--time_zone", "UTC", "--horizon", "90 days")
    adopt(database, "on", "--name", "other", *OTHER)
    folders = dict(database.query("select name, id from callstats.folder"))
    organization = database.value("select id from callstats.organization")
    database.copy("callstats.call (organization_id, folder_id, agent_id, started_at, duration_ms)", [
        f"{organization}\t{folders[call.folder]}\t{agent(call)}\t{call.started_at}\t{call.duration_ms}\n"
        for call in rows["loaded"]])
    adopt(database, "sync")
    database.query("analyze")
    return [call for _, call in calls], today


@contextlib.contextmanager
def asked_all_the_time(worker):
    """Yields the list of statuses, each with its body if that is an answer; complete at the end."""
    seen, over = [], threading.Event()

    def ask():
        while not over.is_set():
            found = worker.get("/stats/acme/support?daterange=20260304")
            seen.append((found.status, found.body.decode() if found.status == 200 else ""))
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_several_sources_add_up_and_stream(database, start):
    """The rows of the last day wait for a lock; the first byte does not."""
    calls, today = several_sources(database)
    days = f"{today - datetime.timedelta(days=400):%Y%m%d}-{today:%Y%m%d}"
    expected = answer(calls, "acme", "support", None, Days(days, "UTC"))
    worker = start(Worker, database.url)
    assert body(worker, "acme/support", days) == expected
    database.query(f"""create function public.gate(at timestamptz) returns boolean language plpgsql as $$
        begin
            if at >= '{today}Z' then
                perform pg_advisory_lock_shared(1);
                perform pg_advisory_unlock_shared(1);
            end if;
            return true;
        end $$""")
    adopt(database, "on", "--name", "other", *OTHER, "--filter", "public.gate(at)")
    database.query("select pg_advisory_lock(1)")
    uri = f"/stats/acme/support?token={ROOT_TOKEN}&daterange={days}"
    with fastcgi.Connection(worker.socket) as connection:
        connection.send(fastcgi.request(fastcgi.parameters("GET", uri)))
        kind, _, content = connection.read_record()
        assert kind == fastcgi.STDOUT and content.startswith(b"Status: 200 OK\r\n")
        wait_until(lambda: database.query("select 1 from pg_locks where locktype = 'advisory' and not granted"),
                   what="the last day waits")
        database.query("select pg_advisory_unlock(1)")
        rest, _, app_status = connection.receive_streams()
    assert app_status == 0
    assert fastcgi.cgi_response(content + rest)[2].decode() == expected


@pytest.mark.slow
def test_memory_of_the_worker_does_not_grow_with_an_adopted_range(database, start):
    database.query(FLAT.format("timestamptz", "int"))
    database.query("""insert into public.calls
        select 'acme', 'support', 'Queue ' || n % 20, 'agent ' || n % 400,
               timestamptz '2024-01-01Z' + n * interval '30 s', 5
        from generate_series(0, 999999) n;
        create index on public.calls (company, organization, started)""")
    database.query("vacuum analyze public.calls")
    adopt(database, "on", "--preset", "flat", "--time_zone", "UTC")
    worker = start(Worker, database.url)
    entries = json.loads(body(worker, "acme/support", "20240101-20251231"))
    assert sum(entry["calls"] for entry in entries) == 1_000_000
    assert worker.status("VmHWM") < 32 * 1024


@pytest.mark.slow
def test_an_answer_is_never_wrong_while_mappings_come_and_go(database, start):
    """A request sees one mapping, the other, or none; it may be told to come again, and gets no internal error."""
    database.query(FLAT.format("timestamptz", "int"))
    database.query("""create table public.other (queue text, agent text, at timestamptz, ms int);
        insert into public.calls select 'acme', 'support', 'Sales', 'anna', '2026-03-04 12:00Z', n
        from generate_series(1, 5) n;
        insert into public.other select 'Sales', 'bob', '2026-03-04 12:00Z', n * 1000 from generate_series(1, 7) n""")
    flat, other = ("on", "--preset", "flat", "--name", "one", "--time_zone", "UTC"), ("on", "--name", "one", *OTHER)
    worker = start(Worker, database.url)
    adopt(database, *flat)
    allowed = {"[]", body(worker, "acme/support", "20260304")}
    adopt(database, *other)
    allowed.add(body(worker, "acme/support", "20260304"))
    assert len(allowed) == 3
    with asked_all_the_time(worker) as seen:
        for _ in range(8):
            for command in (flat, other, ("off",), other, ("sync",), ("off",)):
                adopt(database, *command)
    assert {status for status, _ in seen} <= {200, 503}, set(seen)
    assert {text for status, text in seen if status == 200} == allowed


def test_a_table_that_is_gone_for_a_moment_is_never_an_internal_error(database, start):
    """The site renames its table, and a column, and back, under requests."""
    database.query(FLAT.format("timestamptz", "int"))
    database.query("insert into public.calls select 'acme', 'support', 'Sales', 'anna', '2026-03-04 12:00Z', n "
                   "from generate_series(1, 5) n")
    adopt(database, "on", "--preset", "flat", "--time_zone", "UTC")
    worker = start(Worker, database.url)
    right = body(worker, "acme/support", "20260304")
    with asked_all_the_time(worker) as seen:
        for change, back in 15 * (("calls rename to gone", "gone rename to calls"),
                                  ("calls rename column agent to person", "calls rename column person to agent")):
            database.query(f"alter table public.{change}")
            failures = seen.count((503, ""))
            wait_until(lambda failures=failures: seen.count((503, "")) > failures, what="a request meets the change")
            database.query(f"alter table public.{back}")
    assert set(seen) == {(200, right), (503, "")}
    assert body(worker, "acme/support", "20260304") == right


@pytest.mark.parametrize("mode", [pytest.param("session", marks=pytest.mark.slow), "transaction"])
def test_every_command_works_through_a_pooler_and_leaves_its_session_as_it_was(database, start, mode):
    """One server session, which others use after each transaction."""
    database.query(FLAT.format("timestamptz", "int"))
    database.query("""insert into public.calls
        select 'acme', 'support', 'Sales', 'anna', now() - n * interval '1 day', 10 from generate_series(1, 100) n""")
    pooler = start(PgBouncer, database, mode, default_pool_size=1)
    url = pooler.url.replace("user=callstats_worker", "user=owner")

    def state():
        with contextlib.closing(psycopg2.connect(url)) as pooled, pooled.cursor() as cursor:
            pooled.autocommit = True
            cursor.execute("""select (select count(*) from pg_prepared_statements),
                (select count(*) from pg_class where relnamespace = pg_my_temp_schema()),
                (select count(*) from pg_locks where locktype = 'advisory'),
                current_setting('jit'), current_setting('client_min_messages'), current_setting('search_path'),
                current_setting('plan_cache_mode'), current_setting('enable_seqscan')""")
            return cursor.fetchone()
    before = state()
    flat = ("--preset", "flat", "--time_zone", "UTC", "--horizon", "7 days")
    for _ in range(2):
        for command in (("try", *flat), ("on", *flat), ("sync",), ("sync", "--full"), ("status",), ("off",)):
            done = subprocess.run([CALLSTATS, "adopt", *command, "--database", url], capture_output=True, text=True,
                                  stdin=subprocess.DEVNULL, **as_user())
            assert done.returncode == 0, (command, done.stdout, done.stderr)
            assert state() == before, command
    failed = subprocess.run([CALLSTATS, "adopt", "on", *flat, "--agent", "nope", "--database", url],
                            capture_output=True, text=True, stdin=subprocess.DEVNULL, **as_user())
    assert failed.returncode != 0 and state() == before


@pytest.mark.slow
def test_memory_of_sync_does_not_grow_with_the_groups_of_a_day(database):
    database.query(FLAT.format("timestamptz", "int"))
    groups = 500_000
    database.query(f"""insert into public.calls
        select 'acme', 'support', 'Queue ' || n % 20, 'agent ' || n, timestamptz '2026-01-10 12:00Z', 5
        from generate_series(1, {groups}) n""")
    adopt(database, "on", "--preset", "flat", "--time_zone", "UTC", "--horizon", "7 days")
    url = database.url.replace("user=callstats_worker", "user=owner")
    # A process counts the memory of the one that started it as its own: this one has more than it may have.
    done = subprocess.run(["/usr/bin/time", "-f", "%M", CALLSTATS, "adopt", "sync", "--database", url],
                          capture_output=True, text=True, stdin=subprocess.DEVNULL, **as_user())
    assert done.returncode == 0, done.stderr
    peak = int(done.stderr.splitlines()[-1])
    print(f"peak memory of adopt sync with {groups} groups: {peak / 1024:.0f} MB")
    assert peak < 64 * 1024
    assert database.value("select count(*) from callstats.source_day") == groups
