"""Effects around a run: its directory, checkpoints, journal, pictures, and the terminal."""
