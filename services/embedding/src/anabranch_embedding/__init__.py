"""Text to unit vectors: chunks from Kafka, queries over gRPC, several embedding versions at once. See README.md."""
