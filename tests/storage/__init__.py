"""The SQLite engine: restarts, crashes, disk failures, retention and backups."""
