"""Errors of the web servers themselves: they have the form and the words of the worker's own errors."""
import http.client
import io
import json

MALFORMED = {"error": "Malformed request: the URL and headers must be valid UTF-8 (percent-encoded in the URL) "
                      "without NUL characters."}
TOO_LARGE = {"error": "The request is too large.", "hint": "Shorten the URL or the headers."}
UNAVAILABLE = {"error": "The service is temporarily unavailable.", "hint": "Retry in a second."}
TOO_MANY = {"error": "Too many requests.", "hint": "Retry in a second."}
METHOD = {"error": "Method not allowed.", "hint": "Use GET or HEAD."}
BODY = {"error": "The request body is too large.", "hint": "Send no body: this API has none."}

TOKEN = "t0k3nt0k3nt0k3nt0k3nt0k3nt0k3n42"

# Requests that a web server itself refuses, or may refuse: each with a token where clients put it.
HEAD = "Host: stats.example\r\nConnection: close\r\n"
REFUSED = {
    "path with a broken escape": f"GET /stats/acme/%zz?token={TOKEN} HTTP/1.1\r\n{HEAD}\r\n",
    "TRACE": f"TRACE /stats/acme/support?token={TOKEN} HTTP/1.1\r\n{HEAD}\r\n",
    "CONNECT": f"CONNECT stats.example:80 HTTP/1.1\r\n{HEAD}Authorization: Bearer {TOKEN}\r\n\r\n",
    "CONNECT with a path": f"CONNECT /stats/acme/support?token={TOKEN} HTTP/1.1\r\n{HEAD}\r\n",
    "long URL": f"GET /stats/acme/{'x' * 70_000}?token={TOKEN} HTTP/1.1\r\n{HEAD}\r\n",
    "long query": f"GET /stats/acme/support?token={TOKEN}&x={'x' * 40_000} HTTP/1.1\r\n{HEAD}\r\n",
    "long header": f"GET /stats/acme/support?token={TOKEN} HTTP/1.1\r\n{HEAD}X: {'x' * 70_000}\r\n\r\n",
    "long authorization": f"GET /stats/acme/support HTTP/1.1\r\n{HEAD}Authorization: Bearer {TOKEN * 1500}\r\n\r\n",
    "two hosts": f"GET /stats/acme/support?token={TOKEN} HTTP/1.1\r\nHost: stats.example\r\n{HEAD}\r\n",
    "unknown transfer encoding":
        f"POST /stats/acme/support?token={TOKEN} HTTP/1.1\r\n{HEAD}Transfer-Encoding: gzip\r\n\r\n",
    "bad length": f"POST /stats/acme/support?token={TOKEN} HTTP/1.1\r\n{HEAD}Content-Length: x\r\n\r\n",
    "large body": f"POST /stats/acme/support?token={TOKEN} HTTP/1.1\r\n{HEAD}Content-Length: 20000000\r\n\r\nx",
    "unknown expectation": f"GET /stats/acme/support?token={TOKEN} HTTP/1.1\r\n{HEAD}Expect: wonders\r\n\r\n",
    "HTTP/3.0": f"GET /stats/acme/support?token={TOKEN} HTTP/3.0\r\n{HEAD}\r\n",
    "bad header": f"GET /stats/acme/support?token={TOKEN} HTTP/1.1\r\n{HEAD}Bad Header\r\n\r\n",
    "control in a header": f"GET /stats/acme/support?token={TOKEN} HTTP/1.1\r\n{HEAD}X: a\x00b\r\n\r\n",
    "escaped NUL": f"GET /stats/acme/a%00b?token={TOKEN} HTTP/1.1\r\n{HEAD}\r\n",
    "range": f"GET /stats/acme/support?token={TOKEN} HTTP/1.1\r\n{HEAD}Range: bytes=99999-\r\n\r\n",
    "precondition": f"GET /stats/acme/support?token={TOKEN} HTTP/1.1\r\n{HEAD}"
                    "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n",
    "above the root": f"GET /stats/../../../x?token={TOKEN} HTTP/1.1\r\n{HEAD}\r\n",
    "token in the path": f"GET /stats/acme/support&token={TOKEN} HTTP/1.1\r\n{HEAD}\r\n",
    "escaped token in the path": f"GET /stats/acme/support%3F%54oken%3D{TOKEN} HTTP/1.1\r\n{HEAD}\r\n",
    "twice escaped token in the path": f"GET /stats/acme/support%253Ftoken%253D{TOKEN} HTTP/1.1\r\n{HEAD}\r\n",
    "another path": f"GET /?token={TOKEN} HTTP/1.1\r\n{HEAD}\r\n",
    "a path that begins alike": f"GET /statsboard?token={TOKEN} HTTP/1.1\r\n{HEAD}\r\n",
    "an old version": f"GET /stats/acme/support?token={TOKEN} HTTP/1.0\r\nHost: stats.example\r\n\r\n",
    "referer": f"GET /stats/acme/%zz HTTP/1.1\r\n{HEAD}Referer: http://x/?token={TOKEN}\r\n\r\n",
}

# Seconds that an answer is waited for, where the web server waits for the rest of the request meanwhile.
PATIENCE = {"large body": 1}

# Requests whose line cannot be read: there is no host in them, so they are the port's first server's.
UNREADABLE = {
    "no method": f" /stats/acme/support?token={TOKEN}\r\n\r\n",
    "small method": f"get /stats/acme/support?token={TOKEN} HTTP/1.1\r\n{HEAD}\r\n",
    "blank in the URL": f"GET /stats/acme/sup port?token={TOKEN} HTTP/1.1\r\n{HEAD}\r\n",
    "no host": f"GET /stats/acme/support?token={TOKEN} HTTP/1.1\r\nConnection: close\r\n\r\n",
    "HTTP/1.x": f"GET /stats/acme/support?token={TOKEN} HTTP/1.x\r\n{HEAD}\r\n",
}


class Wire(io.BytesIO):
    """Bytes as http.client wants them."""

    def makefile(self, *_):
        return self


def parse(answer, method="GET"):
    """Status, headers by small name, and body; a header that came twice fails."""
    response = http.client.HTTPResponse(Wire(answer), method=method)
    response.begin()
    # Apache adds an empty Allow to its own 405: in a list it counts for nothing.
    headers = [(name, value) for name, value in response.getheaders() if value]
    names = [name.lower() for name, _ in headers]
    for name in ("content-type", "x-content-type-options", "content-security-policy", "referrer-policy",
                 "cache-control", "retry-after", "allow"):
        assert names.count(name) <= 1, headers
    return response.status, {name.lower(): value for name, value in headers}, response.read()


def check_form(status, headers, body):
    """An error in the documented form; returns its object."""
    assert headers["content-type"] == "text/html; charset=utf-8", (status, headers)
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "default-src 'none'"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "private, no-store"
    assert not set(body) & set(b"<>&")
    error = json.loads(body)
    assert error["error"] and set(error) <= {"error", "hint"}
    assert (headers.get("allow") == "GET, HEAD") == (status == 405)
    return error
