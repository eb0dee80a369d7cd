"""Texts made from chunks that lead to them: trees of summaries, expansions."""
