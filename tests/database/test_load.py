"""`callstats load`: what of a file becomes calls, what is refused, and that a file counts once."""

import contextlib
import gzip
import json
import os
import pty
import select
import signal
import subprocess
import threading

import pytest

from ..support.processes import CALLSTATS, PROJECT, wait_until
from ..support.worker import ROOT_TOKEN, Worker

HEADER = "company,organization,folder,agent,start,seconds\n"
ROW = "acme,support,Sales,anna,2026-03-03 08:15:00,125\n"
WITH_IDS = "call,company,organization,folder,agent,start,seconds\n"


class Site:
    """A database with acme/support in Berlin, and the command in a folder with files."""

    def __init__(self, database, folder):
        self.database, self.folder = database, folder
        database.query("""insert into callstats.company (id, short_name) values (1, 'acme');
            insert into callstats.organization (id, company_id, short_name, time_zone)
            values (1, 1, 'support', 'Europe/Berlin')""")
        url = database.url.replace("user=callstats_worker", "user=owner")
        self.environment = os.environ | {"DATABASE_URL": url}

    def run(self, *words, **options):
        options = {"text": True} | options
        return subprocess.run([CALLSTATS, "load", *words], capture_output=True, cwd=self.folder, env=self.environment,
                              **options)

    def load(self, *words, **options):
        done = self.run(*words, **options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *words, **options):
        done = self.run(*words, **options)
        assert done.returncode == 1 and done.stdout == "", (done.stdout, done.stderr)
        return done.stderr

    def write(self, name, text):
        data = text if isinstance(text, bytes) else text.encode()
        (self.folder / name).write_bytes(data)
        return name

    @property
    def calls(self):
        """How many, and their average in seconds."""
        return self.database.query("select count(*)::int, (avg(duration_ms) / 1000)::float from callstats.call")[0]

    def rows(self):
        return self.database.query("""select f.name, c.agent_id, c.started_at::text, c.duration_ms
            from callstats.call c join callstats.folder f on f.id = c.folder_id order by c.started_at, c.agent_id""")


@pytest.fixture
def site(database, tmp_path):
    return Site(database, tmp_path)


def test_file_becomes_calls(site, start):
    site.write("calls.csv", HEADER + 'acme,support,"New, ""quoted""",007,2026-03-03 08:15:00,12.5\n'
               "acme,support,Sales,,2026-03-03T23:30:00Z,0\nacme,support,Sales,x,2026-03-03 23:59,1.0005\n")
    printed = site.load("calls.csv")
    assert printed == ("calls.csv: 3 new, 0 unchanged, 0 changed "
                       "(3 calls of 3 records, 2 days from 2026-03-03 to 2026-03-04, 2 new folders)\n")
    worker = start(Worker, site.database.url)
    uri = f"/stats/acme/support?token={ROOT_TOKEN}&daterange=20260303-20260304"
    assert worker.ask("GET", uri).body == (
        b'[{"date":"20260303","folder":"New, \\"quoted\\"","calls":1,"avg_duration_seconds":12.5,"agents":'
        b'[{"agent_id":"007","calls":1,"avg_duration_seconds":12.5}]},{"date":"20260303","folder":"Sales","calls":1,'
        b'"avg_duration_seconds":1.001,"agents":[{"agent_id":"x","calls":1,"avg_duration_seconds":1.001}]},'
        b'{"date":"20260304","folder":"Sales","calls":1,"avg_duration_seconds":0}]')


def test_columns_come_in_any_order_and_case_and_others_are_named(site):
    done = site.run("-", input="Seconds;START;Comment;folder;Organization;COMPANY\n"
                               "1,5;2026-03-03 08:00;x;Sales;support;acme\n")
    assert done.returncode == 0 and 'these columns are not used: "Comment"' in done.stderr
    assert site.rows() == [("Sales", None, "2026-03-03 08:00:00", 1500)]


@pytest.mark.parametrize("encode", [
    lambda text: text.encode("utf-16-le"), lambda text: text.encode("utf-16-be"), lambda text: text.encode("utf-16"),
    lambda text: text.encode("utf-8-sig"), lambda text: text.replace("\n", "\r\n").encode(),
    lambda text: text.replace("\n", "\n\n").encode(), lambda text: text.rstrip("\n").encode(),
    lambda text: gzip.compress(text.encode()),
], ids=["UTF-16LE", "UTF-16BE", "UTF-16 with mark", "UTF-8 with mark", "CRLF", "blank lines", "no last line end",
        "gzip"])
def test_each_form_of_a_text_is_read_whole(encode, site):
    site.write("calls.csv", encode(HEADER + ROW + ROW.replace("Sales", "Büro").replace("125", "250")))
    assert site.load("calls.csv").startswith("calls.csv: 2 new,")
    assert site.calls == (2, 187.5)


def test_another_encoding_is_named(site):
    site.write("calls.csv", (HEADER + ROW.replace("Sales", "Büro")).encode("windows-1252"))
    assert 'line 2, column folder: "B�ro": this is no text' in site.refused("calls.csv")
    site.load("--encoding", "windows-1252", "calls.csv")
    assert site.rows()[0][0] == "Büro"


@pytest.mark.parametrize("opened", ["-", "/dev/stdin", "pipe", "standard input that is a file"])
def test_each_source_of_a_file_is_read(opened, site):
    site.write("calls.csv", HEADER + ROW)
    if opened == "pipe":
        os.mkfifo(site.folder / "pipe")
        writer = threading.Thread(target=lambda: (site.folder / "pipe").write_text(HEADER + ROW))
        writer.start()
        printed = site.load("pipe")
        writer.join()
    elif opened.startswith("standard"):
        with open(site.folder / "calls.csv") as file:
            printed = site.load("-", stdin=file)
    else:
        printed = site.load(opened, input=HEADER + ROW)
    assert "1 new" in printed and site.calls[0] == 1


# What was read counts once.


@pytest.mark.parametrize("first, second, printed, expected", [
    (HEADER + ROW, HEADER + ROW, "0 new, 0 unchanged, 0 changed, 1 loaded before", (1, 125)),
    (HEADER + ROW, HEADER + ROW + ROW.replace("125", "250"), "1 new, 0 unchanged, 0 changed, 1 loaded before",
     (2, 187.5)),
    (HEADER + ROW, (HEADER + ROW).replace("\n", "\r\n"), "0 new, 0 unchanged, 0 changed, 1 loaded before", (1, 125)),
    (HEADER + ROW, "\ufeff" + HEADER + ROW, "0 new, 0 unchanged, 0 changed, 1 loaded before", (1, 125)),
    (HEADER + ROW + ROW.replace(",125\n", ",25"), HEADER + ROW + ROW.replace("125", "250"),
     "0 new, 0 unchanged, 1 changed, 1 loaded before", (2, 187.5)),
    (HEADER + ROW.rstrip("\n"), HEADER + ROW, "0 new, 1 unchanged, 0 changed", (1, 125)),
    (HEADER + ROW.rstrip("\n"), HEADER + ROW + ROW, "1 new, 1 unchanged, 0 changed", (2, 125)),
    (HEADER, HEADER, "0 new, 0 unchanged", (0, None)),
    (HEADER, HEADER + ROW, "1 new, 0 unchanged", (1, 125)),
], ids=["same", "grown", "CRLF", "mark", "cut", "no line end", "no line end, and grown", "quiet days",
        "after a quiet day"])
