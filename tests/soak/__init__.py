"""A long run under mixed load, which checks that nothing leaks and that no message is lost."""
