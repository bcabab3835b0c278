"""What the chapters beyond the survey add to an atlas: a file per panel. `panelion.py` says what one is."""
