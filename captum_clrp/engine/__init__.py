"""What happens in a call, unseen by users: the model runs under a trace, and relevance rides back on autograd."""
