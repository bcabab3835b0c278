"""What the chapters beyond the survey add to an atlas: a file per exhibit. `exhibition.py` says what one is."""