def test_rows_that_were_read_before_do_not_count_again(first, second, printed, expected, site):
    site.load("-", input=first)
    assert printed in site.load("-", input=second)
    assert site.calls == expected
    assert "0 new" in site.load("-", input=second) and site.calls == expected


def test_known_file_can_be_refused(site):
    site.load("-", input=HEADER + ROW)
    assert "loaded before, at 20" in site.load("-", input=HEADER + ROW)
    assert "was loaded before" in site.refused("--if-loaded", "refuse", "-", input=HEADER + ROW)


def test_file_that_an_earlier_version_loaded_is_known(site):
    site.write("calls.csv", HEADER + ROW)
    site.database.query("insert into callstats.loaded_file (sha256, name, calls) values (sha256(%s), 'calls.csv', 1)",
                        (HEADER + ROW).encode())
    assert "0 new, 0 unchanged, 0 changed, 1 loaded before" in site.load("calls.csv")


def loaded_before(calls):
    return f"0 new, 0 unchanged, 0 changed, {calls} loaded before"


def test_text_for_another_organization_is_loaded(site):
    site.database.query("insert into callstats.organization (id, company_id, short_name) values (2, 1, 'ny')")
    site.write("x.csv", "queue,start,seconds\nA,2026-03-03 08:00:00,1\nB,2026-03-03 09:00:00,2\n")

    def load(organization, queue):
        return site.load("--company", "acme", "--organization", organization, "--column", "folder=queue", "--filter",
                         f"queue={queue}", "x.csv")

    for organization, queue in (("support", "A"), ("ny", "B")):
        assert "1 new" in load(organization, queue)
    for organization, queue in (("ny", "B"), ("support", "A")):
        assert loaded_before(1) in load(organization, queue)
    # The text goes on for each of them.
    site.write("x.csv", (site.folder / "x.csv").read_text() + "A,2026-03-03 10:00:00,3\nB,2026-03-03 11:00:00,4\n")
    for organization, queue in (("support", "A"), ("ny", "B")):
        assert "1 new, 0 unchanged, 0 changed, 1 loaded before" in load(organization, queue)
    site.database.query("update callstats.organization set short_name = 'york' where short_name = 'ny'")
    assert loaded_before(2) in load("york", "B")
    assert [row[:1] + row[2:] for row in site.rows()] == [
        ("A", "2026-03-03 08:00:00", 1000), ("B", "2026-03-03 09:00:00", 2000), ("A", "2026-03-03 10:00:00", 3000),
        ("B", "2026-03-03 11:00:00", 4000)]


@pytest.mark.parametrize("wrong, right", [
    (["--filter", "folder=Nope"], []), (["--map", "call"], ["--map", "calls"]),
], ids=["filter", "records"])
def test_text_that_gave_no_call_is_loaded(wrong, right, site):
    call = dict(zip(HEADER.strip().split(","), ROW.strip().split(","), strict=True))
    site.write("calls.csv", HEADER + ROW if right == [] else json.dumps({"data": {"calls": [call]}}))
    for name in ("call", "calls"):
        site.write(name, f"records = 'data.{name}'")
    assert "0 new" in site.load(*wrong, "calls.csv")
    assert "1 new" in site.load(*right, "calls.csv") and site.calls == (1, 125)


@pytest.mark.parametrize("text", [HEADER + ROW, HEADER + ROW + ROW], ids=["same", "grown"])
@pytest.mark.parametrize("options", [[], ["--check"]])
def test_text_with_another_mapping_is_refused(text, options, site):
    site.write("calls.csv", HEADER + ROW)
    site.load("--unit", "ms", "calls.csv")
    before = site.database.query("select * from callstats.loaded_file")
    site.write("calls.csv", text)
    report = site.refused(*options, "calls.csv")
    assert "was loaded before with another mapping or other options, at 20" in report and ": 1 calls" in report
    assert "--again" in report and site.calls == (1, 0.125)
    assert site.database.query("select * from callstats.loaded_file") == before
    # What was loaded may stay.
    assert "1 loaded before" in site.load(*options, "--if-loaded", "skip", "calls.csv")


def test_text_is_loaded_again_on_request(site):
    site.write("calls.csv", HEADER + ROW)
    site.load("--unit", "ms", "calls.csv")
    assert "delete these calls" in site.refused("calls.csv")
    site.database.query("delete from callstats.call")
    report = site.refused("calls.csv")
    assert "1 calls, none of which is there any more" in report and "Hint: --again loads all of it" in report
    assert "1 new" in site.load("--again", "calls.csv") and site.calls == (1, 125)
    # Either mapping is known from then on.
    for words in ([], ["--unit", "ms"]):
        assert loaded_before(1) in site.load(*words, "calls.csv")
    assert "1 new" in site.load("--again", "calls.csv") and site.calls == (2, 125)
    assert site.run("--again", "--if-loaded", "skip", "calls.csv").returncode == 2


def test_the_same_mapping_may_be_written_in_another_way(site):
    site.write("calls.csv", HEADER + ROW)
    site.write("one.toml", "# by queue\nfolder = 'folder'\nfilter = ['folder=Sales']\n")
    site.write("two.toml", "filter = [ 'folder=Sales' ]\nfolder = { column = 'folder' }\nencoding = 'utf-8'")
    site.load("--map", "one.toml", "calls.csv")
    for words in (["--map", "two.toml"], ["--column", "folder=folder", "--filter", "folder=Sales"]):
        assert loaded_before(1) in site.load(*words, "calls.csv")


def test_name_of_the_file_matters_where_the_mapping_reads_it(site):
    site.write("by_name.toml", "folder = 'file.stem'")
    for name in ("Sales.csv", "Service.csv"):
        site.write(name, HEADER + ROW)
    site.load("--map", "by_name.toml", "Sales.csv")
    assert "was loaded before with another mapping" in site.refused("--map", "by_name.toml", "Service.csv")
    assert loaded_before(1) in site.load("--map", "by_name.toml", "Sales.csv")


def test_calls_with_ids_are_compared_whatever_the_mapping(site):
    site.load("--unit", "ms", "-", input=ids(("a", "Sales", 10), ("b", "Sales", 20)))
    assert "0 new, 0 unchanged, 2 changed" in site.load("-", input=ids(("a", "Sales", 10), ("b", "Sales", 20)))
    assert site.calls == (2, 15)
    mixed = ids(("c", "Sales", 10), ("", "Sales", 20))
    site.load("--unit", "ms", "-", input=mixed)
    assert "with another mapping" in site.refused("-", input=mixed)


