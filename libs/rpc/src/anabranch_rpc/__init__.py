"""grpc.aio servers and channels with deadlines, health, reflection and typed errors."""
