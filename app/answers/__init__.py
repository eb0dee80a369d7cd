"""From a question to an answer with checked footnotes, or to saying that the sources are silent."""
