"""Repeat the dog study on photographs of one's own: `python reproductions/dogs.py FOLDER IMAGES [NETWORK...]`.

The same as `unitscope reproduce dogs IMAGES --to FOLDER --models NETWORK...`; without networks, on the shipped pair.
"""

import sys

from unitscope.cli.app import main

if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    folder, images, *networks = sys.argv[1:]
    main(["reproduce", "dogs", images, "--to", folder, *(["--models", *networks] if networks else [])])
