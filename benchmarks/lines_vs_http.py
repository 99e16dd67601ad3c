"""What a publish costs the server by each door: pipelined JSON lines against HTTP POST on keep-alive connections.

    python -m benchmarks.lines_vs_http [--messages N] [--connections N] [--rounds N] [--size BYTES]

Starts `plainmq serve`, with no readers, and publishes the same messages by each door in turn. The figure is messages
per second of the server's CPU time, all its threads, so the cost of this generator does not count.
"""

import argparse
import socket
import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.harness import DEADLINE, ServerProcess, start_server

WINDOW = 500  # lines sent before their answers are read
DONE = b'{"success": true}\r\n'

Publisher = Callable[[socket.socket, int, str], None]


def publish_lines(sock: socket.socket, count: int, text: str) -> None:
    line = b'{"command":"send","topic":"foo","msg":"%b","delivery":"all"}\n' % text.encode()
    for first in range(0, count, WINDOW):
        window = min(WINDOW, count - first)
        sock.sendall(line * window)
        answers = receive(sock, window * len(DONE))
        if answers != DONE * window:
            raise SystemExit(f"a send was refused: {answers[:200]!r}")


def receive(sock: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        parts.append(sock.recv(min(size, 1 << 16)))
        if not parts[-1]:
            raise SystemExit("the server has closed")
        size -= len(parts[-1])
    return b"".join(parts)


def publish_http(sock: socket.socket, count: int, text: str) -> None:
    body = text.encode()
    head = f"POST /topics/foo/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    request = head.encode() + body
    for _ in range(count):
        sock.sendall(request)
        receive_answer(sock)


def receive_answer(sock: socket.socket) -> None:
    """One answer, head and body, which the server sends with a Content-Length."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += receive_some(sock)
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 201 "):
        raise SystemExit(f"a publish was refused: {answer[:200]!r}")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += receive_some(sock)


def receive_some(sock: socket.socket) -> bytes:
    data = sock.recv(1 << 16)
    if not data:
        raise SystemExit("the server has closed")
    return data


def cpu_seconds(pid: int) -> float:
    """CPU time of the process, all its threads, to the nanosecond (proc(5), schedstat)."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def measure(server: ServerProcess, publish: Publisher, socks: list[socket.socket], count: int, text: str) -> float:
    """Messages per second of the server's CPU time, when each connection publishes `count` of them."""
    with ThreadPoolExecutor(len(socks)) as pool:
        begin = cpu_seconds(server.process.pid)
        for future in [pool.submit(publish, sock, count, text) for sock in socks]:
            future.result()
        return count * len(socks) / (cpu_seconds(server.process.pid) - begin)


def connect(server: ServerProcess, port: int, count: int) -> list[socket.socket]:
    socks = [socket.create_connection((server.host, port), timeout=DEADLINE) for _ in range(count)]
    for sock in socks:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return socks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=50_000, help="by JSON lines in a round; a fifth of it by HTTP")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=15, help="short ones, since the machine may have other work")
    parser.add_argument("--size", type=int, default=64, help="bytes in a message")
    options = parser.parse_args()
    text = "x" * options.size
    share = options.messages // options.connections
    lines: list[float] = []
    http: list[float] = []
    with start_server() as server:
        line_socks = connect(server, server.tcp_port, options.connections)
        http_socks = connect(server, server.port, options.connections)
        for _ in range(options.rounds + 1):
            lines.append(measure(server, publish_lines, line_socks, share, text))
            http.append(measure(server, publish_http, http_socks, share // 5, text))
        for sock in (*line_socks, *http_socks):
            sock.close()
    report(lines[1:], http[1:])  # the first round warms up


def report(lines: list[float], http: list[float]) -> None:
    print("messages per server-CPU-second       best     median")  # noqa: T201
    for name, figures in (("JSON lines, pipelined", lines), ("HTTP POST, keep-alive", http)):
        print(f"  {name:28s} {max(figures):10,.0f} {statistics.median(figures):10,.0f}")  # noqa: T201
    best, median = max(lines) / max(http), statistics.median(lines) / statistics.median(http)
    print(f"  {'ratio':28s} {best:10.2f} {median:10.2f}")  # noqa: T201


if __name__ == "__main__":
    main()