def test_calls_that_are_gone_are_warned_about(site):
    site.write("calls.csv", HEADER + ROW)
    site.load("calls.csv")
    assert "any more" not in site.run("calls.csv").stderr
    site.database.query("truncate callstats.call cascade")
    done = site.run("--json", "calls.csv")
    summary = json.loads(done.stdout)["files"][0]
    assert (summary["unchanged"], summary["passed_over"], summary["calls"]) == (0, 1, 1)
    assert "none of its calls that were loaded before is there any more" in done.stderr + str(summary["warnings"])
    assert "1 new" in site.load("--again", "calls.csv") and site.calls == (1, 125)


@pytest.mark.parametrize("deleted", [["acme", "support"], ["acme"], ["acme", "support", "Sales"]])
def test_deleting_a_tenant_forgets_its_files(deleted, site):
    site.write("calls.csv", HEADER + ROW)
    site.write("other.csv", HEADER + ROW.replace("Sales", "Service"))
    for name in ("calls.csv", "other.csv"):
        site.load(name)
    command = [CALLSTATS, "tenant", "delete", *deleted, "--with-calls", "--yes"]
    subprocess.run(command, env=site.environment, check=True, capture_output=True)
    add = [CALLSTATS, "tenant", "add", "acme", "support", "--time-zone", "Europe/Berlin"]
    subprocess.run(add, env=site.environment, check=True, capture_output=True)
    assert "1 new" in site.load("calls.csv")
    assert ("1 new" if len(deleted) < 3 else loaded_before(1)) in site.load("other.csv")


@pytest.mark.slow
def test_growing_file_is_read_up_to_its_length_when_opened(site):
    site.write("calls.csv", HEADER + ROW * 200_000)
    written = threading.Event()
    is_over = threading.Event()

    def write():
        with open(site.folder / "calls.csv", "a") as file:
            while not is_over.is_set():
                file.write(ROW + ROW[:40])
                file.flush()
                written.set()
                file.write(ROW[40:])
                file.flush()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        written.wait(10)
        first = site.load("calls.csv")
    finally:
        is_over.set()
        writer.join()
    assert site.calls[0] >= 200_000 and f"{site.calls[0]:,} new" in first
    site.load("calls.csv")
    assert site.calls[0] == (site.folder / "calls.csv").read_text().count("\n") - 1


def test_two_loads_of_one_file_at_once_count_once(site):
    site.write("calls.csv", HEADER + ROW * 20_000)
    command = [CALLSTATS, "load", "calls.csv"]
    both = [subprocess.Popen(command, cwd=site.folder, env=site.environment, stdout=subprocess.PIPE, text=True)
            for _ in range(2)]
    printed = sorted(process.communicate(timeout=60)[0] for process in both)
    assert "20,000 loaded before" in printed[0] and "20,000 new" in printed[1]
    assert site.calls[0] == 20_000


# The identity of a call.


def ids(*calls):
    return WITH_IDS + "".join(f"{call},acme,support,{folder},anna,2026-03-03 08:15:00,{seconds}\n"
                              for call, folder, seconds in calls)


def test_calls_with_ids_are_new_unchanged_or_changed(site):
    week = [(f"c{number}", "Sales", 10) for number in range(5000)]
    assert "5,000 new, 0 unchanged, 0 changed" in site.load("-", input=ids(*week))
    later = [(f"d{number}", "Sales", 10) for number in range(12)] + week[12:]
    later[100:103] = [(call, "Service", 20) for call, _, _ in later[100:103]]
    assert "12 new, 4,985 unchanged, 3 changed" in site.load("-", input=ids(*later))
    folders = site.database.query("select name, count(*)::int from callstats.call c "
                                  "join callstats.folder f on f.id = folder_id group by name order by name")
    assert folders == [("Sales", 5009), ("Service", 3)]
    # Once more, in another order.
    assert "0 new, 5,000 unchanged, 0 changed" in site.load("-", input=ids(*reversed(later)))


def test_calls_that_differ_can_be_left(site):
    site.load("-", input=ids(("a", "Sales", 10)))
    printed = site.load("--existing", "leave", "-", input=ids(("a", "Sales", 20), ("b", "Sales", 30)))
    assert "1 new, 0 unchanged, 1 changed and left as they were" in printed
    assert site.calls == (2, 20)


def test_id_is_unique_in_its_organization(site):
    site.database.query("insert into callstats.organization (id, company_id, short_name) values (2, 1, 'other')")
    site.load("-", input=ids(("a", "Sales", 10)) + "a,acme,other,Sales,,2026-03-03 08:15:00,20\n")
    assert site.calls == (2, 15)


def test_records_with_one_id_must_not_differ_unless_they_are_folded(site):
    same = ids(("a", "Sales", 10), ("b", "Sales", 1), ("a", "Sales", 10))
    assert "2 new" in site.load("-", input=same)
    differ = ids(("x", "Sales", 10), ("x", "Sales", 20))
    assert 'line 3, column call: "x": another record of this call, at line 2' in site.refused("-", input=differ)
    site.write("fold.toml", 'call = "call"')
    assert "1 new" in site.load("--map", "fold.toml", "-", input=differ)
    assert site.database.value("select duration_ms from callstats.call where external_id = 'x'") == 20_000


def test_ids_are_unique_across_partitions(site):
    site.database.query("insert into callstats.folder (organization_id, name) values (1, 'Sales'); "
                        "insert into callstats.call (organization_id, folder_id, started_at, duration_ms) "
                        "select 1, id, '2026-01-01', 1 from callstats.folder")
    site.database.script(PROJECT / "deploy" / "partitions.sql")
    later = site.database.value("select to_char(now() + interval '40 days', 'YYYY-MM-DD HH24:MI:SS')")
    site.load("-", input=ids(("a", "Sales", 10)))
    moved = ids(("a", "Sales", 10)).replace("2026-03-03 08:15:00", later)
    assert "0 new, 0 unchanged, 1 changed" in site.load("-", input=moved)
    assert "0 new, 1 unchanged" in site.load("-", input=moved)
    report = site.refused("-", input=HEADER + ROW + ROW.replace("2026-03-03", "2099-03-03"))
    assert "line 3: there is no partition for the month of 2099-03-03" in report and "create_month_partitions" in report
    # A check finds the same, with and without ids.
    text = HEADER + ROW + ROW.replace("2026-03-03", "2099-03-03")
    assert "line 3: there is no partition for the month of 2099-03-03" in site.refused("--check", "-", input=text)
    text = ids(("b", "Sales", 10)) + "c,acme,support,Sales,anna,2031-03-03 08:15:00,10\n"
    for options in ([], ["--check"]):
        report = site.refused(*options, "-", input=text)
        assert 'line 3, column call: "c": there is no partition for the month of 2031-03-03' in report
    # Also where what comes later would have to be looked up.
    later = ROW * 20_000 + ROW.replace("2026-03-03 08:15:00", "2026-03-03T08:15:00Z")
    report = site.refused("-", input=HEADER + ROW.replace("2026-03-03", "2099-03-03") + later)
    assert "line 2: there is no partition for the month of 2099-03-03" in report


