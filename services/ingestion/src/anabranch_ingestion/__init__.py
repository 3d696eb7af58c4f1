"""Documents: parse, clean, chunk, deduplicate, versions, deletes, provenance."""
