"""Alembic revisions of the catalogue."""
