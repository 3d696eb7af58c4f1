"""Kafka: batches in, a fate per record, effects before commits."""
