"""The program that it all began with: subscribe and send, as Python literals.
A write for each subscriber of each message.

python -m benchmarks.servers.original PORT
"""

import ast
import asyncio
import sys

listeners: dict[str, list[asyncio.StreamWriter]] = {}


async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async for line in reader:
        if line.strip() == b"quit":
            break
        if not line.strip():
            continue
        said = ast.literal_eval(line.decode().strip())
        here = listeners.setdefault(said["topic"], [])
        if said["command"] == "subscribe":
            here.append(writer)
        else:
            for listener in here:
                listener.write(line)
    for here in listeners.values():
        if writer in here:
            here.remove(writer)
    writer.close()


async def main(port: int) -> None:
    async with await asyncio.start_server(talk, "127.0.0.1", port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
