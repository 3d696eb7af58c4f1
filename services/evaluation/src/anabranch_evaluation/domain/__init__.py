"""What the service knows about, with no transport in sight."""
