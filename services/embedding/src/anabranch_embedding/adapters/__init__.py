"""What embedding stands on: models in this process, and models behind HTTP."""
