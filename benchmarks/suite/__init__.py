"""The benchmark suite: what is measured, in which order and time, how figures come about, and the report."""
