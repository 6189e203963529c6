"""Training data, and what training loops use. `screens` needs none of it; the rest needs the extra `torch`."""
