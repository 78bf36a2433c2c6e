"""A lab's page in a real browser: marimo serves a copy of the notebook, Chromium shows it."""

from __future__ import annotations

import ast
import os
import re
import shutil
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Locator, Page, Request, expect, sync_playwright
from playwright.sync_api import TimeoutError as PlaywrightTimeout

REPOSITORY = Path(__file__).resolve().parents[2]
CHROMIUM = os.environ.get("COURSE_CHROMIUM", "/usr/bin/chromium")
PICTURES = os.environ.get("COURSE_TEST_PICTURES")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 240_000
# A spinner is drawn sixty times a second, as long as a cell runs; nothing here looks at it, and the processor is needed.
STILL = """document.addEventListener("DOMContentLoaded", () => {
  const style = document.createElement("style")
  style.textContent = "*, *::before, *::after { animation: none !important; transition: none !important }"
  document.head.appendChild(style)
})"""


def solved(notebook: str, name: str) -> str:
    """What the solution's notebook says for this name, as a learner would type it into the lab's cell."""
    text = (REPOSITORY / "solutions" / notebook).read_text()
    for node in ast.walk(ast.parse(text)):
        # `@app.function` is a function of the notebook's; a cell has a name too, which is not what it defines.
        names = [node.name] if isinstance(node, ast.FunctionDef) and not _is_cell(node) else []
        if isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        if name in names:
            return textwrap.dedent("\n".join(text.splitlines()[node.lineno - 1 : node.end_lineno]))
    raise AssertionError(f"{notebook} does not define {name}")


def _is_cell(function: ast.FunctionDef) -> bool:
    return any(ast.unparse(decorator).startswith("app.cell") for decorator in function.decorator_list)


