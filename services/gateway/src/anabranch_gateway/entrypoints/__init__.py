"""Ways in: gRPC, HTTP, and the routing table from the bus."""
