"""The GraphQL queries of Dagster's UI, read from the scripts of the installed webserver."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from graphql import (
    DefinitionNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLSyntaxError,
    NonNullTypeNode,
    OperationDefinitionNode,
    OperationType,
    Visitor,
    parse,
    print_ast,
    visit,
)

# In the scripts, documents are string literals that have these words.
_LITERAL = re.compile(r'"((?:[^"\\]|\\.)*?\b(?:query|fragment) \w+(?:[^"\\]|\\.)*)"')


def document(name: str) -> str:
    """The query of that name with all fragments that it needs."""
    found = _definitions()
    needed, todo = [name], [name]
    while todo:
        for each in _spreads(found[todo.pop()]):
            if each not in needed:
                needed.append(each)
                todo.append(each)
    return "\n".join(print_ast(found[each]) for each in needed)


def names() -> list[str]:
    """Of all queries that are found whole."""
    found = _definitions()
    return sorted(name for name, each in found.items() if _is_query(each) and _is_whole(each))


def _is_whole(definition: DefinitionNode) -> bool:
    found = _definitions()
    return all(each in found and _is_whole(found[each]) for each in _spreads(definition))


def variables(name: str) -> dict[str, bool]:
    """The names of a query's variables, and whether it needs them."""
    query = _definitions()[name]
    assert isinstance(query, OperationDefinitionNode)
    return {
        each.variable.name.value: isinstance(each.type, NonNullTypeNode)
        for each in query.variable_definitions or ()
    }


def _is_query(definition: DefinitionNode) -> bool:
    if not isinstance(definition, OperationDefinitionNode):
        return False
    return definition.operation is OperationType.QUERY


class _Spreads(Visitor):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def enter_fragment_spread(self, node: FragmentSpreadNode, *_: object) -> None:
        self.names.append(node.name.value)


def _spreads(definition: DefinitionNode) -> list[str]:
    visitor = _Spreads()
    visit(definition, visitor)
    return visitor.names


@cache
def _definitions() -> dict[str, DefinitionNode]:
    found: dict[str, DefinitionNode] = {}
    for literal in _literals():
        try:
            parsed = parse(literal)
        except GraphQLSyntaxError:
            continue
        for each in parsed.definitions:
            if isinstance(each, OperationDefinitionNode | FragmentDefinitionNode) and each.name:
                found[each.name.value] = each
    assert found, "the webserver's scripts have no queries: has their format changed?"
    return found


def _literals() -> Iterator[str]:
    spec = find_spec("dagster_webserver")
    assert spec is not None
    assert spec.origin is not None
    for script in Path(spec.origin).parent.joinpath("webapp", "build").rglob("*.js"):
        for literal in _LITERAL.findall(script.read_text(errors="replace")):
            yield literal.replace("\\n", "\n").replace('\\"', '"')
