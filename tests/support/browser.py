"""A real Chromium, and the page as a person at it meets it."""

import json
import pathlib
import urllib.parse

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

from .processes import Folder, wait_until

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP stats.example 127.0.0.1",
]


class Browser:
    """Chromium under chromedriver, with a profile and a downloads folder of its own."""

    def __init__(self, language="en-US"):
        self.folder = Folder("chromium")
        self.downloads = pathlib.Path(self.folder / "downloads")
        self.downloads.mkdir()
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for flag in [
            *FLAGS,
            f"--user-data-dir={self.folder / 'profile'}",
            f"--lang={language}",
            f"--accept-lang={language}",
        ]:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)
        self.command("Page.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))

    def command(self, name, **parameters):
        return self.driver.execute_cdp_cmd(name, parameters)

    def look(self, scheme="light", width=1280, height=900, scale=1):
        """Colour scheme and size of the window."""
        self.command(
            "Emulation.setEmulatedMedia", media="", features=[{"name": "prefers-color-scheme", "value": scheme}]
        )
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )

    def stop(self):
        self.driver.quit()
        self.folder.remove()


class Page:
    """deploy/page at a web server's address."""

    def __init__(self, browser, url):
        self.browser, self.driver, self.url = browser, browser.driver, f"{url}/callstats/"

    def open(self, entered=None, /, **state):
        """Opens the page with a state in its address, and a token that was entered in this tab before."""
        self.driver.get(self.url + "icon.svg")
        self.run(
            "sessionStorage.clear(); if (arguments[0]) sessionStorage.setItem('callstats-token', arguments[0])", entered
        )
        self.messages()
        self.driver.get(self.url + ("?" + urllib.parse.urlencode(state, doseq=True) if state else ""))
        return self

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def find(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def shows(self, selector):
        return self.run(
            "return document.querySelector(arguments[0])?.checkVisibility({visibilityProperty: true}) ?? false",
            selector,
        )

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def figures(self):
        """Waits for an answer that is complete, and for its figures."""

        def arrived():
            assert not self.shows("#error"), self.text("#error")
            return self.shows("#results") and not self.shows("#loading")

        wait_until(arrived, 30, "the figures are shown")
        return self

    def refused(self):
        """Waits for an error, and returns its heading, text and hint."""
        wait_until(lambda: self.shows("#error"), 30, "an error is shown")
        assert not self.shows("#results"), "figures beside an error"
        return tuple(self.text(f"#error-{part}") for part in ("title", "text", "hint"))

    def enter(self, name, value):
        field = self.find(f"#{name}")
        field.clear()
        field.send_keys(value)

    def enter_day(self, name, day):
        """A date field takes keys in the order of the browser's language; its value is what counts."""
        self.run(
            "const field = document.getElementById(arguments[0]); field.value = arguments[1];"
            "field.dispatchEvent(new Event('change', {bubbles: true}))",
            name,
            day,
        )

    def choose(self, name, value):
        Select(self.find(f"#{name}")).select_by_value(value)

    def press(self, selector):
        self.find(selector).click()

    def keys(self, *keys):
        self.driver.switch_to.active_element.send_keys(*keys)

    def focused(self):
        return self.run("return document.activeElement.id || document.activeElement.textContent")

    @property
    def query(self):
        return urllib.parse.parse_qs(urllib.parse.urlsplit(self.driver.current_url).query, keep_blank_values=True)

    def value(self, name):
        """A total, as a whole number."""
        return int(self.find(f"#total-{name}").get_attribute("data-value"))

    def chart(self, name):
        """Labels, and values by the name of their series."""
        data = self.run(
            """const chart = Chart.getChart(document.getElementById(arguments[0]));
            return chart && JSON.stringify([chart.data.labels,
                chart.data.datasets.map(({label, data}) => [label, [...data]])])""",
            f"{name}-chart",
        )
        labels, series = json.loads(data)
        return labels, dict(series)

    def table(self, name, pages=1):
        """The rows of some pages of a table: text and exact value by column."""
        rows = []
        for page in range(pages):
            if page:
                self.run(
                    "[...document.getElementById(arguments[0]).closest('.data-table')"
                    ".querySelectorAll('.pages button')].at(-1).click()",
                    f"{name}-table",
                )
            rows += json.loads(
                self.run(
                    """return JSON.stringify([...document.getElementById(arguments[0]).tBodies[0].rows]
                .map(row => Object.fromEntries([...row.cells].map(cell => [cell.dataset.column,
                    'value' in cell.dataset ? Number(cell.dataset.value) : cell.textContent]))))""",
                    f"{name}-table",
                )
            )
        return rows

    def sort(self, table, column):
        self.run("document.querySelector(arguments[0]).click()", f"#{table}-table button[data-column={column}]")

    def download(self, selector):
        """Presses a button that hands over a file, and returns its name and bytes."""
        for earlier in self.browser.downloads.iterdir():
            earlier.unlink()  # a file of the same name would take its place, unseen
        self.run("document.querySelector(arguments[0]).click()", selector)

        def complete():
            new = [
                path
                for path in self.browser.downloads.iterdir()
                if not path.name.endswith(".crdownload") and not path.name.startswith(".")
            ]
            return new and new[0].stat().st_size and new[0]

        file = wait_until(complete, 30, "the file is downloaded")
        return file.name, file.read_bytes()

    def messages(self):
        """What the browser wrote to its console since the last look, such as what the policy of the page blocked."""
        entries = [entry for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
        # `open` starts from a picture, for which the browser asks for an icon, at a time of its own choice.
        return [entry["message"] for entry in entries if "/favicon.ico " not in entry["message"]]

    def picture(self, path, whole=False):
        path.parent.mkdir(parents=True, exist_ok=True)
        if whole:
            height = self.run("return document.documentElement.scrollHeight")
            width = self.run("return innerWidth")
            self.browser.command(
                "Emulation.setDeviceMetricsOverride",
                width=width,
                height=height,
                deviceScaleFactor=1,
                mobile=width < 600,
            )
        self.driver.save_screenshot(str(path))
