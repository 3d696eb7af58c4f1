"""Alembic revisions of the evaluation database."""
