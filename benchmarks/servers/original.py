"""The original program, with the line protocol in Python literals: subscribe and send.

It does one write for each subscriber of each message.

python -m benchmarks.servers.original PORT
"""

import ast
import asyncio
import sys

subscribers: dict[str, list[asyncio.StreamWriter]] = {}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async for line in reader:
        if line.strip() == b"quit":
            break
        if not line.strip():
            continue
        command = ast.literal_eval(line.decode().strip())
        writers = subscribers.setdefault(command["topic"], [])
        if command["command"] == "subscribe":
            writers.append(writer)
        else:
            for subscriber in writers:
                subscriber.write(line)
    for writers in subscribers.values():
        if writer in writers:
            writers.remove(writer)
    writer.close()


async def main(port: int) -> None:
    async with await asyncio.start_server(serve, "127.0.0.1", port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
