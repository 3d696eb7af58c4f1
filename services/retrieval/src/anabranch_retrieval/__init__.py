"""The index: hybrid search, index versions, alias swap."""
