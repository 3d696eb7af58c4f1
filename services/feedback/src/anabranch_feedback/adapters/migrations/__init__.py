"""Alembic revisions of the feedback database."""
