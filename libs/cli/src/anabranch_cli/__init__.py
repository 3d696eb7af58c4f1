"""The anabranch command: start the platform, put documents in, ask, measure, mend."""
