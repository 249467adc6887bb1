"""A pytest plugin: a test that is skipped, or expected to fail, has failed. What a test needs has to be there."""
import pytest

REASON = "no test is skipped here: install what it needs (tests/run does), or fix what it shows"


def fail_if_skipped(report):
    if report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{REASON}\n{report.longrepr}"
        vars(report).pop("wasxfail", None)


@pytest.hookimpl(hookwrapper=True, tryfirst=True)  # around pytest's own, which turn an exception into a skip
def pytest_runtest_makereport(item, call):
    outcome = yield
    fail_if_skipped(outcome.get_result())


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_make_collect_report(collector):
    outcome = yield
    fail_if_skipped(outcome.get_result())
