"""A real browser takes an answer for HTML: nothing in it may run, and its text must be the exact JSON."""
import html.parser
import json
from urllib.parse import quote

import pytest

from ..support.webservers import Nginx
from ..support.worker import ROOT_TOKEN, Worker

AWKWARD = [
    "<script>document.title='run'</script>",
    "<img src=x onerror=\"document.title='run'\">",
    "</script>",
    "&lt;",
    "\u2028",
    "<!--",
    "]]>",
    "<plaintext>",
    "<svg/onload=document.title='run'>",
    "'\"`",
    "&#60;script&#62;",
]


class Page(html.parser.HTMLParser):
    """The elements of a page, and its text."""

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.elements, self.text = [], ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, attributes))

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def browse(browser):
    def browse(url):
        browser.driver.get(url)
        return Page(browser.driver.page_source)
    return browse


@pytest.fixture
def server(database, start):
    database.query("insert into callstats.company (id, short_name) values (1, 'acme')")
    for number, name in enumerate(AWKWARD, 1):
        database.query(
            "insert into callstats.organization (id, company_id, short_name) values (%s, 1, %s)", number, name
        )
        for folder, folder_name in enumerate(AWKWARD):
            database.query("insert into callstats.folder (id, organization_id, name) values (%s, %s, %s)",
                           number * 100 + folder, number, folder_name)
            database.query("""insert into callstats.call (organization_id, folder_id, agent_id, started_at, duration_ms)
                values (%s, %s, %s, '2026-03-03', 1500)""", number, number * 100 + folder, folder_name)
    return start(Nginx, start(Worker, database.url).socket)


def assert_plain(page):
    assert [tag for tag, attributes in page.elements] == ["html", "head", "body"]
    assert all(attributes == [] for _, attributes in page.elements)


def test_names_are_text(server, browse):
    for organization in AWKWARD[:2]:
        page = browse(f"{server.url}/stats/acme/{quote(organization, safe='')}?token={ROOT_TOKEN}&daterange=20260303")
        assert_plain(page)
        entries = json.loads(page.text)
        assert [entry["folder"] for entry in entries] == sorted(AWKWARD, key=str.encode)
        assert [entry["agents"][0]["agent_id"] for entry in entries] == sorted(AWKWARD, key=str.encode)
        assert {entry["avg_duration_seconds"] for entry in entries} == {1.5}


@pytest.mark.slow
def test_errors_are_text(server, browse):
    for name in AWKWARD[:2]:
        page = browse(f"{server.url}/stats/acme/{quote(name + name, safe='')}?token={ROOT_TOKEN}")
        assert_plain(page)
        assert f'"{name}{name}"'[:60] in json.loads(page.text)["error"]
    for path in ("/stats/%3Cscript%3E", "/stats/%zz%3Cscript%3E", "/stats/acme/support?token=%3Cscript%3E"):
        page = browse(server.url + path)
        assert_plain(page)
        assert json.loads(page.text)["error"]


def test_browser_runs_unescaped_markup(browse):
    """The test itself: unescaped, such a name does run."""
    page = browse("data:text/html,%3Cscript%3Edocument.body.append('run')%3C/script%3E")
    assert "run" in page.text and "script" in dict(page.elements)
