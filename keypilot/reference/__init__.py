"""The encoder in ordinary PyTorch: what the C core is compared with. Needs the extra `torch`."""
