"""What feedback is, with no transport in sight."""
