"""Rounds of collecting, learning and practising."""
