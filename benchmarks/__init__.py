"""What is timed: each case against its peers, in turn, each in a process of its own (see `benchmarks.harness`)."""
