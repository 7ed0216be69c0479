"""What the tools, the demo, the system tests and the benchmarks share. Python 3 standard library only."""
