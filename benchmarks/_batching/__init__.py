"""The parts of the benchmark of batchers. Those of the drivers need the standard library alone."""
