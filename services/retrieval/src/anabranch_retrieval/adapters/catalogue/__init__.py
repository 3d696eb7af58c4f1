"""The catalogue in a database: SQLite or PostgreSQL."""

from anabranch_retrieval.adapters.catalogue.store import MIGRATIONS, SCHEMA, SqlCatalogue

__all__ = ["MIGRATIONS", "SCHEMA", "SqlCatalogue"]
