"""Alembic revisions of training's database."""
