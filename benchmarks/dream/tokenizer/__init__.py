"""Tokenizers of every rate beside JPEG and H.264 at the same bytes."""
