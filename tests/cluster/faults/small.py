"""`python -m tests.cluster.faults.small`: plainmq whose nodes keep few entries in memory, and make snapshots often."""

from unittest.mock import patch

from app.cli import main
from app.storage.replicated import snapshots
from app.storage.replicated.recent import RecentEntries

if __name__ == "__main__":
    few = patch.object(RecentEntries.__init__, "__defaults__", (10_000,))  # bytes
    with patch.object(snapshots, "SNAPSHOT_ENTRIES", 100), few:
        main()
