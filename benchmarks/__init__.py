"""What eventray does, timed against baselines in the same run: `make bench`."""
