"""CSV as people use it: headers, rows, and what spreadsheets and pandas make of them."""
import csv
import io
import itertools
import json
import subprocess
import urllib.parse

import openpyxl
import pandas
import pytest

from ..support.oracle import field
from ..support.processes import Folder, as_user
from ..support.worker import ROOT_TOKEN, Worker

HEADER = ["date", "folder", "agent_id", "calls", "duration_seconds", "avg_duration_seconds"]
EMPTY = "\ufeffdate,folder,agent_id,calls,duration_seconds,avg_duration_seconds\r\n"
FOLDERS = ["=1+1", "+1-1", "-1", "@SUM(1,2)", '=HYPERLINK("http://x.example","y")', "=cmd|'/C calc'!A0", "'=1+1", "007",
           "1e5", "TRUE", "2026-01-02", "1/2", "a,b", 'say "x"', '"', ",", ";", " spaces ", " =1+1", "Zürich", "電話",
           "\u202eabc", "NA", "null", "#N/A", "-Infinity", "12 345", "50%", "<b>&amp;</b>", "Café 📞"]
# Agent ids of a table that was adopted can have control characters.
AGENTS = [None, *FOLDERS, "\t=1+1", "\r=1+1", "two\nlines", "\n", "x\r\ny", "tab\tinside"]
CALLS = sum(range(1, 2 * len(AGENTS) + 1))


@pytest.fixture(scope="module")
def worker(cluster):
    """Serves FOLDERS, and each of AGENTS in the one that is its neighbour."""
    database = cluster.database()
    database.query("""
        insert into callstats.company (id, short_name) values (1, 'acme');
        insert into callstats.organization (id, company_id, short_name) values (1, 1, 'support'), (2, 1, 'empty');
        drop view callstats.call_source;
        create table calls (folder_id int, agent_id text, calls int, duration_ms int);
        create view callstats.call_source as
            select 1 as organization_id, date '2026-03-03' as call_date, * from calls;
        grant select on callstats.call_source to callstats_worker""")
    for number, name in enumerate(FOLDERS):
        database.query("insert into callstats.folder (id, organization_id, name) values (%s, 1, %s)", number, name)
    for number, (agent, near) in enumerate(itertools.product(AGENTS, (0, 1))):
        database.query("insert into calls values (%s, %s, %s, %s)", (number // 2 + near) % len(FOLDERS), agent,
                       number + 1, number * 1001)
    worker = Worker(database.url)
    yield worker
    worker.stop()
    database.drop()


def ask(worker, path="support", query="daterange=20260303", method="GET"):
    return worker.ask(method, f"/stats/acme/{path}?token={ROOT_TOKEN}&format=csv&{query}")


def rows(text):
    return list(csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True))


def expected(worker):
    """The rows, made of the JSON that the same request gets, with names as they are."""
    answer = worker.ask("GET", f"/stats/acme/support?token={ROOT_TOKEN}&daterange=20260303")
    for entry in json.loads(answer.body):
        agents = entry.get("agents", [])
        without = entry["calls"] - sum(agent["calls"] for agent in agents)
        if without:
            yield entry["folder"], "", without
        for agent in agents:
            yield entry["folder"], agent["agent_id"], agent["calls"]


def guarded(name):
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name


def test_rows_are_those_of_the_json_in_the_order_of_bytes(worker):
    answer = ask(worker)
    text = answer.body.decode()
    assert text.startswith("\ufeffdate,") and text.endswith("\r\n")
    header, *found = rows(text)
    assert header == HEADER
    wanted = list(expected(worker))
    assert wanted == sorted(wanted, key=lambda row: (row[0].encode(), row[1].encode()))
    assert [row[:4] for row in found] == [["2026-03-03", guarded(f), guarded(a), str(calls)] for f, a, calls in wanted]
    assert sum(int(row[3]) for row in found) == CALLS
    # A field is quoted where RFC 4180 wants it, and nowhere else.
    written = [[row[0], field(folder), field(agent), *row[3:]] for row, (folder, agent, _) in zip(found, wanted)]
    assert text == EMPTY + "".join(",".join(row) + "\r\n" for row in written)


@pytest.mark.parametrize("path, query", [("support", "daterange=20260304"), ("support", "daterange=20260304-20260303"),
                                         ("support", "daterange=x&interval=month"), ("empty", ""),
                                         ("support/007", "daterange=20250101-20251231&interval=total")])
def test_empty_result_is_the_header_row(worker, path, query):
    answer = ask(worker, path, query)
    assert (answer.status, answer.body.decode()) == (200, EMPTY)


@pytest.mark.parametrize("path, query, name", [
    ("support", "daterange=20260303", "acme-support-20260303.csv"),
    ("support", "daterange=20260301-20260331&interval=month", "acme-support-20260301-20260331.csv"),
    ("support/007", "daterange=20260303", "acme-support-007-20260303.csv"),
    ("support", "daterange=20260230", "acme-support.csv"),
    ("support/%3DHYPERLINK(%22http%3A%2F%2Fx.example%22%2C%22y%22)", "daterange=20260303",
     "acme-support-_HYPERLINK__http___x.example___y__-20260303.csv"),
])
def test_headers_are_those_of_a_file(worker, path, query, name):
    answer, head = ask(worker, path, query), ask(worker, path, query, "HEAD")
    assert answer.headers == {
        "content-type": "text/csv; charset=utf-8; header=present",
        "content-disposition": f'attachment; filename="{name}"',
        "x-content-type-options": "nosniff", "content-security-policy": "default-src 'none'",
        "referrer-policy": "no-referrer", "cache-control": "private, no-store"}
    assert (head.status, head.headers, head.body) == (answer.status, answer.headers, b"")


