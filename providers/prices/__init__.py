"""What machines cost: the dated offline table, and the loaders that ask the clouds."""
