"""Kobayashi & Shouno (2020) on the shipped pair: `python reproductions/kobayashi2020.py [IMAGES] --to FOLDER`.

The same as `unitscope reproduce kobayashi2020`, which takes other networks, too.
"""

import sys

from unitscope.cli.app import main

if __name__ == "__main__":
    main(["reproduce", "kobayashi2020", *sys.argv[1:]])
