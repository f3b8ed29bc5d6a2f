"""The code blocks of the README and the documentation, by their kinds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from datahub_eventlog.config import options

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLE = ROOT / "dagster.yaml.example"
SECTION = re.compile(r"^# ── (.*?) ─+$", re.MULTILINE)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of code on a page."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def content(self) -> Any:
        """The text, parsed as YAML."""
        return yaml.safe_load(self.text)

    @property
    def name(self) -> str:
        """The file that its first line names, as `# name.py` or `# when: name.py`."""
        comment = re.match(r"# (?:\w+: )?([\w.]+)\n", self.text)
        return comment[1] if comment else ""


def blocks(language: str) -> list[Block]:
    return [block for page in PAGES for block in _blocks(page) if block.language == language]


def _blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for fence in FENCE.finditer(text):
        line = text.count("\n", 0, fence.start()) + 1
        yield Block(page.name, line, fence[1], fence[2])


def sections() -> list[Block]:
    """The sections of dagster.yaml.example, without the comment signs."""
    text = EXAMPLE.read_text()
    heads = [*SECTION.finditer(text)]
    ends = [head.start() for head in heads[1:]] + [len(text)]
    return [
        Block(EXAMPLE.name, text.count("\n", 0, head.start()) + 1, "yaml", _bare(head, text, end))
        for head, end in zip(heads, ends, strict=True)
    ]


def _bare(head: re.Match[str], text: str, end: int) -> str:
    """The YAML of a section, without its prose and its comment signs."""
    body = text[head.end() : end]
    if re.search(r"^\w+:", body, re.MULTILINE):  # it is not commented out
        return body
    lines = [line.removeprefix("#").removeprefix(" ") for line in body.splitlines()]
    start = next(i for i, line in enumerate(lines) if re.match(r"\w+:$", line))
    return "\n".join(lines[start:])


def kind(content: Any) -> str:
    """The kind of a YAML block. A block of no known kind fails, as no test would cover it."""
    keys = set(content)
    for key, name in KINDS.items():
        if key in keys:
            return name
    assert keys <= set(options()), f"what kind of YAML is this? {sorted(keys)}"
    return "options"


KINDS = {
    "additionalInstanceConfig": "helm",
    "storage": "dagster",
    "event_log_storage": "dagster",
    "services": "compose",
    "apiVersion": "manifest",
    "load_from": "workspace",
    "datahub": "block",
}


def of_kind(*names: str) -> list[Block]:
    return [block for block in (*blocks("yaml"), *sections()) if kind(block.content) in names]
