"""`edgeship run` on a configuration, to its verdict: what field.py and families.py put into their tables."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPORT = "report.json"
TIMEOUT_SECONDS = 7200  # NASNetMobile trains and converts for longer than an hour on two cores
LONGEST = 420  # characters of a sentence in a table
# Enough for the gates, which judge no latency: timing six launches of every row would take most of the time.
QUICK = {
    "runtimes": ["keras", "litert", "onnxruntime"], "latency_launches": 1, "latency_runs": 5, "latency_seconds": 0.5,
}
ACCURACY = re.compile(r"top-1 differs from float Keras|the float model itself may be guessing")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended."""

    exit_code: int  # -1: it took too long
    verdict: str | None  # None: no report
    sentences: tuple[str, ...]  # the report's failures, or what the command said last

    @property
    def gates(self) -> str:
        """The verdict for a table; "(accuracy)" where only accuracy figures are not good or sure enough."""
        if self.verdict is None:
            return f"no report, exit {self.exit_code}"
        if self.verdict == "pass":
            return "pass"
        only_accuracy = all(ACCURACY.search(sentence) for sentence in self.sentences)
        return f"{self.verdict} ({'accuracy' if only_accuracy else self.shown})"

    @property
    def shown(self) -> str:
        """The sentences, cut to a table's width, those that are not about accuracy first."""
        ordered = sorted(self.sentences, key=lambda sentence: bool(ACCURACY.search(sentence)))
        text = " ".join("; ".join(ordered).split()).replace("|", "\\|")
        text = text.replace("](", "] (")  # no link of Markdown's
        return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def run_to_verdict(sections: dict[str, dict[str, Any]], *, modules: list[Path], folder: Path) -> Outcome:
    """Run one configuration in a process of its own; its modules are copied beside it.

    Args:
        sections: the configuration, section by section; [validate] is made quick where it does not say otherwise.
        modules: Python files that the configuration names.
        folder: where everything is written; emptied first.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for module in modules:
        shutil.copy(module, folder)
    config = folder / "run.toml"
    config.write_text(_toml({**sections, "validate": {**QUICK, **sections.get("validate", {})}}))
    command = [sys.executable, "-m", "edgeship", "run", str(config), "--out", str(folder / "out")]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Outcome(exit_code=-1, verdict=None, sentences=(f"not done after {TIMEOUT_SECONDS} s",))
    (folder / "log.txt").write_text(done.stdout + done.stderr)
    report = folder / "out" / REPORT
    if done.returncode in (0, 1, 3, 4) and report.is_file():
        content = json.loads(report.read_text())
        return Outcome(exit_code=done.returncode, verdict=content["verdict"], sentences=tuple(content["failures"]))
    said = [line for line in done.stderr.splitlines() if line.strip()]
    return Outcome(exit_code=done.returncode, verdict=None, sentences=tuple(said[-1:]))


def _toml(sections: dict[str, dict[str, Any]]) -> str:
    lines = []
    for name, keys in sections.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    return "\n".join(lines) + "\n"
