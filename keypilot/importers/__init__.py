"""Weights that people have, from local files: Hugging Face folders, timm checkpoints, and the encoder's own.

`keypilot compile` is the way to all of these; docs/importing.md lists what is read.
"""
