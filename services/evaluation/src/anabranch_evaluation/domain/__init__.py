"""What the service knows: golden sets, runs, gates, experiments and their statistics. No transport, no storage."""
