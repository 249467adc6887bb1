"""Past one machine: streaming replicas, and organizations spread over shards."""
import contextlib
import random
import re
import threading
import time

import pytest

from ..support import torture
from ..support.postgres import Cluster, Replica
from ..support.processes import PROJECT, wait_until
from ..support.sample import BILLING, DATA, DAY
from ..support.worker import ROOT_TOKEN, Worker, check
from .test_adopt import FLAT, adopt


def test_loss_of_one_of_two_servers_under_load_is_survived(start):
    """A replica first, its primary behind it; the replica is stopped."""
    with contextlib.ExitStack() as stack:
        primary = Cluster()
        stack.callback(primary.remove)
        database = primary.database()
        database.script(DATA)
        replica = Replica(primary)
        stack.callback(replica.remove)
        url = database.url.replace(
            f"host={primary.folder.path}", f"host={replica.folder.path},{primary.folder.path}"
        ).replace("port=5432", "port=5432,5432")
        worker = start(Worker, url)
        assert worker.ask("GET", DAY).body == BILLING
        with contextlib.closing(replica.connect(database.name)) as connection, connection.cursor() as cursor:
            cursor.execute(
                "select count(*), pg_is_in_recovery() from pg_stat_activity where usename = 'callstats_worker'"
            )
            connections, is_replica = cursor.fetchone()
            assert connections > 0 and is_replica, "it reads from the replica"
        # What is written at the primary arrives.
        database.query("update callstats.call set duration_ms = 2000 where folder_id = 2")
        wait_until(lambda: b'"avg_duration_seconds":2}' in worker.ask("GET", DAY).body)
        database.query("update callstats.call set duration_ms = 1000 where folder_id = 2")
        wait_until(lambda: worker.ask("GET", DAY).body == BILLING)

        seen, over = [], threading.Event()

        def load():
            while not over.is_set():
                answer = worker.ask("GET", DAY)
                seen.append((time.monotonic(), answer.status, answer.body))

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(seen) > 200)
        lost = time.monotonic()
        replica.stop()
        wait_until(lambda: len([1 for at, status, _ in seen if at > lost + 0.1 and status == 200]) > 200)
        over.set()
        for thread in threads:
            thread.join()
        bad = [at - lost for at, status, _ in seen if status != 200]
        print(f"{len(seen)} answers, {len(bad)} of them not 200, the last {max(bad, default=0):.2f} s after the loss")
        assert max(bad, default=0) < 2
        assert {body for _, status, body in seen if status == 200} == {BILLING}


@pytest.fixture
def shards():
    """A coordinator, and two shards: organization 1 is on the one, 2 on the other."""
    with contextlib.ExitStack() as stack:
        clusters = []
        for _ in range(3):
            clusters.append(Cluster(["log_statement=all"], name="shard"))
            stack.callback(clusters[-1].remove)
        databases = [cluster.database() for cluster in clusters]
        coordinator, *others = databases
        for database in databases:
            database.query(torture.TENANTS)
        coordinator.script(PROJECT / "deploy" / "shards.sql")
        for organization, (name, shard) in enumerate(zip(("one", "two"), others), 1):
            choice = random.Random(organization)
            rows = [row for row in (torture.row(choice) for _ in range(6000)) if row.startswith(f"({organization},")]
            shard.query(
                "insert into callstats.call (organization_id, folder_id, agent_id, started_at, duration_ms) values "
                + ", ".join(rows)
            )
            coordinator.query("select callstats.add_shard(%s, %s)", name, f"host={shard.cluster.folder.path} port=5432 "
                              f"dbname={shard.name} user=callstats_worker")
            coordinator.query("select callstats.place(%s, %s)", organization, name)
        yield databases


PLANNED = "options='-c plan_cache_mode=force_custom_plan'"  # as shards.sql has it


