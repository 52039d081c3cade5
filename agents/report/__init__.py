"""What was measured of a run, as one page."""
