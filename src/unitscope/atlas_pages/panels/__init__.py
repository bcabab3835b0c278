"""What the chapters beyond the survey add to an atlas: a file per panel. `panel_registry.py` says what a panel is."""
