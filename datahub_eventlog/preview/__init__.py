"""A run's proposals as a picture: one page that opens offline."""

from datahub_eventlog.preview.document import page
from datahub_eventlog.preview.graph import Edge, Graph, Node, graph_of

__all__ = ["Edge", "Graph", "Node", "graph_of", "page"]
