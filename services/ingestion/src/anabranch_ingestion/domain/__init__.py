"""What a document is, how its text is cut, and what happens to its versions; no transport, no files, no libraries."""
