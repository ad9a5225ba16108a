"""What happens in a run: the loop, the processes that share it, what is shown and written down meanwhile."""
