"""Use cases of ingestion, and the ports they need; no transport, no files, no database in sight."""
