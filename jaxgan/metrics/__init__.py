"""How good samples are: pure functions of images and features, and the networks that make features."""
