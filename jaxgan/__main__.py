"""`python -m jaxgan`: says what there is to run."""

DOORS = """usage: python -m jaxgan.<door> [--help]

  python -m jaxgan.sample     draws images, of a run or of the weights that come along: python -m jaxgan.sample best
  python -m jaxgan.train      trains a GAN: python -m jaxgan.train
  python -m jaxgan.evaluate   says how good images are, of a run or of those weights
  python -m jaxgan.sweep      trains many at once, over seeds and fields
"""

if __name__ == "__main__":
    print(DOORS, end="")
