"""The command line: `app.py` is the program, and each verb has a file of its name."""
