"""Airflow's web interface as a person uses it: forms, runs, questions, links. Knows no pytest.

What a page is made of is Airflow 3.3's: its test ids, labels and addresses.
"""

import json
import time
from collections.abc import Mapping
from urllib.parse import quote, unquote

from tests.harness.browser import Browser

DIALOG = '[...document.querySelectorAll("[role=dialog]")].filter(one => one.getClientRects().length).at(-1)'
SUBMIT = 'document.querySelector("[data-testid=trigger-dag-submit]")'
FRAME = 'document.querySelector("iframe")'
SECTION = "Run Parameters"
ACTION_SECONDS = 60.0
Value = str | bool


def labelled(label: str) -> str:
    """The button with this label for a screen reader."""
    return (
        f'[...document.querySelectorAll("button")].find(one => one.getAttribute("aria-label") === {json.dumps(label)}'
        " && one.getClientRects().length)"
    )


def button(text: str, within: str = DIALOG) -> str:
    """The button with this text, in the dialog that is open."""
    return (
        f'[...(({within}) || document).querySelectorAll("button")]'
        f".find(one => one.textContent.trim() === {json.dumps(text)})"
    )


def link(ending: str) -> str:
    """The link to an address that ends so."""
    return (
        '[...document.querySelectorAll("a")].find(one => one.getClientRects().length && '
        f'(one.getAttribute("href") || "").endsWith({json.dumps(ending)}))'
    )


class RefusedError(Exception):
    """Airflow does not take what the form has; the text is what its user reads."""


