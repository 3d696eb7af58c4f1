"""Worker processes that read one document at a time, with nothing to lose and nothing to reach."""
