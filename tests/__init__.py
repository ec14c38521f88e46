"""The tests; a package so that they can share vectors, memory and the simulator."""
