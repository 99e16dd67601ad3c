"""The tests. A folder here tests the folder of `app` with the same name; the other folders test several together."""
