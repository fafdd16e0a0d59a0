"""How many machines: measured runs of a few processes, a simulation that is fed with them, and what follows for many."""