def test_file_does_not_count_with_and_without_ids(site):
    site.write("ids.toml", 'call = "agent"')
    site.load("-", input=HEADER + ROW)
    report = site.refused("--map", "ids.toml", "-", input=HEADER + ROW + ROW.replace("anna", "bob"))
    assert "were loaded before, without ids" in report and site.calls[0] == 1
    site.load("--map", "ids.toml", "-", input=HEADER + ROW.replace("anna", "carl"))
    report = site.refused("-", input=HEADER + ROW.replace("anna", "carl") + ROW)
    assert "were loaded before, with ids" in report and site.calls[0] == 2


FIELDS = 'company = { value = "acme" }\norganization = { value = "support" }\nfolder = "q"\nstart = "start"\n'
RECORD = '{"id":"1","user":"anna","q":"Q","start":"2026-03-03T08:00:00Z","d":5}\n'


@pytest.mark.parametrize("fields, words", [
    ('call = "callid"\nagent = "user"\n', 'no record has "callid"'),
    ('call = "id"\nagent = "agent"\n', 'no record has "agent"'),
    ('call = "id"\nagent = "user"\nfilter = ["disp=ANSWERED"]\n', 'no record has "disp"'),
])
def test_column_that_no_record_of_json_or_xml_has_is_refused(fields, words, site):
    site.write("map.toml", FIELDS + fields + 'duration = "d"\n')
    xml = ("<calls><c><id>1</id><user/><q>Q</q><start>2026-03-03 08:00</start><d>5</d></c>"
           "<c><id>2</id><user/><q>Q</q><start>2026-03-03 08:00</start><d>5</d></c></calls>")
    for text in (RECORD + RECORD.replace('"1"', '"2"'), xml):
        for options in ([], ["--check"]):
            assert words in site.refused(*options, "--map", "map.toml", "-", input=text)
    assert site.calls[0] == 0


def test_optional_column_that_no_record_has_is_a_warning(site):
    site.write("map.toml", FIELDS + 'duration = "d"\nagent = { column = "agent_id", optional = true }\n')
    done = site.run("--json", "--map", "map.toml", "-", input=RECORD)
    assert done.returncode == 0 and 'no record has "agent_id", from which agent is read' in done.stderr
    assert "agent_id" in json.loads(done.stdout)["files"][0]["warnings"][0]
    site.load("--map", "map.toml", "-", input=RECORD.replace("user", "agent_id").replace('"anna"', "null"))


def test_numbers_of_json_are_ids_as_they_are_written(site):
    ids = ["1772525700.1", "1772525700.10", "123456789012345678901", "123456789012345678902"]
    site.write("map.toml", FIELDS + 'duration = "d"\ncall = "id"\nagent = "a"\n')
    text = "".join(RECORD.replace('"1"', id).replace('"user":"anna"', '"a":1e5') for id in ids)
    assert "4 new" in site.load("--map", "map.toml", "-", input=text)
    assert site.database.query("select external_id, agent_id from callstats.call order by 1") == [
        (id, "1e5") for id in sorted(ids)]


# Clocks.


@pytest.mark.parametrize("zone", ["CET", "MET", "EET", "WET", "posixrules", "localtime", "Factory"])
def test_zone_that_an_organization_cannot_have_is_refused(zone, site):
    site.write("map.toml", f'start = {{ column = "start", zone = "{zone}" }}')
    for options in (["--time-zone", zone], ["--map", "map.toml"]):
        report = site.refused(*options, "-", input=HEADER + ROW)
        assert f'time zone "{zone}" ' in report and "use the " in report, report
    assert site.calls[0] == 0


START_AND_END = """delimiter = ";"
company = { value = "acme" }
organization = { value = "support" }
folder = { value = "F" }
start = "s"
duration = { end = "e" }
"""


@pytest.mark.parametrize("options", [[], ["--time-zone", "Europe/Berlin"]])
@pytest.mark.parametrize("start, end, seconds", [
    ("01:50:00", "02:10:00", 1200), ("02:59:50", "02:00:10", 20), ("02:10:00", "02:20:00", 600),
    ("01:50:00", "03:10:00", 8400),
])
def test_call_over_the_change_of_the_clock_is_as_short_as_it_can_be(start, end, seconds, options, site):
    site.write("map.toml", START_AND_END)
    site.load("--map", "map.toml", *options, "-", input=f"s;e\n2026-10-25 {start};2026-10-25 {end}\n")
    assert site.rows() == [("F", None, f"2026-10-25 {start}", seconds * 1000)]


def test_start_that_only_the_end_decides_is_the_earlier_one_in_another_zone(site):
    site.database.query("update callstats.organization set time_zone = 'UTC'")
    site.write("map.toml", START_AND_END.replace('"s"', '{ column = "s", zone = "Europe/Berlin" }').replace(
        '"e"', '{ column = "e", zone = "Europe/Berlin" }'))
    site.load("--map", "map.toml", "-", input="s;e\n2026-10-25 02:59:50;2026-10-25 02:00:10\n")
    assert site.rows() == [("F", None, "2026-10-25 00:59:50", 20_000)]
    report = site.refused("--map", "map.toml", "-", input="s;e\n2026-10-25 04:00;2026-10-25 03:30\n")
    assert "line 2: it ends at 2026-10-25 03:30:00, before it starts at 2026-10-25 04:00:00" in report


@pytest.mark.parametrize("end, start", [
    ("2026-03-29 03:10:00", "2026-03-29 01:50:00"), ("2026-10-25 02:10:00", "2026-10-25 02:50:00"),
    ("2026-03-03 00:10:00", "2026-03-02 23:50:00"),
])
def test_duration_is_subtracted_by_a_watch(end, start, site):
    site.write("map.toml", 'start = { column = "start", minus = { column = "seconds" } }')
    site.load("--map", "map.toml", "-", input=HEADER + f"acme,support,Sales,,{end},1200\n")
    assert site.rows() == [("Sales", None, start, 1_200_000)]


def test_time_of_day_is_added_to_a_date_by_the_clock(site):
    site.write("map.toml", '[start]\ncolumn = "start"\npattern = "YYYY-MM-DD"\n'
               'plus = { column = "agent", unit = "hms" }')
    site.load("--map", "map.toml", "-", input=HEADER + "acme,support,Sales,12:00:00,2026-03-29,1\n")
    assert site.rows() == [("Sales", "12:00:00", "2026-03-29 12:00:00", 1000)]


