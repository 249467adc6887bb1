"""The table of variables in src/config.rs, as --help prints it, against man page, env file and documents."""
import re
import subprocess

import pytest

from ..support.processes import CALLSTATS, PROJECT, as_user

# Read from the environment, but not a setting of an operator: web servers and the FastCGI specification set them.
NOT_SETTINGS = {"CALLSTATS_PROBE", "FCGI_WEB_SERVER_ADDRS"}


def help_table():
    """Name -> default, empty if there is none."""
    text = subprocess.run([CALLSTATS, "--help"], capture_output=True, text=True, check=True, **as_user()).stdout
    environment = text.split("Environment", 1)[1]
    found = re.findall(r"^  ([A-Z][A-Z_]+)  +(.*?)(?: \((\S+)\))?$", environment, re.M)
    return {name: default for name, _, default in found}


def man_page_table():
    text = (PROJECT / "deploy" / "callstats.8").read_text()
    environment = text.split(".SH ENVIRONMENT")[1].split(".SH ")[0].replace("\\-", "-")
    found = re.findall(r'^\.TP\n\.BR? ([A-Z_]+)(?: " \((\S+)\)")?$', environment, re.M)
    return {name: default for name, default in found}


def env_file_table():
    """Defaults are commented out; a setting that is not is an example or the package's own, and its value is free."""
    defaults = help_table()
    found = re.findall(r"^(#?)([A-Z_]+)=(.*)$", (PROJECT / "deploy" / "callstats.env").read_text(), re.M)
    free = {name for mark, name, _ in found if mark == ""} | {name for name, default in defaults.items() if not default}
    return {name: defaults.get(name, "unknown") if name in free else value for _, name, value in found}


def markdown_table(path):
    found = re.findall(r"^\| `([A-Z][A-Z_]+)` \| (?:`([^`]*)`)? ?\|", (PROJECT / path).read_text(), re.M)
    return dict(found)


def test_help_has_a_default_for_each_documented_setting():
    table = help_table()
    assert table["CALLSTATS_PREFIX"] == "/stats" and table["DATABASE_URL"] == "" and len(table) >= 12


@pytest.mark.parametrize("table", [man_page_table, env_file_table, lambda: markdown_table("docs/operations.md")],
                         ids=["man page", "env file", "docs/operations.md"])
def test_table_has_every_variable_and_its_default(table):
    assert table() == help_table()


def test_readme_table_has_known_variables_and_their_defaults():
    shown = markdown_table("README.md")
    assert len(shown) >= 4
    assert shown.items() <= help_table().items()


def test_source_reads_listed_variables_only():
    read = set()
    for path in (PROJECT / "src").rglob("*.rs"):
        code = path.read_text().split("#[cfg(test)]")[0]
        code = "\n".join(line for line in code.splitlines() if not line.startswith("    variable("))  # the table itself
        read |= set(re.findall(r'"(CALLSTATS_[A-Z_]+|DATABASE_URL|FCGI_WEB_SERVER_ADDRS)"', code))
    assert read - NOT_SETTINGS <= set(help_table())
    assert set(help_table()) - {"RUST_LOG"} <= read


def test_man_page_is_formatted_without_warnings():
    done = subprocess.run(["man", "--warnings", "-l", PROJECT / "deploy" / "callstats.8"], capture_output=True,
                          text=True, env={"PATH": "/usr/bin:/bin", "MANPAGER": "cat", "LC_ALL": "C.UTF-8"})
    assert (done.returncode, done.stderr) == (0, "")
