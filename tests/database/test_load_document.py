"""The commands of docs/loading.md, typed as they stand."""

import subprocess

from ..support.documents import blocks, kind
from ..support.processes import CALLSTATS, PROJECT
from .test_load import HEADER, ROW, Site

DOCUMENT = "docs/loading.md"


def fenced(language):
    """The fenced blocks of the document in a language."""
    parts = (PROJECT / DOCUMENT).read_text().split(f"```{language}\n")[1:]
    return [part.split("```")[0] for part in parts]


def test_printed_commands_and_mappings_work(database, tmp_path):
    site = Site(database, tmp_path)
    site.write("calls.csv", HEADER + ROW)
    site.write("switchboard.toml", fenced("toml")[0])
    [sheet] = [block.text for block in blocks(DOCUMENT) if block.text.startswith("Zeit;")]
    site.write("switchboard.csv", sheet + "\n")
    site.write("Master.csv", (PROJECT / "tests" / "records" / "asterisk" / "Master.csv").read_bytes())
    typed = []
    for block in blocks(DOCUMENT):
        for command in block.commands():
            if kind(command) == "command":
                environment = site.environment | {"PATH": f"{CALLSTATS.parent}:/usr/bin:/bin"}
                done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True,
                                      text=True)
                assert done.returncode == 0, (command, done.stderr)
                typed.append(command)
    assert len(typed) == 5, typed
    assert ("Verkauf", "anna", "2026-03-03 08:15:00", 125_000) in site.rows()


def test_every_mapping_of_the_document_is_one(database, tmp_path):
    site = Site(database, tmp_path)
    for mapping in fenced("toml"):
        site.write("map.toml", mapping)
        report = site.run("--map", "map.toml", "-", input="").stderr
        assert "it is empty" in report, report
