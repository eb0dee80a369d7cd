"""Loaders: a file of any known format to one canonical text with its structure."""

from indexing.loaders.detection import detect_format
from indexing.loaders.pool import LoaderPool
from indexing.loaders.registry import LOADERS, load_file
from indexing.loaders.source import Loader, LoadLimits, SourceFile

__all__ = ["LOADERS", "LoadLimits", "Loader", "LoaderPool", "SourceFile", "detect_format", "load_file"]
