"""Policies that practise in dreams."""
