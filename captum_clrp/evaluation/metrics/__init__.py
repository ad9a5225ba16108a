"""The metrics, one in each file."""
