"""Cuts a loaded text into chunks that fit the encoder's window."""

from indexing.chunking.chunker import Chunker
from indexing.chunking.spec import ChunkerSpec

__all__ = ["Chunker", "ChunkerSpec"]
