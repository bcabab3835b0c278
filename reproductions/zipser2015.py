"""Repeat zipser2015 on networks of one's own: `python reproductions/zipser2015.py FOLDER [NETWORK...]`.

The same as `unitscope reproduce zipser2015 --to FOLDER --models NETWORK...`; without networks, on the shipped pair.
"""

import sys

from unitscope.cli.app import main

if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    folder, *networks = sys.argv[1:]
    main(["reproduce", "zipser2015", "--to", folder, *(["--models", *networks] if networks else [])])
