"""Ways in: Kafka and gRPC."""
