"""SQLAlchemy engines, migrations, inbox and outbox."""
