"""Where the rules come from."""