def test_shards_answer_as_one_server(shards, start):
    """The answers are those of the shards, and the sums are computed there, as the statements in their logs show."""
    coordinator, one, two = shards
    worker = start(Worker, f"{coordinator.url} {PLANNED}")
    one.script(PROJECT / "deploy" / "rollup.sql")
    one.query("call callstats.compact()")
    one.script(PROJECT / "deploy" / "rollup.sql")
    coordinator.query("select callstats.place(1, 'one')")
    for organization, shard in (("a", one), ("b", two)):
        alone = start(Worker, shard.url)
        for path in (organization, f"{organization}/folder%20{1 if shard is one else 7}"):
            for days in ("20260301-20260309", "20260305", "20270101"):
                uri = f"/stats/acme/{path}?token={ROOT_TOKEN}&daterange={days}"
                assert worker.ask("GET", uri).body == alone.ask("GET", uri).body, uri
                assert worker.ask("GET", uri).status == 200
    for shard in (one, two):
        asked = re.findall(r"SELECT .* FROM callstats\.call_source.*", (shard.cluster.folder / "log").read_text())
        # Where the statistics know of no calls there is nothing to sum.
        of_worker = [statement for statement in asked if "WHERE" in statement and "2027" not in statement]
        assert of_worker and all("GROUP BY" in statement for statement in of_worker), of_worker


@pytest.mark.slow
def test_organizations_of_one_shard_count_once_each_with_an_adopted_table_beside_them(shards, start):
    """A statement without an organization would read the shard for each of them."""
    coordinator, one, _ = shards
    one.query("""insert into callstats.call (organization_id, folder_id, started_at, duration_ms)
        select organization_id, id, '2026-03-05 12:00', 1000 from callstats.folder where organization_id = 2""")
    coordinator.query("select callstats.place(2, 'one')")
    [counts] = coordinator.query("select (select sum(calls) from callstats.call_source), "
                                 "(select sum(calls) from callstats.call_source where organization_id = 1)")
    assert counts[0] > counts[1]
    uris = [f"/stats/acme/{path}?token={ROOT_TOKEN}&daterange=20260301-20260309" for path in ("a", "b")]
    alone, worker = start(Worker, one.url), start(Worker, f"{coordinator.url} {PLANNED}")
    expected = [alone.ask("GET", uri).body for uri in uris]
    assert [worker.ask("GET", uri).body for uri in uris] == expected and len(set(expected)) == 2
    coordinator.query(FLAT.format("timestamptz", "int"))
    adopt(coordinator, "on", "--preset", "flat", "--time_zone", "UTC")
    assert [worker.ask("GET", uri).body for uri in uris] == expected
    coordinator.query("insert into public.calls values ('acme', 'a', 'new', null, '2026-03-06 12:00Z', 10)")
    adopt(coordinator, "sync", "--full")
    found = [worker.ask("GET", uri).body for uri in uris]
    assert found[0].count(b'"folder":"new","calls":1,') == 1 and found[1] == expected[1]
    code, text = check(worker.environment)
    assert "one that names no organization_id counts a call once for each organization of its shard" in text, text


@pytest.mark.slow
def test_plan_of_a_year_on_shards_aggregates_there(shards):
    coordinator = shards[0]
    text = (PROJECT / "src" / "database" / "sql" / "organization_days.sql").read_text()
    with (
        contextlib.closing(coordinator.cluster.connect(coordinator.name, "callstats_worker")) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("set plan_cache_mode = force_custom_plan")
        cursor.execute(f"prepare s as {text}")
        cursor.execute("explain (verbose, costs off) execute s (1, '2026-01-01', '2026-12-31')")
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "Relations: Aggregate on (callstats.call_of_1 " in plan and "call_of_2" not in plan
    remote = re.search(r"Remote SQL: (.*)", plan)[1]
    assert re.search(
        r"sum\(calls\).*sum\(duration_ms\).* FROM callstats\.call_source WHERE .* GROUP BY 1, 2, 3, 4", remote
    )
    shards[1].query("set enable_seqscan = off; set enable_hashagg = off; set enable_bitmapscan = off")
    there = "\n".join(line for (line,) in shards[1].query(f"explain (costs off) {remote}"))
    print(f"coordinator:\n{plan}\nshard:\n{there}")
    assert re.search(r"GroupAggregate\n.*Group Key: .*call_date.*folder_id.*agent_id\n.*Filter: .*\n"
                     r".*Index Only Scan using call_group", there)


def test_check_verifies_the_settings_of_shards(shards, start):
    coordinator = shards[0]
    for url, code, says in ((f"{coordinator.url} {PLANNED}", 0, "ok     index            shards are behind"),
                            (coordinator.url, 1, "FAIL   index            the shards behind")):
        found, out = check(start(Worker, url).environment)
        assert (found, says in out) == (code, True), out
