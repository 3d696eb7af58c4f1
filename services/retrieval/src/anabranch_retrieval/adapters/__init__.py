"""What the service stands on: two indexes, a database, the embedding service."""
