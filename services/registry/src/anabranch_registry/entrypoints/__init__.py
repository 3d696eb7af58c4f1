"""Ways in and out: gRPC, and the routing topic."""
