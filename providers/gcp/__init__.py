"""Compute Engine as a provider: the cloud itself deletes the machine at its hard deadline."""
