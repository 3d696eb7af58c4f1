"""What `anabranch up` runs: Kafka, Weaviate and the services as processes."""