@pytest.mark.parametrize("pattern, start, end", [
    ("YYYY-MM-DD HH24:MI:SS,MS", "2026-03-03 08:15:09,250", "2026-03-03 08:15:10,750"),
    ("YYYY-MM-DD HH24:MI:SS:MS", "2026-03-03 08:15:09:250", "2026-03-03 08:15:10:750"),
    ("YYYYMMDDHH24MISSMS", "20260303081509250", "20260303081510750"),
    ("YYYYMMDDHH24MISSUS", "20260303081509250000", "20260303081510750000"),
    ("YYYY-MM-DD HH24:MI:SS.MS", "2026-03-03 08:15:09.250", "2026-03-03 08:15:10.750"),
])
def test_fractions_of_seconds_are_read_with_any_separator(pattern, start, end, site):
    of = '{{ column = "{}", pattern = "' + pattern + '" }}'
    site.write("map.toml", START_AND_END.replace('"s"', of.format("s")).replace('"e"', of.format("e")))
    site.load("--map", "map.toml", "-", input=f"s;e\n{start};{end}\n")
    assert site.rows() == [("F", None, "2026-03-03 08:15:09.25", 1500)]


def test_span_goes_from_the_start_of_one_record_to_the_end_of_another(site):
    site.write("map.toml", """company = { value = "acme" }
organization = { value = "support" }
folder = { value = "F" }
call = "callid"
start = { column = "time", where = ["method=INVITE"] }

[duration]
take = "span"
end = { column = "time", where = ["method=BYE"] }
""")
    events = ("id,method,callid,time\n1,INVITE,c1,2026-03-03 08:00:00\n2,ACK,c1,2026-03-03 08:00:05\n"
              "3,BYE,c1,2026-03-03 08:01:30\n")
    assert "1 new" in site.load("--map", "map.toml", "-", input=events)
    assert site.rows() == [("F", None, "2026-03-03 08:00:00", 90_000)]
    for lost, words in (("1,INVITE", "no record of the call \"c2\" gives it a start"),
                        ("3,BYE", "no record of the call \"c2\" gives it a duration")):
        text = "".join(line for line in events.replace("c1", "c2").splitlines(True) if not line.startswith(lost))
        assert words in site.refused("--map", "map.toml", "-", input=text)


# An error is reported, and changes nothing.


LATIN = "company={value='acme'}\norganization={value='support'}\nfolder='f'\nstart='s'\nduration='d'\nagent='a'\n"


def test_encoding_that_xml_declares_is_obeyed(site):
    site.write("map.toml", LATIN)
    site.write("calls.xml", "<?xml version='1.0' encoding='ISO-8859-1'?>\n<r><f>Büro</f><a>Jürgen</a>"
               "<s>2026-03-03 08:00</s><d>5</d></r>".encode("latin-1"))
    site.load("--map", "map.toml", "calls.xml")
    assert site.rows() == [("Büro", "Jürgen", "2026-03-03 08:00:00", 5000)]


@pytest.mark.parametrize("text", [
    '{"f":"Büro","a":"Jürgen","s":"2026-03-03 08:00","d":5}\n',
    "<r><f>Büro</f><a>Jürgen</a><s>2026-03-03 08:00</s><d>5</d></r>",
])
def test_another_encoding_of_json_and_xml_is_named_in_the_hint(text, site):
    site.write("map.toml", LATIN)
    site.write("calls", text.encode("latin-1"))
    report = site.refused("--map", "map.toml", "calls")
    assert "line 1" in report and "--encoding windows-1252" in report, report
    site.load("--map", "map.toml", "--encoding", "windows-1252", "calls")
    assert site.rows()[0][0] == "Büro"


@pytest.mark.parametrize("options, text, words", [
    ([], '["a"]', 'line 1: this is no record: invalid type: string "a", expected an object'),
    ([], HEADER + ROW.replace("08:15:00", "08:15:00 CET"), "of the names of zones only Z, UTC and GMT are read"),
    (["--decimal", "either"], HEADER + ROW.replace("125", '"1,234"'), "may stand for the decimal point or between"),
])
def test_what_cannot_be_read_is_explained(options, text, words, site):
    report = site.refused(*options, "-", input=text)
    assert words in report, report


def test_name_of_utc_is_an_offset(site):
    site.load("-", input=HEADER + ROW.replace("08:15:00", "08:15:00 UTC"))
    assert site.rows()[0][2] == "2026-03-03 09:15:00"


@pytest.mark.parametrize("text, words", [
    ("\nstart = { column = 's', pattern = 5 }", "map.toml line 2: the mapping's start is wrong: expected a text, or"),
    ("\n\ndelimeter = ';'", "map.toml line 3: the mapping is wrong: unknown key `delimeter`"),
    ("folder = 'a'\nb = ", "map.toml line 2: the mapping is not TOML"),
])
def test_mistakes_in_a_mapping_name_file_and_line(text, words, site):
    site.write("map.toml", text)
    report = site.refused("--map", "map.toml", "-", input=HEADER)
    assert report.startswith("callstats: " + words), report


