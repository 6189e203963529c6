"""Training data, and what training loops use. Needs the extra `torch` only where a module says so."""
