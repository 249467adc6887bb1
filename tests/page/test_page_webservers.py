"""The page behind the shipped files of the web servers."""

import concurrent.futures
import re

import pytest

from tests.deploy.errors import check_form
from tests.support.browser import Page
from tests.support.processes import PROJECT
from tests.support.sample import DAY
from tests.support.webservers import (
    Apache,
    ApacheCgid,
    ApacheFcgid,
    Caddy,
    HAProxy,
    InFrontOfWorker,
    Lighttpd,
    Nginx,
    WithPage,
    commands,
)
from tests.support.worker import ROOT_TOKEN

TYPES = {
    "": "text/html",
    "index.html": "text/html",
    "page.css": "text/css",
    "page.js": "text/javascript",
    "icon.svg": "image/svg+xml",
    "chart.min.js": "text/javascript",
}


class LighttpdAlone(Lighttpd):
    """For a server that serves nothing else."""


class LighttpdBeside(Lighttpd):
    """Without the lines for a server that serves nothing else."""

    def type(self, *commands, **place):
        super().type(*(command for command in commands if "#alone#" not in command), **place)


class HAProxyBeforeNginx(HAProxy):
    """With nginx, which serves the page, as the file says."""

    logs_folder = "nginx"

    def prepare(self):
        super().prepare()
        lines = re.findall(r"^#  \d\. (.*)$", self.file.read_text(), re.M)
        assert [line for line in lines if line.startswith("systemctl")] == [lines[2], lines[4]]
        self.type(commands(Nginx.file)[0], *lines[:2], "nginx", lines[3])


KINDS = [Nginx, Apache, ApacheFcgid, ApacheCgid, LighttpdAlone, LighttpdBeside, HAProxy, Caddy]
WITH_PAGE = [HAProxyBeforeNginx if kind is HAProxy else kind for kind in KINDS]


def start_kind(kind, worker):
    return kind(worker.socket if issubclass(kind, InFrontOfWorker) else worker.environment)


@pytest.fixture(scope="module", params=WITH_PAGE, ids=lambda kind: kind.__name__)
def site(request, replay_worker):
    server = start_kind(type(request.param.__name__, (WithPage, request.param), {}), replay_worker)
    yield server
    server.stop()


def test_files_have_their_types_and_headers(site):
    for name, kind in TYPES.items():
        status, headers, body = site.ask("GET", f"/callstats/{name}")
        assert status == 200 and headers["content-type"].split(";")[0] == kind, name
        assert body == (PROJECT / "deploy" / "page" / (name or "index.html")).read_bytes()
        assert headers["content-security-policy"].startswith("default-src 'self'")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-cache"


def test_folder_without_its_slash_is_redirected(site):
    for path in ("/callstats", "/callstats?company=acme"):
        status, headers, _ = site.ask("GET", path)
        assert status == 301 and headers["location"].partition("?")[0].endswith("/callstats/")


def test_nothing_else_is_served(site):
    for path in (
        "/callstats/../nginx.conf",
        "/callstats/..%2fnginx.conf",
        "/callstats/nothing.js",
        "/callstats../nginx.conf",
        "/callstats.conf",
        "/callstats/%2e%2e/schema.sql",
    ):
        assert site.ask("GET", path)[0] in (400, 403, 404), path


def test_api_beside_the_page_keeps_its_headers(site):
    status, headers, body = site.ask("GET", DAY)
    assert status == 200 and body.startswith(b'[{"date":"20260303"')
    assert headers["content-security-policy"] == "default-src 'none'"
    assert headers["cache-control"] == "private, no-store"


def test_browser_opens_the_page(browser, site):
    browser.look()
    page = Page(browser, f"http://stats.example:{site.port}").open()
    assert page.shows("#welcome")
    assert page.run("return typeof Chart") == "function"
    assert not page.messages()


def test_no_token_in_the_address_reaches_a_log(site):
    site.ask("GET", f"/callstats/?token={ROOT_TOKEN}")
    site.ask("GET", f"/callstats/token={ROOT_TOKEN}")
    assert site.ask("GET", "/callstats/")[0] == 200
    assert ROOT_TOKEN not in site.logs()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_api_answers_without_the_page(kind, replay_worker, start):
    server = start(start_kind, kind, replay_worker)
    assert server.ask("GET", DAY)[0] == 200
    for path in ("/callstats/", "/callstats/page.js"):
        status, headers, body = server.ask("GET", path)
        assert status == 404
        if not issubclass(kind, (Lighttpd, HAProxy)):
            assert check_form(status, headers, body)["error"] == "Not found."


def test_limits_of_nginx_do_not_count_the_page(replay_worker, start):
    site = start(type("Site", (WithPage, Nginx), {}), replay_worker.socket)

    def statuses(path, count):
        with concurrent.futures.ThreadPoolExecutor(64) as pool:
            return {pool.submit(site.ask, "GET", path) for _ in range(count)}

    page = [one.result()[0] for one in statuses("/callstats/page.css", 1500)]
    assert set(page) == {200}
    api = [one.result()[0] for one in statuses("/stats/acme/support", 1500)]
    assert 429 in api and set(api) == {401, 429}, "the limits count the API"
    assert site.ask("GET", "/callstats/page.css")[0] == 200
