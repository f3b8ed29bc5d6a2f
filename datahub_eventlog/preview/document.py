"""The picture as one HTML file that needs no other.

Values are only ever data: they stand in a JSON block that the browser doesn't run, and the page
puts them into text nodes. Its security policy allows the scripts below by their hashes, and no
connections.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from importlib.resources import files
from string import Template
from typing import Any

from datahub_eventlog.preview.graph import Graph, Node
from datahub_eventlog.preview.sections import Cell

SCRIPTS = ("vendor/cytoscape.min.js", "vendor/dagre.min.js", "page.js")

_SOURCE_MAP = re.compile(r"^//# sourceMappingURL=.*$", re.MULTILINE)


def page(graph: Graph) -> str:
    """The whole page."""
    scripts = [_SOURCE_MAP.sub("", _read(name)) for name in SCRIPTS]
    return Template(_read("page.html")).substitute(
        title=html.escape(graph.title),
        policy=html.escape(_policy(scripts)),
        style=_read("page.css"),
        data=_embedded(_graph_json(graph)),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )


def _read(name: str) -> str:
    return files("datahub_eventlog.preview").joinpath(name).read_text(encoding="utf-8")


def _policy(scripts: list[str]) -> str:
    """Nothing may be loaded, and only these scripts may run."""
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:"


def _embedded(value: Mapping[str, Any]) -> str:
    """JSON that no value in it can end: without `<` there is no `</script>`."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _graph_json(graph: Graph) -> dict[str, Any]:
    return {
        "title": graph.title,
        "summary": list(graph.summary),
        "nodes": [_node_json(node) for node in graph.nodes],
        "edges": [
            {"source": edge.source, "target": edge.target, "kind": edge.kind}
            for edge in graph.edges
        ],
        "problems": [
            {"urn": problem.urn, "aspect": problem.aspect, "reason": problem.reason}
            for problem in graph.problems
        ],
    }


def _node_json(node: Node) -> dict[str, Any]:
    return {
        "urn": node.urn,
        "kind": node.kind,
        "name": node.name,
        "note": node.note,
        "state": node.state,
        "description": node.description,
        "sections": [
            {
                "title": section.title,
                "head": list(section.head),
                "rows": [[_cell_json(cell) for cell in row] for row in section.rows],
            }
            for section in node.sections
        ],
        "sent": [
            {
                "change": proposal.change.value,
                "aspect": proposal.aspect,
                "body": json.loads(proposal.body),
            }
            for proposal in node.sent
        ],
    }


def _cell_json(cell: Cell) -> str | dict[str, str]:
    if isinstance(cell, str):
        return cell
    link = {"text": cell.text, "urn": cell.urn, "url": cell.url}
    return {name: value for name, value in link.items() if value is not None}
