"""Where machines come from: one folder per cloud, the same file names in each."""