def test_other_letters_have_an_encoded_file_name(worker):
    disposition = ask(worker, "support/Z%C3%BCrich").headers["content-disposition"]
    plain, encoded = disposition.split("; ")[1:]
    assert plain.startswith('filename="acme-support-Z_rich-2') and plain.endswith('.csv"')
    assert encoded.startswith("filename*=UTF-8''")
    name = urllib.parse.unquote(encoded.removeprefix("filename*=UTF-8''"))
    assert name.startswith("acme-support-Zürich-2") and name.endswith(".csv")


@pytest.mark.parametrize("method, uri, status", [
    ("GET", "/stats/acme/support?format=csv", 401), ("GET", f"/stats/acme/x?format=csv&token={ROOT_TOKEN}", 404),
    ("GET", f"/stats/acme/support?format=csv&interval=x&token={ROOT_TOKEN}", 400), ("GET", "/stats?format=csv", 404),
    ("POST", f"/stats/acme/support?format=csv&token={ROOT_TOKEN}", 405)])
def test_error_stays_json(worker, method, uri, status):
    answer = worker.ask(method, uri)
    assert (answer.status, answer.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert "content-disposition" not in answer.headers and json.loads(answer.body)["error"]


def test_database_that_is_unavailable_is_a_json_error(start):
    worker = start(Worker, "host=/nowhere user=callstats_worker dbname=x", CALLSTATS_DB_WAIT_MS="100")
    answer = ask(worker)
    assert (answer.status, answer.headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert json.loads(answer.body)["error"]


class Office:
    """LibreOffice without a window, with a profile of its own."""

    def __init__(self):
        self.folder = Folder("office")

    def convert(self, path, kind, *options):
        out = self.folder / kind.partition(":")[0] / "out"
        command = ["soffice", "--headless", f"-env:UserInstallation=file://{self.folder.path}/profile", *options,
                   "--convert-to", kind, "--outdir", str(out), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180,
                              **as_user(HOME=str(self.folder.path)))
        (converted,) = out.iterdir()
        assert done.returncode == 0 and converted.stat().st_size, done.stdout + done.stderr
        return converted

    def stop(self):
        self.folder.remove()


def cells(path):
    """The cells of a workbook, none of which may be a formula."""
    sheet = list(openpyxl.load_workbook(path).active.iter_rows())
    assert not [cell.value for row in sheet for cell in row if cell.data_type == "f" or cell.hyperlink]
    return [[cell.value for cell in row] for row in sheet]


def lines(text):
    """A spreadsheet has one kind of line end in a cell."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


@pytest.mark.slow
@pytest.mark.parametrize("columns", ["2/2/3/2", ""], ids=["names as text", "names as they come"])
def test_spreadsheet_has_the_same_figures_and_runs_nothing(worker, start, columns):
    office = start(Office)
    text = ask(worker).body
    file = office.folder.write("calls.csv", text)
    workbook = office.convert(file, "xlsx", f"--infilter=CSV:44,34,76,1,{columns},0,false,false")
    header, *found = cells(workbook)
    wanted = rows(text.decode())[1:]
    assert header == HEADER
    assert [f"{row[0]:%Y-%m-%d}" for row in found] == [row[0] for row in wanted]
    assert [row[3:] for row in found] == [[float(figure) for figure in row[3:]] for row in wanted]
    if columns:
        names = [[lines(name) for name in row[1:3]] for row in wanted]
        assert [[name or "" for name in row[1:3]] for row in found] == names
        back = office.convert(workbook, "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,true,false")
        with open(back, newline="", encoding="utf-8") as file:
            returned = list(csv.reader(file))
        assert [[lines(name) for name in row] for row in returned] == [[lines(name) for name in row]
                                                                        for row in [HEADER, *wanted]]


def test_pandas_reads_the_same_figures_and_names(worker):
    text = ask(worker).body
    frame = pandas.read_csv(io.BytesIO(text), dtype={"folder": str, "agent_id": str}, keep_default_na=False,
                            parse_dates=["date"])
    assert list(frame.columns) == HEADER
    assert str(frame["calls"].dtype) == "int64" and frame["calls"].sum() == CALLS
    wanted = list(expected(worker))
    assert list(zip(frame["folder"], frame["agent_id"], frame["calls"])) == \
        [(guarded(folder), guarded(agent), calls) for folder, agent, calls in wanted]
    averages = (frame["duration_seconds"] / frame["calls"] - frame["avg_duration_seconds"]).abs()
    assert averages.max() <= 0.0005001
    assert set(frame["date"]) == {pandas.Timestamp("2026-03-03")}

