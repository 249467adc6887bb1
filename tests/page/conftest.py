"""A page for each test, over a stub of the service with a year of calls."""

import base64
import datetime
import hashlib
import random
import subprocess
import tarfile

import pytest

from tests.support.browser import Page
from tests.support.oracle import Call
from tests.support.processes import PROJECT
from tests.support.stats_stub import StatsStub, Sums, today

AXE = ("axe-core", "4.10.3", "Xm7bpRXnDSX2YE2YFfBk2FnF0ep6tmG7xPh8iHee8MIcrgq762Nkce856dYtJYLkuIoYZvGfTs/PbZhideTcEg==")
FOLDERS = [
    "Billing",
    "<b>Returns</b>",
    "مبيعات",
    "=Outbound",
    'a, "quoted"\r\nname',
    "&lt;VIP&gt;",
    "Sales/North",
    "Überfall",
    "z9",
    "z10",
]
AGENTS = ["007", "<script>document.title='run'</script>", "نورا", "+49151", None]
TOKEN, OTHER_TOKEN = "token-of-acme-1", "token-of-globex-1"


@pytest.fixture(scope="session")
def axe():
    """The source of axe-core, fetched once by npm and checked."""
    name, version, digest = AXE
    folder = PROJECT / "target" / "npm"
    archive = folder / f"{name}-{version}.tgz"
    if not archive.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", "--silent", f"{name}@{version}"], cwd=folder, check=True, capture_output=True)
    assert base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode() == digest
    with tarfile.open(archive) as files:
        return files.extractfile("package/axe.min.js").read().decode()


@pytest.fixture(scope="session")
def calls():
    """About 14 months of calls until today, none on Sundays."""
    choice = random.Random(17)
    last = today("UTC")
    made = []
    for back in range(430):
        day = last - datetime.timedelta(days=back)
        if day.isoweekday() == 7 and back:
            continue
        for folder in FOLDERS:
            for _ in range(choice.choice((0, 0, 1, 2, 3))):
                time = datetime.time(choice.randrange(24), choice.randrange(60))
                made.append(
                    Call(
                        "acme",
                        "support",
                        folder,
                        choice.choice(AGENTS),
                        datetime.datetime.combine(day, time),
                        choice.randrange(1, 900_000),
                    )
                )
        made.append(
            Call("acme", "support", "Billing", "007", datetime.datetime.combine(day, datetime.time(12)), 60_001)
        )
    made.append(Call("globex", "sales", "Inbound", "g", datetime.datetime.combine(last, datetime.time(9)), 1000))
    return made


@pytest.fixture
def stub(calls, start):
    return start(StatsStub, Sums(calls), {TOKEN: "acme", OTHER_TOKEN: "globex"})


@pytest.fixture
def page(browser, stub):
    browser.look()
    return Page(browser, stub.url)
