"""Real Kafka, Weaviate and PostgreSQL for tests, started once a run."""
