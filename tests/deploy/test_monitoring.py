"""deploy/monitoring: alerts and dashboard, checked by Prometheus' own tools and against what a worker exports."""
import json
import re
import subprocess

import pytest
import yaml

from ..support import fastcgi
from ..support.overlay import printed
from ..support.processes import PROJECT, wait_until
from ..support.worker import Worker

MONITORING = PROJECT / "deploy" / "monitoring"
CASES = PROJECT / "tests" / "deploy" / "alerts.test.yml"
RULES = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((MONITORING / "grafana-dashboard.json").read_text())
TARGETS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def promtool(*arguments):
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, cwd=CASES.parent)
    assert done.returncode == 0 and "SUCCESS" in done.stdout, done.stdout + done.stderr
    return done.stdout


def probe(worker):
    """The text for Prometheus, and the labels of each name in it."""
    with fastcgi.Connection(worker.socket) as connection:
        connection.send(fastcgi.request({"REQUEST_METHOD": "GET", "CALLSTATS_PROBE": "1",
                                         "QUERY_STRING": "format=prometheus"}))
        text = connection.receive().body.decode()
    found = {}
    for name, labels in re.findall(r"^(callstats_\w+)(?:\{(.*)\})? ", text, re.M):
        found.setdefault(name, set()).add(labels)
    return text, found


def test_rules_and_their_cases_pass():
    assert f"{len(RULES)} rules found" in promtool("check", "rules", MONITORING / "alerts.yml")
    promtool("test", "rules", CASES)


def test_every_alert_has_a_case_that_raises_it_and_one_that_does_not():
    raised, quiet = set(), set()
    for case in yaml.safe_load(CASES.read_text())["tests"]:
        for check in case["alert_rule_test"]:
            (raised if check["exp_alerts"] else quiet).add(check["alertname"])
    assert raised == quiet == {rule["alert"] for rule in RULES}


def test_expressions_name_what_a_worker_exports(replay_database, start):
    text, exported = probe(start(Worker, replay_database.url))
    lint = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    assert (lint.returncode, lint.stdout + lint.stderr) == (0, "")
    variables = [variable["query"] for variable in DASHBOARD["templating"]["list"]]
    expressions = [*TARGETS, *(rule["expr"] for rule in RULES),
                   *(query["query"] for query in variables if isinstance(query, dict))]
    named = {name for expression in expressions for name in re.findall(r"callstats_\w+", expression)}
    assert named <= set(exported), named - set(exported)
    # A metric that is on no panel is one that nobody sees.
    on_panels = {name for expression in TARGETS for name in re.findall(r"callstats_\w+", expression)}
    assert set(exported) == on_panels
    # Labels, and their values at the start.
    for expression in expressions:
        for name, selector in re.findall(r"(callstats_\w+)\{(.*?)\}", expression):
            for label, value in re.findall(r'(\w+)="(\w+)"', selector):
                if label not in ("job", "instance"):
                    assert f'{label}="{value}"' in exported[name], expression


def test_metrics_are_documented(replay_database, start):
    _, exported = probe(start(Worker, replay_database.url))
    documented = set(re.findall(r"^\| `(callstats_\w+)", (PROJECT / "docs" / "operations.md").read_text(), re.M))
    assert documented == {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported}


@pytest.mark.slow
def test_prometheus_watches_a_worker_as_installed(installed):
    for line in ("echo 127.0.0.1 stats.example >>/etc/hosts",
                 "cp /usr/share/doc/callstats/examples/nginx.conf.example /etc/nginx/conf.d/callstats.conf",
                 "systemctl start nginx"):
        installed.run(line)
    installed.run(["ln", "-s", PROJECT, "/root/checkout"])
    for command in printed(MONITORING / "prometheus.yml"):
        installed.run(f"cd /root/checkout/deploy/monitoring && {command}")

    def query(expression):
        done = installed.try_run(["curl", "-sfG", "http://127.0.0.1:9090/api/v1/query", "--data-urlencode",
                                  f"query={expression}"])
        answer = json.loads(done.stdout or '{"status":"","data":{"result":[]}}')
        return answer["status"], [result["value"][1] for result in answer["data"]["result"]]

    wait_until(lambda: query("callstats_database_up") == ("success", ["1"]), 60, "the worker is scraped")
    assert query('up{job="callstats"}') == ("success", ["1"])
    for expression in TARGETS:
        for variable, value in (("$job", "callstats"), ("$instance", ".*"), ("$__rate_interval", "1m")):
            expression = expression.replace(variable, value)
        status, values = query(expression)
        assert status == "success", expression
        assert values or "rate(" in expression, expression
    rules = json.loads(installed.run("curl -s http://127.0.0.1:9090/api/v1/rules"))["data"]["groups"][0]["rules"]
    assert {rule["name"] for rule in rules} == {rule["alert"] for rule in RULES}
    # It sees that the database is unavailable, and not only that something is wrong.
    installed.run("pg_lsclusters -h | while read version name _; do pg_ctlcluster $version $name stop; done")
    wait_until(lambda: query("callstats_database_up") == ("success", ["0"]), 60, "the alert's cause is seen")
    assert query('up{job="callstats"}') == ("success", ["1"])
