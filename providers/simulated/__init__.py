"""A cloud in the memory of one process: for tests and simulations, and to try things without an account."""
