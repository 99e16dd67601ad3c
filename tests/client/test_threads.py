"""The client for threads: it is used, closed and interrupted from any of them."""

import gc
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from app import Client, Closed, Gap, Message, MessagesLost, NotFound, Published, Scheduled, Unreachable
from tests.harness import DEADLINE, ROOT, ServerProcess, free_port, start_server

T = TypeVar("T")


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


class Elsewhere(threading.Thread):
    """Does something in a thread of its own."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self.result: Any = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self._work()
        except Exception as error:
            self.result = error

    def done(self) -> Any:
        """What came of it."""
        self.join(DEADLINE)
        assert not self.is_alive(), "it hangs"
        return self.result


def until(condition: Callable[[], object]) -> None:
    """Ask anew until it is so; the test's own deadline is that of the servers."""
    while not condition():
        pass


def subscribed(client: Client, topic: str) -> bool:
    try:
        return client.topic(topic).subscribers > 0
    except NotFound:
        return False


# What it does


def test_a_message_goes_round(client: Client, topic: str) -> None:
    first = client.publish(topic, "grüße", event="e", ttl=timedelta(hours=1), content_type="text/x")
    second = client.publish(topic, b"\xff\0")
    assert isinstance(first, Published)
    text, binary = client.subscribe(topic, since="earliest", limit=2)
    assert (text.id, text.text, text.data, text.event, text.content_type) == (
        first.id, "grüße", "grüße".encode(), "e", "text/x",
    )  # fmt: skip
    assert (binary.id, binary.text, binary.data) == (second.id, None, b"\xff\0")
    assert client.message(topic, second.id) == b"\xff\0"
    with pytest.raises(NotFound):
        client.message(topic, f"{second.id}0")


def test_an_option_that_publish_does_not_have_is_no_silence(client: Client, topic: str) -> None:
    with pytest.raises(TypeError, match="no option 'evnt'"):
        client.publish(topic, "x", evnt="e")  # type: ignore[call-overload]


def test_a_page_is_read_once_and_leads_to_the_next(client: Client, topic: str) -> None:
    client.publish_batch(topic, [f"{number}" for number in range(5)])
    page = client.messages(topic, limit=3)
    assert (len(page), [message.json() for message in page], page.gap) == (3, [0, 1, 2], None)
    assert [message.json() for message in client.messages(topic, since=page.next)] == [3, 4]
    assert client.messages(topic, since="other-1").gap == Gap("other-1", "epoch", None, page.messages[0].id)


def test_a_long_poll_is_answered_by_the_first_message(client: Client, topic: str) -> None:
    page = Elsewhere(lambda: client.messages(topic, wait=20))
    until(lambda: client.publish(topic, "x").index >= 0 and not page.is_alive())
    assert page.done().messages[0].data == b"x"


@pytest.mark.parametrize("since", ["earliest", "1h", 3600, timedelta(hours=1), datetime(2020, 1, 1).astimezone()])
def test_a_place_may_be_said_in_python(client: Client, topic: str, since: Any) -> None:
    client.publish(topic, "x")
    (message,) = client.subscribe(topic, since=since, limit=1)
    assert message.data == b"x"


def test_several_topics_and_patterns_resume_behind_an_id(client: Client, topic: str) -> None:
    first = client.publish(f"{topic}.a", "1")
    client.publish(f"{topic}.b.c", "2")
    client.publish(f"{topic}.a", "3")
    messages = client.subscribe([f"{topic}.a", f"{topic}.b.*"], last_event_id=first.id, limit=2)
    assert [message.data for message in messages] == [b"2", b"3"]


def test_a_publish_can_be_delayed(client: Client, topic: str) -> None:
    answer = client.publish(topic, "x", delay=3600)
    assert isinstance(answer, Scheduled)
    assert client.topic(topic).delayed == 1


def test_topics_are_listed_changed_and_deleted(client: Client, topic: str) -> None:
    for name in ("a", "b"):
        client.publish(f"{topic}.{name}", "x")
    assert [state.topic for state in client.topics(f"{topic}.*")] == [f"{topic}.a", f"{topic}.b"]
    state = client.set_topic(f"{topic}.a", max_messages=7, max_age=timedelta(minutes=2))
    assert (state.retention.max_messages, state.retention.max_age) == (7, "2m")
    client.delete_topic(f"{topic}.a")
    with pytest.raises(NotFound):
        client.topic(f"{topic}.a")
    with pytest.raises(NotFound):
        client.delete_topic(f"{topic}.a")


def test_a_ticket_opens_a_stream(client: Client) -> None:
    assert len(client.ticket().ticket) > 40