@pytest.mark.parametrize("row, words", [
    ("nobody,support,A,,2026-03-03 08:00,1", 'line 3, column company: "nobody": there is no such company'),
    ("acme,suport,A,,2026-03-03 08:00,1", 'line 3, column organization: "suport": there is no such organization'),
    ("acme,support,,,2026-03-03 08:00,1", 'line 3, column folder: "": a folder must have a name'),
    ("acme,support,..,,2026-03-03 08:00,1", 'line 3, column folder: "..": the name of the folder is a path'),
    ("acme,support, Sales,,2026-03-03 08:00,1", 'line 3, column folder: " Sales": the name of the folder starts'),
    ("acme,support,A\tB,,2026-03-03 08:00,1", r'line 3, column folder: "A\tB": the name of the folder has a control'),
    ("acme,support,A,,2026-02-30 08:00,1", 'line 3, column start: "2026-02-30 08:00": there is no such time'),
    ("acme,support,A,,2026-03-03 25:00,1", 'line 3, column start: "2026-03-03 25:00": there is no such time'),
    ("acme,support,A,,2026-03-03 08:00+25:00,1",
     'line 3, column start: "2026-03-03 08:00+25:00": there is no such time'),
    ("acme,support,A,,03/03/2026,1", 'line 3, column start: "03/03/2026": expected a time'),
    ("acme,support,A,,٢٠٢٦-03-03 08:00,1", "line 3, column start: "),
    ("acme,support,A,,now,1", 'line 3, column start: "now"'),
    ("acme,support,A,,,1", 'line 3, column start: ""'),
    ("acme,support,A,,2026-03-03 08:00,-1", 'line 3, column seconds: "-1": expected a number'),
    ("acme,support,A,,2026-03-03 08:00,abc", 'line 3, column seconds: "abc": expected a number'),
    ("acme,support,A,,2026-03-03 08:00,NaN", 'line 3, column seconds: "NaN": expected a number'),
    ("acme,support,A,,2026-03-03 08:00,", 'line 3, column seconds: ""'),
    ("acme,support,A,,2026-03-03 08:00,9999999", 'line 3, column seconds: "9999999": more than'),
    ("acme,support," + "x" * 1001 + ",,2026-03-03 08:00,1", "line 3, column folder"),
    ("acme,support,A," + "x" * 1001 + ",2026-03-03 08:00,1", "line 3, column agent"),
    ("acme,support,A,,2026-03-03 08:00", 'line 3: it ends before the column "seconds"'),
    ("acme,support,A,,2026-03-03 08:00,1,x", "line 3: it has 7 columns, and the header 6"),
    ('acme,support,"A\nB",,2026-03-03 08:00,x', 'line 3, column seconds: "x"'),
    ("\\.", "line 3: it ends before the column"),
    ('acme,support,"A,,2026-03-03 08:00,1', "line 3: a quote is not closed"),
    ("acme,support,A\0,,2026-03-03 08:00,1", r'line 3, column folder: "A\0": the name of the folder has a control'),
    ("acme,support,A,a\0,2026-03-03 08:00,1", r'line 3, column agent: "a\0": an agent id has no control'),
], ids=range(27))
def test_invalid_row_is_reported_and_changes_nothing(row, words, site):
    report = site.refused("-", input=HEADER + ROW + row + "\n" + ROW)
    assert report.startswith("callstats: standard input line 3") and words in report, report
    assert "nothing of it was loaded. Hint: " in report and report.count("\n") == 1
    assert site.database.query("select count(*) from callstats.call, callstats.loaded_file") == [(0,)]
    assert site.database.query("select * from callstats.folder") == []


@pytest.mark.parametrize("value", [
    "x" * 1_000_000, "line one\nline two\nline three\nline four\n" * 5000, "\x1b[31m\r" * 100,
], ids=["long", "lines", "harmful"])
def test_large_or_harmful_value_is_truncated_and_escaped(value, site):
    report = site.refused("-", input=HEADER + ROW + f'acme,support,A,,2026-03-03 08:00,"{value}"\n')
    assert 'line 3, column seconds: "' in report and "expected a number of seconds" in report
    assert len(report) < 500 and report.count("\n") == 1 and "\x1b" not in report and "\r" not in report


def test_first_problems_are_reported_and_the_others_counted(site):
    report = site.refused("-", input=HEADER + "acme,support,A,,x,1\n" * 25 + "nobody,support,A,,2026-03-03 08:00,1\n")
    assert report.count("column start") == 10 and "and 16 more" in report


@pytest.mark.parametrize("words, text, reason", [
    (["/nowhere.csv"], None, "callstats: cannot read /nowhere.csv: No such file"),
    (["-"], "a,b,c\n", 'there is no column "company", "organization", "folder", "start", "seconds" or "duration"; '
                       'the columns are "a", "b", "c"'),
    (["/tmp"], None, "directory"), (["-"], "a,b\0,c\n", "no text"),
    (["--map", "/nowhere", "-"], "", "cannot read /nowhere"),
    (["--time-zone", "Mars/Phobos", "-"], HEADER + ROW, 'time zone "Mars/Phobos" is not known'),
    (["--filter", "dispositon=x", "-"], HEADER + ROW, 'there is no column "dispositon"'),
])
def test_unusable_file_or_argument_is_reported(words, text, reason, site):
    assert reason in site.refused(*words, input=text)


@pytest.mark.parametrize("words, reason", [
    (["--preset", "nobody"], 'there is no preset "nobody"'), (["--column", "x=y"], "does not begin with a field"),
    (["--filter", "x"], "--filter "), (["--encoding", "nope"], '--encoding "nope" is not known'),
    (["--delimiter", "||"], "--delimiter "), (["--quote", "xx"], "--quote "), (["--escape", "é"], "--escape "),
    (["--decimal", "x"], "--decimal is neither"), (["--format", "ods"], '--format cannot be "ods"'),
    (["--unit", "weeks"], "--unit "), (["--start-unit", "weeks"], "--start-unit "),
    (["--start-pattern", "%"], "--start-pattern "),
    (["--start-pattern", "%H:%M:%S %Z"], "names of zones in the text are not read"),
])
def test_wrong_value_of_an_option_is_an_error_of_usage(words, reason, site):
    done = site.run(*words, "-", input=HEADER + ROW)
    assert done.returncode == 2 and reason in done.stderr and "the mapping" not in done.stderr, done.stderr
    assert "Hint: " in done.stderr and site.calls[0] == 0
    assert site.run("--print-preset", "nobody").returncode == 2
    # What is wrong in a file is no error of usage.
    site.write("wrong.toml", "encoding = 'nope'")
    assert "the mapping's encoding" in site.refused("--map", "wrong.toml", *words[:0], "-", input=HEADER + ROW)


def test_file_that_gives_no_call_is_warned_about(site):
    options = ["--company", "acme", "--organization", "support"]
    site.write("page.html", "<html><body>404 Not Found</body></html>\n")
    site.write("semicolons.csv", "a;b;c\n" * 3)
    site.write("error.json", '{"error":"unauthorized"}')
    site.write("calls.toml", "records = 'calls'")
    site.write("empty.csv", "")
    for preset in ("asterisk", "asterisk-custom", "freeswitch", "avaya-ipo", "3cx"):
        for name in ("page.html", "semicolons.csv"):
            done = site.run("--preset", preset, *options, name)
            assert done.returncode == 1 or "warning: the filter leaves all records out" in done.stderr, (preset, name)
        done = site.run("--preset", preset, *options, "empty.csv")
        assert done.returncode == 0 and "warning: it is empty" in done.stderr, done.stderr
    done = site.run("--map", "calls.toml", "--check", "error.json")
    assert done.returncode == 0 and "warning: there is no record in it" in done.stderr
    done = site.run("--json", "empty.csv", "--filter", "folder=Nope", "-", input=HEADER + ROW)
    empty, filtered = json.loads(done.stdout)["files"]
    assert empty["warnings"] == ["it is empty"] and "leaves all records out, 1 of" in filtered["warnings"][0]
    assert done.returncode == 0
    # A quiet day is one.
    assert "warning" not in site.run("-", input=HEADER).stderr


def test_comparing_what_is_no_number_is_warned_about(site):
    text = HEADER + ROW.replace("125", "0:00:05") + ROW.replace("125", "0:01:00")
    done = site.run("--unit", "hms", "--filter", "seconds>0", "-", input=text)
    assert 'in 2 records, and does not hold there; line 2, column seconds: "0:00:05"' in done.stderr, done.stderr
    assert "no number" not in site.run("--filter", "seconds>0", "-", input=HEADER + ROW).stderr


