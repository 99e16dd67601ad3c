"""`plainmq bench`, its load generator, and the scripts in benchmarks/."""
