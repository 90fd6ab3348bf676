"""Debian's Chromium as tests drive it: one window of any width, light or dark, that loads files from disk only."""

from __future__ import annotations

import base64
import json
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import axe_core_python
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTHS = (320, 768, 1280)
NEEDED = ("chromium", "chromedriver")
AXE = Path(axe_core_python.__file__).parent / "axe.min.js"

needs_browser = pytest.mark.skipif(
    not all(map(shutil.which, NEEDED)),
    reason="needs Debian's chromium and chromium-driver: bash tools/setup.sh tests, as root, installs them",
)

# Page coordinates of every line of every text, what may clip it, and how wide the page is.
LOOK = """
const clipped = [], page = document.documentElement;
const sees = e => e.closest('svg') ? true : e.checkVisibility({visibilityProperty: true});
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), lines = [];
while (walker.nextNode()) {
  const node = walker.currentNode, own = node.parentElement;
  if (!node.data.trim() || own.closest('title, .skip, style, head') || !sees(own)) continue;
  const range = document.createRange(); range.selectNodeContents(node);
  const svg = own.closest('svg'), scroller = own.closest('.scroll'), cell = own.closest('td, th');
  for (const r of range.getClientRects()) {
    if (r.width < 0.5) continue;
    const box = (svg ?? scroller ?? page).getBoundingClientRect();
    const shift = svg ? 0 : (scroller?.scrollLeft ?? 0);
    const wide = svg ? box.width : (scroller ?? page).scrollWidth;
    const beyond = Math.max(box.left - shift - r.left, r.right - (box.left - shift + wide), svg ? box.top - r.top : 0, svg ? r.bottom - box.bottom : 0);
    const over = cell && !svg ? Math.max(0, r.right - cell.getBoundingClientRect().right) : 0;
    if (beyond > (svg ? 3 : 1.5) || over > 1.5) clipped.push(node.data.trim().slice(0, 60));
    lines.push([r.left, r.top, r.right, r.bottom, node.data.trim().slice(0, 40), svg ? 1 : 0]);
  }
}
const overlaps = [];
lines.sort((a, b) => a[1] - b[1]);
for (let i = 0; i < lines.length; i++) for (let j = i + 1; j < lines.length && lines[j][1] < lines[i][3]; j++) {
  const a = lines[i], b = lines[j];
  const x = Math.min(a[2], b[2]) - Math.max(a[0], b[0]), y = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  const least = Math.min(a[3] - a[1], b[3] - b[1]);
  if (x > 1.5 && y > 0.45 * least) overlaps.push(a[4] + ' | ' + b[4]);
}
return {wide: page.scrollWidth, window: page.clientWidth, clipped, overlaps, texts: lines.length};
"""


class Window:
    """One browser window; ``show`` loads a file afresh, so that nothing of the last one stays."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def show(self, file: Path, width: int, *, is_dark: bool = False) -> None:
        shape = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", shape)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "screen", "features": [scheme]})
        self.driver.get(file.as_uri())
        self.driver.execute_async_script("const done = arguments[0]; document.fonts.ready.then(() => done());")

    def console(self) -> list[str]:
        """What the console said since it was last asked."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def look(self) -> dict[str, Any]:
        return self.driver.execute_script(LOOK)

    def faults(self) -> list[str]:
        """Serious and critical findings of axe-core, one a line."""
        self.driver.execute_script(AXE.read_text(encoding="utf-8"))
        found = self.driver.execute_async_script(
            "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']}).then(done, e => done({error: String(e)}));"
        )
        assert "error" not in found, found
        assert found["passes"], "axe-core looked at nothing"
        return [
            f"{one['impact']}: {one['id']}: {json.dumps([node['html'][:120] for node in one['nodes'][:3]])}"
            for one in found["violations"]
            if one["impact"] in {"serious", "critical"}
        ]

    def picture(self, file: Path) -> None:
        """The whole page as PNG."""
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "format": "png"})
        file.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def window() -> Iterator[Window]:
    """A window of a headless browser that is closed at the end."""
    from selenium import webdriver  # noqa: PLC0415 - slow to load, and of no use where there is no browser

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-dev-shm-usage",
        "disable-background-networking",
        "hide-scrollbars",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield Window(driver)
    finally:
        driver.quit()
