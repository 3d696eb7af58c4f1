"""What ingestion's ports are made of."""