# Restarts of the server


def test_over_restarts_with_a_file_nothing_is_lost_and_nothing_comes_twice(tmp_path: Path) -> None:
    port, told, gaps = free_port(), list[str](), list[Gap]()
    flags = ("--engine", f"sqlite:{tmp_path / 'log.db'}")
    with (
        Client(f"http://127.0.0.1:{port}", retry_for=DEADLINE, tell=told.append) as client,
        client.subscribe("foo", since="earliest", limit=30, on_gap=gaps.append) as messages,
    ):
        read: list[str] = []
        subscriber = Elsewhere(lambda: read.extend(message.data.decode() for message in messages))
        for life in range(3):
            with start_server(*flags, port=port, tcp_port=0) as server:
                for number in range(10):
                    client.publish("foo", f"{life}.{number}")
                until(lambda many=10 * (life + 1): len(read) >= many)  # type: ignore[misc]
                server.stop()
        subscriber.done()
    assert read == [f"{life}.{number}" for life in range(3) for number in range(10)]
    assert gaps == []
    assert told


def test_what_a_restart_without_a_file_lost_is_raised_and_the_iterator_goes_on() -> None:
    port = free_port()
    with Client(f"http://127.0.0.1:{port}", retry_for=DEADLINE, tell=list[str]().append) as client:
        with start_server(port=port, tcp_port=0) as server:
            client.publish("foo", "before")
            messages = client.subscribe("foo", since="earliest")
            assert next(messages).data == b"before"
            server.stop()
        with start_server(port=port, tcp_port=0), messages:
            after = client.publish("foo", "after")
            with pytest.raises(MessagesLost, match="epoch") as caught:
                next(messages)
            assert caught.value.gap.resumes_at == after.id
            assert next(messages).data == b"after"


# Threads


def test_many_threads_share_a_client(client: Client, topic: str) -> None:
    client.publish(topic, "start")
    with ThreadPoolExecutor(12) as pool:
        subscribers = [pool.submit(lambda: [*client.subscribe(topic, since="earliest", limit=81)]) for _ in range(4)]
        publishers = [pool.submit(lambda: [client.publish(topic, "x").index for _ in range(10)]) for _ in range(8)]
        places = sorted(place for publisher in publishers for place in publisher.result(DEADLINE))
        assert places == [*range(1, 81)]
        read: list[list[Message]] = [subscriber.result(DEADLINE) for subscriber in subscribers]
    assert read[0] == read[1] == read[2] == read[3]


def test_closing_ends_what_waits_in_other_threads(server: ServerProcess, topic: str) -> None:
    client = Client(server.url)
    reading = threading.Event()

    def read() -> list[Message]:
        messages = []
        for message in client.subscribe(topic):
            messages.append(message)
            reading.set()
        return messages

    subscriber = Elsewhere(read)
    poll = Elsewhere(lambda: client.messages(f"{topic}.none", wait="1m"))
    with Client(server.url) as other:
        until(lambda: reading.is_set() or not other.publish(topic, "x", retain=False))
    client.close()
    assert isinstance(subscriber.done(), list)
    assert isinstance(poll.done(), Closed)
    with pytest.raises(Closed):
        client.publish(topic, "x")
    client.close()


def test_a_call_that_waits_for_a_server_ends_when_the_client_is_closed() -> None:
    told = threading.Event()
    client = Client(f"http://127.0.0.1:{free_port()}", retry_for=3600, tell=lambda _: told.set())
    call = Elsewhere(lambda: client.publish("foo", "x"))
    assert told.wait(DEADLINE)
    client.close()
    assert isinstance(call.done(), Closed)


def test_one_iterator_is_closed_and_the_client_stays(client: Client, topic: str) -> None:
    messages = client.subscribe(topic, since="earliest")
    subscriber = Elsewhere(lambda: [message.data for message in messages])
    until(lambda: client.publish(topic, "x").subscribers)
    messages.close()
    assert set(subscriber.done()) <= {b"x"}
    until(lambda: not subscribed(client, topic))
    assert next(messages, None) is None
    assert client.publish(topic, "y").index > 0


def test_a_loop_that_is_left_lets_its_stream_go(client: Client, topic: str) -> None:
    client.publish(topic, "x")
    for message in client.subscribe(topic, since="earliest"):
        assert message.data == b"x"
        break
    gc.collect()
    until(lambda: not subscribed(client, topic))


