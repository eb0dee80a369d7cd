"""What is asked of the passages: search, explanation, similar documents, labels, rerankers."""
