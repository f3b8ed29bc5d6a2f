"""The blocks of code in README and docs, and the kinds that there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from datahub_eventlog.config import options

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
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
        """What YAML makes of it."""
        return yaml.safe_load(self.text)

    @property
    def name(self) -> str:
        """The file that its first line names, as `# name.py` or `# when: name.py`."""
        found = re.match(r"# (?:\w+: )?([\w.]+)\n", self.text)
        return found[1] if found else ""


def blocks(language: str) -> list[Block]:
    return [each for page in PAGES for each in _blocks(page) if each.language == language]


def _blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        yield Block(page.name, line, found[1], found[2])


def sections() -> list[Block]:
    """The sections of dagster.yaml.example, without the comment signs."""
    text = EXAMPLE.read_text()
    heads = [*SECTION.finditer(text)]
    ends = [each.start() for each in heads[1:]] + [len(text)]
    return [
        Block(EXAMPLE.name, text.count("\n", 0, head.start()) + 1, "yaml", _bare(head, text, end))
        for head, end in zip(heads, ends, strict=True)
    ]


def _bare(head: re.Match[str], text: str, end: int) -> str:
    """Only the indented prose of the section and what YAML can read; prose is no YAML."""
    body = text[head.end() : end]
    if re.search(r"^\w+:", body, re.MULTILINE):  # it is not commented out
        return body
    lines = [each.removeprefix("#").removeprefix(" ") for each in body.splitlines()]
    start = next(i for i, each in enumerate(lines) if re.match(r"\w+:$", each))
    return "\n".join(lines[start:])


def kind(content: Any) -> str:
    """What a YAML block is for; fails if nobody would test it."""
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
    every = [*blocks("yaml"), *sections()]
    return [each for each in every if kind(each.content) in names]