class AirflowPages:
    """The pages of one Airflow in one browser, whose user is logged in."""

    def __init__(self, browser: Browser, url: str) -> None:
        self.browser = browser
        self.url = url

    # --- where ---

    def visit(self, path: str) -> None:
        """Open a page and wait until its frame is drawn."""
        self.browser.visit(f"{self.url}{path}")
        self.browser.until('document.querySelector("[data-testid=nav-sidebar]")', f"Airflow's frame of {path}")

    def run_path(self, dag: str, run: str, *more: str) -> str:
        """The path of a run, or of something of it."""
        return "/".join(("", "dags", dag, "runs", quote(run, safe=""), *more))

    def theme(self, name: str) -> None:
        """Choose Airflow's own theme: ``light`` or ``dark``, or ``system``; for pages that are opened from now on."""
        self.browser.evaluate(f"localStorage.setItem('theme', {json.dumps(name)})")

    # --- forms ---

    def form(self, dag: str) -> None:
        """Open the form of a DAG."""
        self.visit(f"/dags/{dag}")
        self.browser.click('document.querySelector("[data-testid=trigger-dag-button]")')
        self.browser.until(SUBMIT, f"the form of {dag}")

    def fill(self, values: Mapping[str, Value], sections: Mapping[str, str]) -> None:
        """Put values into fields; ``sections``: field -> the section that it is in, unless that is the first one."""
        for name, value in values.items():
            self._unfold(sections.get(name, SECTION))
            if isinstance(value, bool):
                self._tick(name, value)
            elif self.browser.evaluate(f"{self._field(name)}.type === 'hidden'"):
                self._choose(name, value)
            else:
                self.browser.fill(self._field(name), value)
                self.browser.key("Tab")
                self.browser.until(f"{self._field(name)}.value === {json.dumps(value)}", f"{name} as {value!r}")

    def _unfold(self, section: str) -> None:
        """One section is open at a time."""
        opened = f'{button(section)}.getAttribute("aria-expanded") === "true"'
        if not self.browser.evaluate(opened):
            self.browser.click(button(section))
            self.browser.until(opened, f"the section {section}")

    @staticmethod
    def _field(name: str) -> str:
        return f'document.querySelector("[name=element_{name}]")'

    def _tick(self, name: str, value: bool) -> None:
        if bool(self.browser.evaluate(f"{self._field(name)}.checked")) is not value:
            self.browser.click(f'{self._field(name)}.closest("label")')
        self.browser.until(f"{self._field(name)}.checked === {json.dumps(value)}", f"{name} as {value}")

    def _choose(self, name: str, value: str) -> None:
        self.browser.click(f'{self._field(name)}.parentElement.querySelector("[role=combobox]")')
        options = '[...document.querySelectorAll("[role=option]")]'
        self.browser.click(f"{options}.find(one => one.textContent.trim().startsWith({json.dumps(value)}))")
        self.browser.until(f"{self._field(name)}.value === {json.dumps(value)}", f"{name} as {value}")

    def keep_paused(self) -> None:
        """Leave a paused DAG paused, which the form offers to turn on: its run waits until it is on."""
        box = f'({DIALOG}).querySelector("input[type=checkbox]:not([name^=element_])")'
        self.browser.until(f"{box}.checked", "the offer to turn it on")
        self.browser.click(f'{box}.closest("label")')
        self.browser.until(f"!{box}.checked", "a DAG that stays paused")

    def complete(self, *, expected: bool = True) -> None:
        """Wait until the form can be sent, or cannot. Raises ``TimeoutError``."""
        self.browser.until(f"{SUBMIT}.disabled === {json.dumps(not expected)}", f"a form that is complete: {expected}")

    def send(self) -> str:
        """Send the form; returns the id of the run. Raises ``RefusedError``."""
        self.browser.forget()
        self.browser.click(SUBMIT)
        status = self._answered("POST", "/dagRuns")
        if status >= 400:
            shown = f"/{status} /.test(({DIALOG}).innerText)"
            self.browser.until(shown, "the reason of the refusal")
            raise RefusedError(str(self.browser.evaluate(f"({DIALOG}).innerText")))
        self.browser.until("location.pathname.includes('/runs/')", "the page of the run")
        path = str(self.browser.evaluate("decodeURIComponent(location.pathname)"))
        return path.partition("/runs/")[2].partition("/")[0]

    def _answered(self, method: str, ending: str) -> int:
        """Wait for the answer to a request; returns its status."""
        deadline = time.monotonic() + ACTION_SECONDS
        while True:
            self.browser.evaluate("0")  # what the browser says comes with an answer
            for one in self.browser.answers:
                if one.method == method and one.url.partition("?")[0].endswith(ending):
                    return one.status
            if time.monotonic() > deadline:
                raise TimeoutError(f"no answer to {method} {ending} within {ACTION_SECONDS:g} s")
            time.sleep(0.1)

    # --- a run ---

    def _header(self, dag: str, run: str) -> None:
        self.visit(self.run_path(dag, run))
        self.browser.until(labelled("Delete Dag Run"), f"the header of {run}")

    def mark_failed(self, dag: str, run: str) -> None:
        """Mark a run failed."""
        self._header(dag, run)
        self.browser.click(labelled("Mark Dag Run as..."))
        self.browser.click('document.querySelector("[data-testid=mark-run-as-failed]")')
        self._confirm("Confirm")

    def clear(self, dag: str, run: str) -> None:
        """Clear a run: every task of it is to be done again."""
        self._header(dag, run)
        self.browser.click(labelled("Press shift+c to clear"))
        self.browser.until(f"/Affected Tasks: [1-9]/.test(({DIALOG}).innerText)", "the tasks to clear")
        self._confirm("Confirm")

    def delete(self, dag: str, run: str) -> None:
        """Mark a run failed, then delete it: Airflow deletes none that goes on."""
        self.mark_failed(dag, run)
        self._header(dag, run)
        self.browser.click(labelled("Delete Dag Run"))
        self._confirm("Delete")

    def _confirm(self, text: str) -> None:
        self.browser.click(button(text))
        self.browser.until(f"!({DIALOG})", "the end of the dialog", seconds=ACTION_SECONDS)

    # --- questions ---

    def question(self, dag: str, run: str, task: str) -> str:
        """Open a question that waits for a person; returns its text."""
        self.visit(self.run_path(dag, run, "tasks", task, "required_actions"))
        options = 'document.querySelectorAll("[data-testid^=hitl-option-]").length > 0'
        self.browser.until(options, f"the question of {task}")
        return str(self.browser.evaluate('document.querySelector("[data-testid=main-content]").innerText'))

    def answer(self, option: str) -> int:
        """Answer the question that is open, by its button; returns the status of Airflow's answer."""
        self.browser.forget()
        self.browser.click(f'document.querySelector("[data-testid=hitl-option-{option}]")')
        return self._answered("PATCH", "/hitlDetails")

    # --- links and tabs ---

    def tabs(self, last: str) -> list[str]:
        """The addresses of the tabs of the page that is open, as soon as the one that ends with ``last`` is there."""
        self.browser.until(link(last), f"the tab {last}")
        found = self.browser.evaluate(
            '[...document.querySelectorAll("[data-testid=main-content] a")]'
            ".filter(one => one.getClientRects().length).map(one => one.getAttribute('href'))"
            ".filter(one => one && !one.includes('?'))"
            ".filter(one => decodeURIComponent(one).startsWith(decodeURIComponent(location.pathname)))"
        )
        below = str(self.browser.evaluate("decodeURIComponent(location.pathname)")).rstrip("/")
        names = {str(one) for one in found if "/tasks/" not in unquote(str(one)).removeprefix(below)}
        return sorted(names)

    def look(self, path: str) -> list[str]:
        """Open a page; returns what is wrong with it: refused requests, and errors of its scripts."""
        self.browser.forget()
        self.visit(path)
        self.settle()
        wrong = [f"{one.method} {one.url}: {one.status}" for one in self.browser.answers if one.status >= 400]
        return [f"{path}: {one}" for one in (*wrong, *self.browser.exceptions)]

    def settle(self, seconds: float = 1.5) -> None:
        """Wait until the page has asked for nothing for so long."""
        count, since = -1, time.monotonic()
        while time.monotonic() - since < seconds:
            self.browser.evaluate("0")
            if len(self.browser.answers) != count:
                count, since = len(self.browser.answers), time.monotonic()
            time.sleep(0.1)

    def framed(self, what: str) -> str:
        """The text of the page of ours that is shown inside Airflow's."""
        ready = f"{FRAME} && {FRAME}.contentDocument && {FRAME}.contentDocument.querySelector('main')"
        self.browser.until(ready, what)
        return str(self.browser.evaluate(f"{FRAME}.contentDocument.body.innerText"))
