"""The contract of storage engines: each test runs on every engine, with a clock that the test moves."""
