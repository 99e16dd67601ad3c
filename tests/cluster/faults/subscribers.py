"""Subscribers to all topics, from the beginning of the log. After each lost connection they resume at the next node."""

import asyncio
import json
from contextlib import suppress
from typing import Final

from tests.cluster.faults.cluster import Cluster
from tests.cluster.faults.publishers import LOST, PAUSE
from tests.event_stream import stream
from tests.ledgers.cluster import ClusterLedger, Reader
from tests.line_client import lines

END: Final = "end 0"  # the last body


class Subscriber:
    def __init__(self, cluster: Cluster, ledger: ClusterLedger, name: str, at: int) -> None:
        self.cluster, self.ledger, self.at = cluster, ledger, at
        self.reader = Reader(name)

    async def run(self) -> None:
        while self.reader.last != END:
            with suppress(*LOST):
                await self.read()
            self.at += 1
            await asyncio.sleep(PAUSE)

    async def read(self) -> None:
        """One connection, until END."""
        raise NotImplementedError

    def received(self, id: str, topic: str, body: str) -> bool:
        """Whether it is not the last one."""
        self.ledger.read(self.reader, id, topic, body)
        return body != END


class StreamSubscriber(Subscriber):
    _place = ""

    async def read(self) -> None:
        path = "/topics/**/stream?format=json&since=earliest"
        async with stream(self.cluster.at(self.at).server, path, Last_Event_ID=self._place) as events:
            while event := await events.next():
                if event.type == "gap":
                    self.ledger.told_of_gap(self.reader)
                elif event.type == "message":
                    self._place = event.last_event_id
                    record = json.loads(event.data)
                    if not self.received(record["id"], record["topic"], record["data"]):
                        return


class LineSubscriber(Subscriber):
    _place = "earliest"

    async def read(self) -> None:
        async with lines(self.cluster.at(self.at).server) as peer:
            peer.send(f"sub ** {self._place}")
            while line := (await peer.next()).decode():
                verb, *rest = line.rstrip("\r\n").split(" ", 3)
                if verb == "GAP":
                    self.ledger.told_of_gap(self.reader)
                elif verb == "MSG":
                    topic, self._place, body = rest
                    if not self.received(self._place, topic, body):
                        return
                else:
                    assert verb in {"OK", "BYE"} or "storage_failed" in line, line