def test_a_client_that_is_forgotten_takes_its_thread_along(server: ServerProcess, topic: str) -> None:
    def clients() -> int:
        return sum(thread.name == "plainmq client" for thread in threading.enumerate())

    before = clients()
    Client(server.url).publish(topic, "x")
    gc.collect()
    until(lambda: clients() <= before)


def test_a_client_that_does_nothing_starts_no_thread(server: ServerProcess) -> None:
    before = threading.active_count()
    with Client(server.url):
        assert threading.active_count() == before


def test_a_callback_cannot_call_the_client_itself() -> None:
    answers: list[Any] = []

    def tell(_: str) -> None:
        try:
            asking.publish("foo", "x")
        except RuntimeError as error:
            answers.append(str(error))

    asking = Client(f"http://127.0.0.1:{free_port()}", retry_for=0.01, tell=tell)
    with asking, pytest.raises(Unreachable):
        asking.publish("foo", "x")
    assert "cannot call the client" in answers[0]


# Processes


@contextmanager
def program(text: str, server: ServerProcess, topic: str) -> Iterator[subprocess.Popen[str]]:
    """A program of its own, and those that it starts; every warning is an error."""
    source = f"from app import *\nimport os, sys\nclient = Client({server.url!r})\ntopic = {topic!r}\n{text}"
    source = source.replace("import *", "import Client, Unreachable")
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", source],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )
    watchdog = threading.Timer(2 * DEADLINE, process.kill)
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


INTERRUPTED = """
try:
    for message in client.subscribe(topic):
        print(message.text, flush=True)
except KeyboardInterrupt:
    pass
while client.topic(topic).subscribers:
    pass
print("interrupted", client.publish(topic, "after").index)
"""


def test_ctrl_c_ends_an_iteration_at_once_and_the_client_stays(
    client: Client, server: ServerProcess, topic: str
) -> None:
    with program(INTERRUPTED, server, topic) as process:
        assert process.stdout
        until(lambda: client.publish(topic, "x").subscribers)
        assert process.stdout.readline() == "x\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=DEADLINE)
    assert out.splitlines()[-1].startswith("interrupted ")
    assert (err, process.returncode) == ("", 0)


SWALLOWED = 5.0  # seconds: Python drops a Ctrl-C that meets a callback of a weak reference, once in some thousand times
OFTEN = """
client.topic(topic)
for number in range(60):
    try:
        print("ready", flush=True)
        while True:
            for message in client.subscribe(topic, since="earliest", limit=1):
                client.topic(topic)
    except KeyboardInterrupt:
        pass
while client.topic(topic).subscribers:
    pass
print("done", flush=True)
"""


def test_ctrl_c_may_come_at_any_step(client: Client, server: ServerProcess, topic: str) -> None:
    client.publish(topic, "x")
    swallowed = 0
    with program(OFTEN, server, topic) as process:
        assert process.stdout
        while process.stdout.readline() == "ready\n":
            process.send_signal(signal.SIGINT)
            while not select.select([process.stdout], [], [], SWALLOWED)[0]:
                swallowed += 1
                process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=DEADLINE)
    assert (out, process.returncode) == ("", 0)
    assert err.count("Exception ignored in") == swallowed if swallowed else err == ""


UNCLOSED = """
client.publish(topic, "x")
messages = client.subscribe(topic, since="earliest")
print(next(messages).text)
"""


def test_a_program_that_ends_without_closing_says_nothing(server: ServerProcess, topic: str) -> None:
    with program(UNCLOSED, server, topic) as process:
        assert process.communicate(timeout=DEADLINE) == ("x\n", "")
    assert process.returncode == 0


FORKED = """
early = Client(client.url)  # has no thread yet
client.publish(topic, "parent")
child = os.fork()
if not child:
    try:
        client.publish(topic, "child")
    except RuntimeError as error:
        print("before a fork" in str(error), early.publish(topic, "child").index, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(client.publish(topic, "parent").index)
client.close()
"""


def test_after_a_fork_a_used_client_says_so_and_an_unused_one_works(server: ServerProcess, topic: str) -> None:
    with program(FORKED, server, topic) as process:
        assert process.communicate(timeout=DEADLINE) == ("True 1\n2\n", "")


@pytest.mark.parametrize("rest", ["rooms/42", "group/g", "pause"])
def test_a_topic_is_changed_whatever_other_path_its_name_looks_like(client: Client, topic: str, rest: str) -> None:
    name = f"{topic}/{rest}"
    assert client.set_topic(name, max_messages=7).topic == name
    assert client.topic(name).retention.max_messages == 7
    client.delete_topic(name)
    with pytest.raises(NotFound):
        client.topic(name)