@contextmanager
def serve(notebook: Path, folder: Path, **environment: str) -> Iterator[str]:
    """Serve a copy of the notebook for editing, so that the learner's own file stays as it is."""
    copy = folder / "labs" / notebook.name
    copy.parent.mkdir(parents=True)
    shutil.copy(notebook, copy)
    (folder / "helpers").symlink_to(REPOSITORY / "helpers")
    shutil.copy(REPOSITORY / "pyproject.toml", folder)
    port = free_port()
    command = [sys.executable, "-m", "marimo", "edit", str(copy), "--headless", "--no-token"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--skip-update-check"]
    with served(command, port, folder, cwd=folder, env={**os.environ, **environment}) as url:
        yield url


@contextmanager
def served(command: list[str], port: int, logs: Path, **options: Any) -> Iterator[str]:
    """Run a command that serves pages on this port, until they are no longer needed; their address."""
    with (logs / "marimo.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, **options)
        url = f"http://127.0.0.1:{port}"
        try:
            wait_for(url, process)
            yield url
        finally:
            process.terminate()
            process.wait(timeout=30)


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    """Until the server answers; AssertionError when it does not come up."""
    until = time.monotonic() + PATIENCE_MS / 1000
    while time.monotonic() < until and process.poll() is None:
        try:
            httpx.get(url, timeout=5)
            return
        except httpx.TransportError:
            time.sleep(0.2)
    raise AssertionError("marimo did not start")


@contextmanager
def open_page(url: str, *, dark: bool = False, shows: str = ".marimo-cell") -> Iterator[Page]:
    """The page on a laptop's screen, loaded: what `shows` selects is there."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(
            viewport={"width": 1280, "height": 800}, color_scheme="dark" if dark else "light"
        )
        page.add_init_script(STILL)
        page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        _load(page, url, shows)
        yield page
        browser.close()


def _load(page: Page, url: str, shows: str, most: int = 5) -> None:
    """Open a page until it is whole: a network interface that comes or goes makes Chromium drop what it loads.

    Another cluster's start or end does that on this machine; marimo then shows an error, or nothing.
    """
    failed = page.get_by_role("heading", name="Something went wrong")
    for _ in range(most):
        try:
            page.goto(url)
            page.locator(shows).or_(failed).first.wait_for(timeout=PATIENCE_MS / most)
        except PlaywrightError:
            continue
        if not failed.is_visible():
            return
    raise AssertionError(f"the page at {url} did not load in {most} attempts")


PASTE = """(content, text) => {
  const view = content.cmTile.view
  view.dispatch({changes: {from: 0, to: view.state.doc.length, insert: text}, userEvent: "input.paste"})
}"""


OBJECT_ID = """button => {
  const root = button.getRootNode()
  return (root.host ?? button).closest("marimo-ui-element")?.getAttribute("object-id") ?? ""
}"""


def _is_value_of(name: str, sent: Request) -> bool:
    return sent.url.endswith("/api/kernel/set_ui_element_value") and name in (sent.post_data or "")


class LabPage:
    """What a learner does on a page, in the words of the page."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def cell(self, text: str) -> Locator:
        """The cell whose code or output holds this text."""
        return self.page.locator(".marimo-cell", has_text=text).first

    def preview(self, label: str) -> Locator:
        """The preview above the panel of this Apply button."""
        button = self.page.get_by_role("button", name=label, exact=True)
        panel = self.page.locator(".marimo-cell", has=button).first
        return panel.locator("xpath=preceding::*[contains(concat(' ', @class, ' '), ' marimo-cell ')][1]")

    def edit(self, variable: str, change: Any) -> None:
        """Change the text in the cell of a variable or a function, and run the cell as a learner does."""
        pattern = re.compile(rf"\b{variable} = |def {variable}\(")
        editor = self.page.locator(".cm-content", has_text=pattern).first
        editor.scroll_into_view_if_needed()
        # The document itself: of what is out of sight, the editor draws only a part.
        before = editor.evaluate("content => content.cmTile.view.state.doc.toString()")
        # Not by a click: what is drawn above meanwhile moves the page, and a click then lands in another cell.
        editor.focus()
        # As a paste arrives, in one transaction: Chromium's own insertion asks for the layout at every line, for seconds.
        editor.evaluate(PASTE, change(before))
        # Until the server has it: a button that is pressed at once could overtake the edit on another connection.
        with self.page.expect_response("**/api/kernel/run"):
            self.page.keyboard.press("Control+Enter")

    def press(self, label: str) -> None:
        """Press a button until the page has told the server: one that is drawn anew meanwhile takes the press with it."""
        button = self.page.get_by_role("button", name=label, exact=True).first
        until = time.monotonic() + PATIENCE_MS / 1000
        while time.monotonic() < until:
            name = button.evaluate(OBJECT_ID)
            if not name:
                continue
            with suppress(PlaywrightTimeout):
                with self.page.expect_request(lambda sent, name=name: _is_value_of(name, sent), timeout=5000):
                    # By keyboard: what still loads above moves the page, and a click then lands beside the button.
                    button.press("Enter")
                return
        raise AssertionError(f"the button {label} was pressed, and the page told the server nothing")

    def predict(self, question: str, answer: str) -> None:
        """Choose an answer and commit it."""
        form = self.page.locator("form", has_text=question).first
        form.scroll_into_view_if_needed()
        form.get_by_text(answer).click()
        form.get_by_role("button", name="Commit my prediction").click()

    def verdict(self, criterion: str) -> Locator:
        """The verdict whose criterion begins so; its class and its first word are the status."""
        return self.page.locator("section.verdict", has_text=criterion).first

    def sees(self, criterion: str, status: str, observed: str = "") -> None:
        """Wait until a verdict has this status, in words, and says what was observed."""
        verdict = self.verdict(criterion)
        try:
            expect(verdict.locator(".word").first).to_have_text(status)
            if observed:
                expect(verdict).to_contain_text(observed)
        except AssertionError as error:
            raise AssertionError(f"{error}\nThe page shows: {verdict.inner_text()}") from None

    def picture(self, name: str, at: Locator | None = None) -> None:
        """Keep a picture in dark and in light where `COURSE_TEST_PICTURES` points, with this part of the page in its middle."""
        if not PICTURES:
            return
        if at is not None:
            at.evaluate("element => element.scrollIntoView({block: 'center'})")
            self.page.mouse.move(5, 5)
            self.page.wait_for_timeout(700)
        Path(PICTURES).mkdir(parents=True, exist_ok=True)
        for scheme, ending in (("dark", "-dark"), ("light", "")):
            self.page.emulate_media(color_scheme=scheme)
            self.page.wait_for_timeout(700)
            self.page.screenshot(path=str(Path(PICTURES) / f"{name}{ending}.png"))
