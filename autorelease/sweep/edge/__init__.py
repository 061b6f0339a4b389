"""Where a sweep meets threads, signals and other processes: workers, the wish to stop, one at a time."""