def test_line_that_is_cut_inside_of_a_quote_takes_no_other_with_it(site):
    row = ('"","100","{0}","incoming","""Bob"" <100>","SIP/t-0000001{0}","SIP/{0}-0000002{0}","Dial","x",'
           '"2026-03-03 10:00:00","2026-03-03 10:00:05","2026-03-03 10:01:05",65,60,"ANSWERED","DOCUMENTATION",'
           '"177252570{0}.1","","","177252570{0}.1",{0}\n')
    for length in range(1, 120):
        site.write("Master.csv", row.format(1) + row.format(5)[:length] + "\n" + row.format(2) + row.format(3))
        done = site.run("--check", "--preset", "asterisk", "--company", "acme", "--organization", "support",
                        "Master.csv")
        # A cut between quotes leaves a short line, which does not count.
        is_inside = row.format(5)[:length].count('"') % 2 == 1
        assert ("3 calls" in done.stdout or "would be 3 new" in done.stdout) if not is_inside else (
            done.returncode == 1 and "Master.csv line 2" in done.stderr), (length, done.stdout, done.stderr)


def test_names_of_a_file_take_little_memory(site):
    for width, folders, words in ((1, 400_000, ["--check"]), (90, 400_000, ["--check"]), (1, 28_000, ["--json"]),
                                  (90, 20_000, ["--check"]), (90, 20_000, ["--again"])):
        lines = (f"acme,support,{number:0{width}},,2026-03-03 08:15:00,60\n" for number in range(folders))
        site.write("calls.csv", HEADER + "".join(lines))
        done = subprocess.run(["/usr/bin/time", "-f", "%M", CALLSTATS, "load", *words, "calls.csv"],
                              cwd=site.folder, env=site.environment, capture_output=True, text=True)
        peak = int(done.stderr.splitlines()[-1])
        is_refused = folders > 100_000
        assert done.returncode == is_refused and ("these are no names of folders" in done.stderr) == is_refused
        assert peak < 64 * 1024, (width, folders, peak)
        print(f"{folders} folders of {width} letters, {words}: peak {peak} kB")


def test_language_of_the_terminal_makes_no_difference(site):
    site.environment |= {"LANG": "de_DE.UTF-8", "LC_ALL": "C"}
    site.write("ümläut 'x'.csv", HEADER + ROW)
    assert site.load("ümläut 'x'.csv").startswith("ümläut 'x'.csv: 1 new")


@pytest.mark.parametrize("name", ["x\t';touch pwned;#.csv", "$(touch pwned).csv", "`touch pwned`.csv", "a b.csv",
                                  "'; touch pwned; '.csv", "-n.csv", "a\nb.csv", "\\'\"$x.csv", "\x1b[31m.csv"])
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_nothing_runs_in_the_name_of_a_file(name, locale, site):
    site.write(name, HEADER + ROW)
    site.environment |= {"LC_ALL": locale}
    printed = site.load(f"./{name}" if name.startswith("-") else name)
    assert "1 new" in printed and "\x1b" not in printed and printed.count("\n") == 1
    assert not (site.folder / "pwned").exists() and site.calls[0] == 1


def test_each_file_is_loaded_by_itself(site):
    site.write("good.csv", HEADER + ROW)
    site.write("bad.csv", HEADER + "x\n")
    site.write("other.csv", HEADER + ROW.replace("125", "250"))
    done = site.run("bad.csv", "good.csv", "other.csv", "none.csv")
    assert done.returncode == 1 and site.calls == (2, 187.5)
    assert "bad.csv line 2: it ends" in done.stderr and "cannot read none.csv" in done.stderr
    assert done.stdout.startswith("good.csv: 1 new") and "other.csv: 1 new" in done.stdout


# How a mapping reads.


def test_options_map_a_file_without_header(site):
    site.load("--no-header", "--delimiter", "|", "--column", "start=2", "--start-pattern", "DD.MM.YY HH24:MI",
              "--time-zone", "America/New_York", "--column", "duration=3", "--unit", "hms",
              "--column", "agent=1", "--company", "acme", "--organization", "support", "--folder", "{Sales}",
              "--filter", "4=ANSWERED", "-",
              input="anna|03.03.26 20:00|0:02:05|ANSWERED\nbob|03.03.26 20:00|0:02:05|BUSY\n")
    assert site.rows() == [("{Sales}", "anna", "2026-03-04 02:00:00", 125_000)]


@pytest.mark.parametrize("text, expected", [
    ("2026-03-29 02:30:00", "2026-03-29 02:30:00"),  # a wall-clock time of the organization stays as it is written
    ("2026-03-29T00:59:59Z", "2026-03-29 01:59:59"), ("2026-03-29T01:00:00Z", "2026-03-29 03:00:00"),
    ("2026-10-25T00:30:00Z", "2026-10-25 02:30:00"), ("2026-10-25T01:30:00Z", "2026-10-25 02:30:00"),
    ("2026-03-03 08:15:00.123456789+05:30", "2026-03-03 03:45:00.123456"),
])
def test_times_with_an_offset_are_those_of_the_organization(text, expected, site):
    site.load("-", input=HEADER + ROW.replace("2026-03-03 08:15:00", text))
    assert site.rows()[0][2] == expected


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "America/St_Johns", "Australia/Lord_Howe",
                                  "Asia/Kathmandu", "Africa/Casablanca", "Pacific/Apia", "America/Sao_Paulo"])
def test_zones_are_those_of_the_server(zone, site):
    """Each half hour of days on which clocks change, from and to another zone, as PostgreSQL converts it."""
    days = ["2011-12-29", "2018-02-17", "2018-11-03", "2026-02-14", "2026-03-07", "2026-03-28", "2026-04-04",
            "2026-10-03", "2026-10-24", "2026-10-31"]
    times = [f"{day} {hour:02}:{minute}:00" for day in days for hour in range(24) for minute in ("00", "15", "45")]
    times += [f"{day[:8]}{int(day[8:]) + 1:02} {hour:02}:30:00"
              for day in days for hour in range(24) if day != "2026-10-31"]
    site.load("--time-zone", zone, "--company", "acme", "--organization", "support", "--folder", "f", "-",
              input="start,agent,seconds\n" + "".join(f"{at},{at},1\n" for at in times))
    # A time of the organization's own clock stays as it is written, even where that clock leaves it out.
    moved = "" if zone == "Europe/Berlin" else f" at time zone '{zone}' at time zone 'Europe/Berlin'"
    expected = f"agent_id::timestamp{moved}"
    wrong = site.database.query(f"select agent_id, started_at from callstats.call where started_at <> {expected}")
    assert wrong == [] and site.calls[0] == len(times)


# What a check shows.


