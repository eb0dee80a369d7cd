"""Nodes: texts that are found and lead to chunks, and are never cited or shown as a source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NewType

from indexing.types import ChunkId, DocumentId, stable_id, text_hash

NodeId = NewType("NodeId", int)

NodeKind = Literal["summary", "question", "expansion"]
NODE_KINDS: tuple[NodeKind, ...] = ("summary", "question", "expansion")

NO_DOCUMENT = 0
"""In an index of nodes, the document of a node that rests on several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A text that rests on chunks, on other nodes, or on both; level 1 rests on chunks alone.

    `model` says what wrote the text. `document_id` is there where every leaf is of that document.
    """

    kind: NodeKind
    text: str
    chunks: tuple[ChunkId, ...] = ()
    nodes: tuple[NodeId, ...] = ()
    level: int = 1
    document_id: DocumentId | None = None
    model: str = ""

    @property
    def id(self) -> NodeId:
        """Depends on kind, model, text and children alone, so that a step run twice writes the same row."""
        children = [*(f"c{key}" for key in self.chunks), *(f"n{key}" for key in self.nodes)]
        return NodeId(stable_id("node", self.kind, self.model, self.text, *children))

    @property
    def text_hash(self) -> str:
        """The key of the text's kept vector."""
        return text_hash(self.text)
