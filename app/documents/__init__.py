"""A document's life: taken in, ingested, deleted with a receipt."""
