"""Which contrast? Duals, strengths and settings against each other and against other methods, by several metrics."""
