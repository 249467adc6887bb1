"""docs/openapi.yaml against the real answers: all that it has is answered so, and all that is answered is in it."""
import json
import re
import runpy
import urllib.parse

import jsonschema
import pytest
import yaml

from ..support.processes import PROJECT
from ..support.worker import ROOT_TOKEN, Worker

DOCUMENT = yaml.safe_load((PROJECT / "docs" / "openapi.yaml").read_text())
FILES = sorted((PROJECT / "tests" / "replay").glob("*.replay"))
parse = runpy.run_path(str(PROJECT / "tests" / "replay" / "replay"))["parse"]


def resolved(node):
    """The document's node, or the one that it refers to."""
    while "$ref" in node:
        name = node["$ref"]
        node = DOCUMENT
        for part in name.removeprefix("#/").split("/"):
            node = node[part]
    return node


def validate(value, schema):
    """A schema of OpenAPI 3.1 is one of JSON Schema 2020-12."""
    validator = jsonschema.Draft202012Validator({**schema, "components": DOCUMENT["components"]})
    validator.validate(value)


def operation_of(method, path):
    """The operation that a path, without the prefix, belongs to."""
    for template, item in DOCUMENT["paths"].items():
        pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template)) + "/?"
        if re.fullmatch(pattern, path) and method.lower() in item:
            return item[method.lower()]
    return None


def check(method, uri, answer, seen):
    """Holds an answer to the document, if the document has the request."""
    prefix, _, path = urllib.parse.urlsplit(uri).path.removeprefix("/").partition("/")
    operation = operation_of(method, f"/{path}") if urllib.parse.unquote(prefix) == "stats" else None
    if operation is None:
        assert answer.status in (400, 404, 405), uri
        return
    assert str(answer.status) in operation["responses"], (answer.status, uri)
    response = resolved(operation["responses"][str(answer.status)])
    seen.add((operation["operationId"], answer.status, answer.headers["content-type"]))
    headers = {name.lower(): resolved(header) for name, header in response["headers"].items()}
    assert set(answer.headers) - {"content-type"} <= set(headers), uri
    for name, header in headers.items():
        assert name in answer.headers or not header.get("required"), (name, uri)
        if name in answer.headers:
            validate(answer.headers[name], header["schema"])
    if "content" not in response:
        assert (method, answer.body) == ("HEAD", b"")
        return
    schema = response["content"][answer.headers["content-type"]]["schema"]
    is_json = answer.headers["content-type"].startswith("text/html")
    validate(json.loads(answer.body) if is_json else answer.body.decode(), schema)
    assert ("content-disposition" in answer.headers) == (not is_json)


def test_document_is_well_formed():
    assert DOCUMENT["openapi"] == "3.1.0"
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    used = set(re.findall(r"#/[\w/]+", json.dumps(DOCUMENT)))
    for reference in used:
        assert resolved({"$ref": reference})
    for kind in ("parameters", "headers", "responses", "schemas"):
        assert {f"#/components/{kind}/{name}" for name in DOCUMENT["components"][kind]} <= used
    for template, item in DOCUMENT["paths"].items():
        names = [resolved(parameter)["name"] for parameter in item["parameters"] if resolved(parameter)["in"] == "path"]
        assert names == re.findall(r"{(\w+)}", template)


def test_answers_to_all_replay_files_are_in_the_document(replay_worker):
    seen = set()
    days = {"today": "20260303", "yesterday": "20260302", "in_two_days": "20260305"}
    values = {"nothing": "", "root": ROOT_TOKEN, **days}
    for file in FILES:
        for exchange in parse(file, values):
            headers = [(name.decode(), value) for name, value in exchange.headers]
            answer = replay_worker.ask(exchange.method, exchange.uri, headers)
            check(exchange.method, exchange.uri.decode("latin-1"), answer, seen)
    assert {status for _, status, _ in seen} >= {200, 400, 401, 403, 404}
    assert {kind for _, status, kind in seen if status == 200} == \
        set(DOCUMENT["components"]["responses"]["Statistics"]["content"])


def test_each_documented_value_is_answered_and_no_other(replay_worker):
    item = DOCUMENT["paths"]["/{company}/{organization}"]
    seen = set()
    for parameter in map(resolved, item["parameters"]):
        values = parameter["schema"].get("enum", [])
        for value in [*values, "another", *(value.upper() for value in values if value)]:
            for method in ("GET", "HEAD"):
                uri = f"/stats/acme/support?token={ROOT_TOKEN}&daterange=20260303&{parameter['name']}={value}"
                if parameter["in"] == "query" and values:
                    answer = replay_worker.ask(method, uri)
                    assert answer.status == (200 if value in values else 400), uri
                    check(method, uri, answer, seen)
    assert {status for _, status, _ in seen} == {200, 400}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_database_that_is_unavailable_is_in_the_document(start, method):
    worker = start(Worker, "host=/nowhere user=callstats_worker dbname=x", CALLSTATS_DB_WAIT_MS="100")
    seen = set()
    for uri in ("/stats/a/b", "/stats/a/b/c"):
        uri += f"?token={ROOT_TOKEN}"
        check(method, uri, worker.ask(method, uri), seen)
    assert {status for _, status, _ in seen} == {503} and len(seen) == 2
