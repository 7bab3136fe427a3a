"""`python -m jaxgan`: says what there is to run."""

import sys

COMMANDS = """usage: python -m jaxgan.<command> [--help]

  python -m jaxgan.sample     draws images, of a run or of the weights that come along: python -m jaxgan.sample best
  python -m jaxgan.train      trains a GAN: python -m jaxgan.train
  python -m jaxgan.evaluate   says how good images are, of a run or of those weights
  python -m jaxgan.sweep      trains many at once, over seeds and fields
"""

if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1] not in ("-h", "--help"):
        print(f"jaxgan: error: commands follow a dot, as in python -m jaxgan.train, not {sys.argv[1]}", file=sys.stderr)
        sys.exit(2)
    print(COMMANDS, end="")
