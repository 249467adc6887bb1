"""The page behind real web servers that are configured as docs/page.md prints."""

import http.client

import pytest

from tests.support.browser import Page
from tests.support.page_site import ApacheSite, LighttpdSite, PageSite
from tests.support.processes import PROJECT

TYPES = {
    "": "text/html",
    "index.html": "text/html",
    "page.css": "text/css",
    "page.js": "text/javascript",
    "icon.svg": "image/svg+xml",
    "chart.min.js": "text/javascript",
}


@pytest.fixture(params=[PageSite, ApacheSite, LighttpdSite], ids=["nginx", "apache", "lighttpd"])
def site(request, start):
    return start(request.param)


def ask(site, path):
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=30)
    connection.request("GET", path)
    response = connection.getresponse()
    headers = {name.lower(): value for name, value in response.getheaders()}
    body = response.read()
    connection.close()
    return response.status, headers, body


def test_files_have_their_types_and_headers(site):
    for name, kind in TYPES.items():
        status, headers, body = ask(site, f"/callstats/{name}")
        assert status == 200 and headers["content-type"].split(";")[0] == kind, name
        assert body == (PROJECT / "deploy" / "page" / (name or "index.html")).read_bytes()
        assert headers["content-security-policy"].startswith("default-src 'self'")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-cache"


def test_the_folder_is_reached_without_its_slash(site):
    status, headers, _ = ask(site, "/callstats")
    assert status == 301 and headers["location"].endswith("/callstats/")


def test_nothing_else_is_served(site):
    for path in (
        "/callstats/../nginx.conf",
        "/callstats/..%2fnginx.conf",
        "/callstats/nothing.js",
        "/callstats../nginx.conf",
        "/callstats.conf",
    ):
        assert ask(site, path)[0] in (400, 403, 404), path


def test_the_browser_opens_it(browser, site):
    browser.look()
    page = Page(browser, site.url).open()
    assert page.shows("#welcome")
    assert page.run("return typeof Chart") == "function"
    assert not page.messages()
