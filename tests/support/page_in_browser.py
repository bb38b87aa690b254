"""A page in a real headless Chromium: what it looks like to a script inside it, and what the console says."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
SECONDS = 120
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
CONSOLE = re.compile(r"CONSOLE[:(]\d+\)?\] (.*)")
# The smallest contrast of text with what is behind it, by WCAG 2.2 (1.4.3), over every element with text of its own.
CONTRAST = """
const numbers = color => {
  const found = color.match(/[\\d.]+/g).map(Number);
  if (color.startsWith('color(')) found.splice(0, 3, ...found.slice(0, 3).map(part => part * 255));
  return found.length < 4 ? [...found, 1] : found;
};
const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3]));
const light = color => {
  const [r, g, b] = color.map(part => part / 255).map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = element => {
  const layers = [];
  for (let at = element; at; at = at.parentElement) layers.push(numbers(getComputedStyle(at).backgroundColor));
  return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255]);
};
const contrasts = [];
for (const element of document.body.querySelectorAll('*')) {
  const own = [...element.childNodes].filter(node => node.nodeType === 3).map(node => node.textContent.trim()).join('');
  if (!own || ['SCRIPT', 'STYLE'].includes(element.tagName)) continue;
  const style = getComputedStyle(element), isDrawn = element instanceof SVGElement;
  const below = behind(element), text = over(numbers(isDrawn ? style.fill : style.color), below);
  const [high, low] = [light(text), light(below)].sort((a, b) => b - a);
  contrasts.push([(high + 0.05) / (low + 0.05), own.slice(0, 40)]);
}
contrasts.sort((a, b) => a[0] - b[0]);
"""


def run_in_page(
    page: str, script: str, folder: Path, *, dark: bool = False, width: int = 1280, libraries: tuple[Path, ...] = ()
) -> tuple[Any, list[str]]:
    """Return what `script` (the body of an async function) returns inside the page, and the console's lines.

    The page's own policy forbids scripts, so it is left out of the copy that runs one; `console_of` looks at the page
    as it is.
    """
    tags = "".join(f'<script src="{path.as_uri()}"></script>' for path in libraries)
    runner = (
        f"{tags}<script>(async () => {{ {script} }})().catch(error => ({{error: String(error)}})).then(found => {{"
        "const place = document.createElement('pre'); place.id = 'found';"
        "place.textContent = JSON.stringify(found); document.body.append(place); });</script>"
    )
    copy = folder / "with_script.html"
    copy.write_text(POLICY.sub("", page).replace("</body>", runner + "</body>"))
    dom, lines = _dump(copy, folder, dark=dark, width=width)
    answer = re.search(r'<pre id="found">(.*?)</pre>', dom, re.DOTALL)
    assert answer is not None, lines
    return json.loads(html.unescape(answer[1])), lines


def console_of(page: str, folder: Path) -> list[str]:
    """Return what the console says of the page as it is: refused resources, for example."""
    path = folder / "as_it_is.html"
    path.write_text(page)
    return _dump(path, folder, dark=False, width=1280)[1]


def _dump(path: Path, folder: Path, *, dark: bool, width: int) -> tuple[str, list[str]]:
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}",
            "--enable-logging=stderr", "--virtual-time-budget=20000", f"--window-size={width},900",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--dump-dom", path.as_uri(),
        ],
        capture_output=True, text=True, check=True, timeout=SECONDS,
    )
    return done.stdout, CONSOLE.findall(done.stderr)