def test_check_of_a_file_writes_nothing(site):
    for text in (HEADER + ROW + ROW.replace("Sales", "Service"), ids(("a", "Sales", 10))):
        printed = site.load("--check", "-", input=text)
        assert printed.startswith("standard input: would be ") and "new," in printed
        assert "COMPANY  ORGANIZATION  FOLDER" in printed and "Sales" in printed
        for table in ("call", "folder", "loaded_file", "call_key"):
            assert site.database.value(f"select count(*) from callstats.{table}") == 0
    site.load("-", input=HEADER + ROW)
    assert loaded_before(1) in site.load("--check", "-", input=HEADER + ROW)
    assert "nothing of it was loaded" not in site.refused("--check", "-", input=HEADER + "x\n")


@pytest.mark.parametrize("rows, warning", [
    ([ROW.replace(",125", ",0.002")], "the average of all calls is 0.002 seconds"),
    ([ROW.replace(",125", ",22409")], "the average of all calls is 22409 seconds"),
    ([ROW.replace("anna", f"a{number}") for number in range(30)], "as many agents as calls"),
    ([ROW.replace("2026", "2096")], "1 of 1 calls start in the future"),
    ([ROW.replace("Sales", "SALES")], 'the new folder "SALES" looks like "Sales"'),
    ([ROW.replace("Sales", "Sa\u2009les"), ROW.replace("Sales", "Sa les")], "looks like"),
    ([ROW.replace("2026", "2019")], "not on the day when the file was written"),
])
@pytest.mark.parametrize("words", [[], ["--check"]])
def test_implausible_file_is_warned_about(rows, warning, words, site):
    site.database.query("insert into callstats.folder (organization_id, name) values (1, 'Sales')")
    site.write("calls.csv", HEADER + "".join(rows))
    assert warning in site.run(*words, "calls.csv").stderr


def test_summary_is_json_on_request(site):
    site.write("good.csv", HEADER.replace("\n", ",extra\n") + ROW.replace("\n", ",1\n"))
    site.write("bad.csv", HEADER + "x\n")
    done = site.run("--json", "good.csv", "bad.csv")
    good, bad = json.loads(done.stdout)["files"]
    assert done.returncode == 1 and (good["new"], good["unchanged"], good["changed"]) == (1, 0, 0)
    assert good["folders"] == [{"company": "acme", "organization": "support", "folder": "Sales", "is_new": True,
                                "calls": 1, "avg_duration_seconds": 125.0}]
    assert good["ignored_columns"] == ["extra"] and good["first_day"] == "2026-03-03"
    assert bad["file"] == "bad.csv" and "line 2" in bad["error"] and bad["hint"]


# A load that ends early leaves nothing behind.


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL, "server"])
@pytest.mark.parametrize("header, row", [
    pytest.param(HEADER, ROW, id="without ids", marks=pytest.mark.slow),
    pytest.param(WITH_IDS, "{},acme,support,Sales,anna,2026-03-03 08:15:00,1\n", id="with ids"),
])
def test_load_that_is_ended_early_leaves_nothing(ending, header, row, site):
    rows = header + "".join(row.format(number) for number in range(60_000))
    site.write("calls.csv", rows)
    process = subprocess.Popen([CALLSTATS, "load", "calls.csv"], cwd=site.folder, env=site.environment,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    backends = "select pid from pg_stat_activity where query ilike 'copy %%' and pid <> pg_backend_pid()"
    wait_until(lambda: site.database.query(backends), what="rows are being written")
    if ending == "server":
        site.database.query(f"select pg_terminate_backend(pid) from ({backends}) p")
    else:
        process.send_signal(ending)
    _, report = process.communicate(timeout=30)
    if ending == "server":
        assert process.returncode == 1 and "nothing of it was loaded" in report, report
        assert "the database refuses it" not in report and "WARN" not in report, report
    else:
        assert process.returncode == -ending
        assert ending == signal.SIGKILL or "interrupted; nothing of the file was loaded" in report, report
    wait_until(lambda: not site.database.query(backends), what="the server gives up")
    assert site.database.query("select count(*) from callstats.call, callstats.loaded_file") == [(0,)]
    assert "60,000 new" in site.load("calls.csv")


def test_full_disk_for_a_pipe_is_reported(site):
    full = site.folder / "full"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", full], check=True)
    try:
        site.environment |= {"TMPDIR": str(full)}
        report = site.refused("-", input=HEADER + ROW * 10_000)
        assert "No space left on device" in report and "TMPDIR" in report
    finally:
        subprocess.run(["umount", full], check=True)


def test_role_with_the_printed_privileges_loads(site):
    grants = (PROJECT / "docs" / "loading.md").read_text().split("```sql\n")[1].split("```")[0]
    site.database.query(grants.replace("%", "%%"))
    try:
        site.environment["DATABASE_URL"] = site.database.url.replace("user=callstats_worker", "user=callstats_loader")
        site.load("-", input=HEADER + ROW)
        site.load("--time-zone", "Europe/Berlin", "-", input=ids(("a", "Sales", 10)))
        assert "1 changed" in site.load("-", input=ids(("a", "Service", 10)))
    finally:
        site.database.query("drop owned by callstats_loader; drop role callstats_loader")


@pytest.mark.slow
def test_memory_stays_small_whatever_the_file(site):
    site.write("fold.toml", 'call = "agent"')
    lines = (f"acme,support,folder {number % 50},agent{number % 90_000},2026-03-03 08:15:00,{number % 600}\n"
             for number in range(300_000))
    site.write("calls.csv", HEADER + "".join(lines))
    for words in ([], ["--map", "fold.toml"]):
        site.database.query("truncate callstats.loaded_file")
        done = subprocess.run(["/usr/bin/time", "-f", "%M", CALLSTATS, "load", *words, "calls.csv"], cwd=site.folder,
                              env=site.environment, capture_output=True, text=True)
        peak = int(done.stderr.splitlines()[-1])
        assert done.returncode == 0 and peak < 64 * 1024, done.stderr
        print(f"{words}: peak {peak} kB")


def test_progress_is_for_a_terminal_only(site):
    site.write("calls.csv", HEADER + ROW * 300_000)
    main, other = pty.openpty()
    environment = site.environment | {"TERM": "xterm"}
    process = subprocess.Popen([CALLSTATS, "load", "calls.csv"], cwd=site.folder, env=environment,
                               stdout=subprocess.PIPE, stderr=other, stdin=subprocess.DEVNULL)
    os.close(other)
    shown = b""
    with contextlib.suppress(OSError):
        while select.select([main], [], [], 30)[0]:
            shown += os.read(main, 65536)
    os.close(main)
    assert process.wait() == 0 and b"reading" in shown and b"300,000 new" in process.stdout.read()
    site.write("calls.csv", HEADER + ROW * 1000 + ROW.replace("125", "1"))
    assert site.run("calls.csv").stderr.count("\r") == 0
