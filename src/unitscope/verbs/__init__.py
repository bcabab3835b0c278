"""The verbs of the command line, a file per chapter: what was typed is understood, done and told."""
