"""What the registry stands on: its database."""
