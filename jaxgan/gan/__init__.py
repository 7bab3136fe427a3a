"""Pure functions of arrays: networks, objectives, batches, updates. No I/O, clock, globals or printing."""
