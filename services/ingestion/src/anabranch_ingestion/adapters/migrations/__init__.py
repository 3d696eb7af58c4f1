"""Alembic revisions of ingestion's database, oldest first."""
