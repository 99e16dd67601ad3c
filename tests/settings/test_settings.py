"""Every setting has bounds, and what cannot work is refused with a sentence, wherever it is written."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

import httpx
import pytest

from app.settings import CLIENT_VARIABLES, OPTIONS, SettingInvalid, Settings, flag, load, named, variable
from app.settings.size_rules import MAX_EXPANSION, MESSAGE_OVERHEAD
from app.settings.values import Range
from tests import forked
from tests.harness import DEADLINE, ROOT, start_server

NONSENSE = [
    "",
    "-1",
    "nonsense",
    "1e9",
    "0x10",
    "1.5.5s",
    "9" * 30,
    "9" * 12 + "d",
    "999999999999GiB",
    "nan",
    "∞",
    "\x1b[2J",
]
RANGES = {option.name: option for option in OPTIONS if isinstance(option.metadata["values"], Range)}
CHOICES = {option.name: option for option in OPTIONS if "|" in option.metadata["values"].kind}
CLEAN = {name: value for name, value in os.environ.items() if not name.upper().startswith("PLAINMQ_")}


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return forked.run(
        [sys.executable, "-m", "app", *arguments], cwd=folder, timeout=DEADLINE,
        env=CLEAN | {"PYTHONPATH": str(ROOT), "HOME": str(folder)} | variables, encoding="utf-8",
        errors="replace",
    )  # fmt: skip


def assert_is_a_sentence(said: subprocess.CompletedProcess[str], *words: str) -> None:
    assert said.returncode == 1, said
    assert said.stderr.count("Error: ") == 1
    assert "Traceback" not in said.stderr
    assert not re.search(r"`(int|str|float|enum|bool)`|enum", said.stderr)
    for word in words:
        assert word in said.stderr


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but those of the test."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("PLAINMQ_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize("name", [*RANGES, *CHOICES])
def test_nonsense_is_refused_with_what_is_expected(name: str) -> None:
    for text in NONSENSE:
        with pytest.raises(SettingInvalid) as caught:
            load({name: text})
        sentence = str(caught.value)
        assert flag(name) in sentence
        assert variable(name) in sentence
        assert ": expected " in sentence
        assert sentence.isprintable()


@pytest.mark.parametrize("name", RANGES)
def test_a_value_just_outside_its_bounds_is_refused(name: str) -> None:
    values = RANGES[name].metadata["values"]
    lowest, highest = values.allowed.split(" to ")
    kind = type(values.read(highest))
    beyond = [kind(values.read(highest) * 1.001 + 1)] + ([kind(0)] if values.read(lowest) else [])
    for value in beyond:
        with pytest.raises(SettingInvalid, match=re.escape(f"from {lowest} to {highest}")):
            Settings(**{name: value})


@pytest.mark.parametrize("engine", ["memory", "sqlite:log.db"])
@pytest.mark.parametrize("bound", ["lowest", "highest"])
def test_a_server_works_with_every_setting_at_its_bound(bound: str, engine: str, tmp_path: Path) -> None:
    """All at once; but the ports, workers of these engines, and a floor that is more than a disk has."""
    place = 0 if bound == "lowest" else 1
    chosen = {name: option.metadata["values"].allowed.split(" to ")[place] for name, option in RANGES.items()}
    for name in ("port", "tcp_port", "workers"):
        del chosen[name]
    if bound == "highest":
        del chosen["min_free_disk"]
    flags = [word for name, value in chosen.items() for word in (flag(name), value)]
    engine = engine.replace(":", f":{tmp_path}/")
    with start_server(*flags, "--data-dir", str(tmp_path), "--engine", engine) as server:
        with httpx.Client(base_url=server.url, timeout=DEADLINE) as client:
            assert any(
                _goes_through(client) for _ in range(100)
            )  # what is kept for 100ms may be gone before it is read
        assert server.stop() == 0


def _goes_through(client: httpx.Client) -> bool:
    assert client.post("/topics/a/messages", content=b"x").status_code == 201
    return "data: x" in client.get("/topics/a/stream", params={"since": "last:1", "limit": 1}).text


SMALL_WINDOW: Final = (socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 15)
"""What a small send buffer holds fills it, and so is acknowledged when it is read, and not 40 ms later."""


@pytest.mark.parametrize("engine", ["memory", "sqlite:log.db"])
def test_with_stores_as_small_as_they_may_be_the_largest_message_goes_through(engine: str, tmp_path: Path) -> None:
    """Whatever may stand beside its bytes, and however much longer it is as it goes out."""
    message = 2 << 20
    least = 2 * message + MESSAGE_OVERHEAD
    small = {"max_message": message, "max_total_bytes": least, "max_disk_bytes": least, "max_batch": message}
    small |= {
        "max_unfinished": message,
        "max_line": message,
        "max_unsent": MAX_EXPANSION * message,
        "send_buffer": 1 << 10,
    }
    flags = [word for name, value in small.items() for word in (flag(name), str(value))]
    with start_server(*flags, "--engine", engine.replace(":", f":{tmp_path}/"), "--data-dir", str(tmp_path)) as server:
        for query in ("", "?ttl=1h", "?delivery=one&ttl=1h"):
            quick = httpx.HTTPTransport(socket_options=[SMALL_WINDOW])
            with httpx.Client(base_url=server.url, timeout=DEADLINE, transport=quick) as client:
                client.put("/topics/a/groups/g", json={"max_deliveries": 1}).raise_for_status()
                client.post(f"/topics/a/messages{query}", content=b"\n" * message).raise_for_status()
                if "one" in query:
                    assert client.get("/topics/a/stream", params={"limit": 1}).text.count("data: ") == message + 1
                else:
                    _is_read_worked_on_and_dead(client, message)


def _is_read_worked_on_and_dead(client: httpx.Client, message: int) -> None:
    streamed = client.get("/topics/a/stream", params={"since": "last:1", "limit": 1})
    assert streamed.text.count("data: ") == message + 1
    [read] = client.get("/topics/a/messages").json()["messages"]
    [lease] = client.post("/topics/a/groups/g/pull").json()["messages"]
    assert len(read["data"]) == len(lease["data"]) == message
    client.post("/topics/a/groups/g/nack", json={"ids": [lease["id"]]}).raise_for_status()
    client.delete("/topics/a").raise_for_status()
    [dead] = client.get("/topics/a.dead/messages").json()["messages"]
    assert len(dead["data"]) == message
    client.delete("/topics/a.dead").raise_for_status()


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--max-total-bytes", "2MiB"], "--max-message of 1MiB"),
        (["--max-disk-bytes", "2MiB"], "--max-message of 1MiB"),
        (["--max-unsent", "16MiB", "--max-message", "4MiB"], "at least 32MiB"),
        (["--max-unfinished", "8MiB"], "--max-batch of 16MiB"),
        (["--max-unfinished", "1MiB", "--max-batch", "1MiB"], "--max-line of 1536KiB"),
        (["--engine", "sqlite:log.db", "--min-free-disk", "16384GiB"], "--min-free-disk"),
        (["--auth", "none", "--jwt-keys", "HS256:key"], "--jwt-keys"),
        (["--auth", "none", "--tokens", "x"], "--tokens"),
        (["--jwt-audience", "x"], "--jwt-keys"), (["--jwt-issuer", "x"], "--jwt-keys"),
    ],
)  # fmt: skip
def test_settings_that_contradict_each_other_are_refused(flags: list[str], word: str, tmp_path: Path) -> None:
    assert_is_a_sentence(run(tmp_path, "serve", "--port", "0", "--tcp-port", "0", *flags), word)
    assert not [*tmp_path.iterdir()]


def test_a_key_can_sign_for_an_audience_on_a_machine_that_checks_nothing(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"x" * 32)
    key.chmod(0o600)
    made = run(tmp_path, "token", "a", "--all", "--key", f"HS256:{key}", PLAINMQ_JWT_AUDIENCE="mq")
    assert made.stdout.count(".") == 2


def test_a_data_directory_that_is_none_or_cannot_be_written_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder, word in (("file", "expected a folder"), ("file/below", "expected a folder"), ("/proc/x", "written")):
        flags = ("--port", "0", "--tcp-port", "0", "--data-dir", folder, "--engine", "sqlite:new/log.db")
        assert_is_a_sentence(run(tmp_path, "serve", *flags), "--data-dir", word)
    assert [*tmp_path.iterdir()] == [tmp_path / "file"]


def test_an_error_about_a_path_at_the_root_names_the_one_in_this_folder(tmp_path: Path) -> None:
    name = "x" * 300  # longer than a name can be, also for root
    said = run(tmp_path, "serve", "--port", "0", "--tcp-port", "0", "--engine", f"sqlite:///{name}")
    assert_is_a_sentence(said, f"(/{name} begins at the root of the file system; sqlite:{name} is in this folder)")


def test_a_new_log_is_reported_with_its_path_and_an_old_one_is_not(tmp_path: Path) -> None:
    for new in (True, False):
        file = tmp_path / "deep" / "log.db"
        with start_server("--engine", f"sqlite:{file}", tcp_port=0) as server:
            assert (f"a new log begins, for there was none file={file}" in server.banner) is new


WRONG_TEXTS = {
    "host": ["", "http://localhost", "localhost:8000", "[::1]", "a b", "127.0.0.1,::1", "x" * 300, " ", "::1 ",
             "a..b", ".a", "a" * 64, "1" * 64, "::1%", ":::"],
    "public_url": ["mq.example.org", "ftp://example.org", "https://", "https:///x", "https://a/b?c", "https://a b",
                   "https://x:0", "https://x:99999", "https://a..b", "https://[::1::]", "https://[a]",
                   "https://1.2.3.400", "https://x:", " ", "https://u:pw@x", "https://u@x", "https://@x",
                   "https://a/../b", "https://a/..", "https://a/./b/", "https://a/b/.."],
    "allowed_hosts": ["https://x/", "x:8000", "x/", "*.example.org", "example.org.", "a, b:1", "münchen.de", "a@b",
                      "a..b", ".a", "-a", "a-.b", " ", ",", " a", "a ", "10.0.0.999", "x" * 64,
                      ".".join(["a" * 60] * 5), "exa mple", "a, b c"],
    "allowed_origins": ["example.org", "https://x/", "https://x:443", "http://x:80", "https://*.x", "https://x/y",
                        "https://ü.de", "https://x:0", "https://x:99999", "https://x:08080", "https://a..b", "https://[1]",
                        "https://u@x", " ", ",", "null", "https://a, null", "https://a https://b"],
    "trusted_proxies": [" ", ",", "10.0.0.1\n"], "jwt_keys": [" ", ", ,"],
    "tokens": ["a\x00b", "a\nb"], "data_dir": ["\x07", " ", "x "],
    "jwt_audience": ["\r", " x", "x "], "jwt_issuer": [" "], "tls_cert": [" "], "tls_key": [" "],
    "engine": [" ", "memory "],
}  # fmt: skip


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in WRONG_TEXTS.items() for text in texts])
def test_a_text_that_could_never_match_is_refused(name: str, text: str) -> None:
    for setting in (name, "tcp_host") if name == "host" else (name,):
        with pytest.raises(SettingInvalid, match=re.escape(variable(setting))):
            load({setting: text})


RIGHT_TEXTS = {
    "host": ["127.0.0.1", "0.0.0.0", "::", "::1", "fe80::1%eth0", "localhost", "my-machine.example.org", "a_b"],
    "public_url": ["", "https://mq.example.org", "https://a/b", "https://a/...", "https://a/.b/..c",
                   "http://10.0.0.1:8000/", "HTTPS://MQ.example.org", "https://[::1]:8443"],
    "allowed_hosts": ["", "*", "mq.example.org", "a, B.example.org,c", "xn--mnchen-3ya.de", "192.168.0.1", "my_host"],
    "allowed_origins": ["", "*", "https://example.org, http://localhost:3000", "http://x:443", "https://[::1]:3000",
                        "chrome-extension://abcdefghijklmnop", "capacitor://localhost", "https://xn--mnchen-3ya.de"],
}  # fmt: skip


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in RIGHT_TEXTS.items() for text in texts])
def test_a_text_that_can_match_is_taken(name: str, text: str) -> None:
    assert getattr(load({name: text}), name) == text


@pytest.mark.parametrize(
    ("larger", "size"),
    [("max_bytes", "1000"), ("max_unfinished", "2KiB"), ("max_total_bytes", "1MiB"), ("max_disk_bytes", "1MiB")],
)
def test_what_has_to_hold_a_message_is_as_large_as_one(larger: str, size: str) -> None:
    with pytest.raises(SettingInvalid, match=f"^{flag(larger)} .* is .* for a --max-message of 1MiB"):
        load({larger: size})


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--keep-alive", "0"], "50ms"), (["--send-buffer", "9GiB"], "1GiB"),
        (["--allowed-hosts", "https://x/"], "names"),
        (["--port", "http"], "whole number"), (["--auth", "requierd"], "required"),
        (["--engine", "sqlite"], "sqlite:///"),
        (["--host", "no.such.name.invalid"], "no.such.name.invalid"), (["--data-dir", "\n"], "one line"),
        (["--trusted-proxies", "everybody"], "--trusted-proxies"),
        (["--trusted-proxies", "10.0.0.1/8"], "10.0.0.0/8 for the network, or 10.0.0.1 for that address"),
        (["--tls-cert", "/no/such"], "/no/such"),
        (["--tokens", "/"], "/"), (["--jwt-keys", "HS256:/"], "/"),
        (["--auth", "required", "--data-dir", "/dev/null/x"], "/dev/null/x"),
    ],
)  # fmt: skip
def test_a_server_that_cannot_work_says_why_in_one_sentence(flags: list[str], word: str, tmp_path: Path) -> None:
    assert_is_a_sentence(run(tmp_path, "serve", "--port", "0", "--tcp-port", "0", *flags), word)


@pytest.mark.parametrize(
    "wrong", [{"PLAINMQ_AUHT": "x"}, {"PLAINMQ_KEEP_ALIVE": "0"}, {"PLAINMQ_TRUSTED_PROXIES": "x"}]
)
def test_under_another_server_it_is_the_same_sentence(wrong: dict[str, str], tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "uvicorn", "app.main:app", "--port", "0"], cwd=tmp_path, capture_output=True, text=True,
        timeout=DEADLINE, env=CLEAN | {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)} | wrong, check=False,
    )  # fmt: skip
    assert said.returncode == 3  # which tells a server of several workers that another start would fail too
    assert "Traceback" not in said.stderr
    assert run(tmp_path, "serve", **wrong).stderr.partition("Error: ")[2].strip() in said.stderr.replace('\\"', '"')


# A current folder that was deleted


RELATIVE = {
    "tls_cert": "c.pem", "tls_key": "k.pem", "tokens": "tokens", "data_dir": "data", "jwt_keys": "RS256:/a, HS256:key",
    "engine": "sqlite:log.db",
}  # fmt: skip


@pytest.fixture
def deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder."""
    folder = tmp_path / "deleted"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    return folder


@pytest.mark.parametrize(("name", "value"), RELATIVE.items())
@pytest.mark.usefixtures("deleted")
def test_a_relative_path_in_a_deleted_folder_is_refused(name: str, value: str) -> None:
    with pytest.raises(SettingInvalid, match=rf"^{re.escape(named(name))}: .* current folder, which no longer exists"):
        load({name: value, "tls_cert": "/c.pem"} | {name: value})


@pytest.mark.usefixtures("deleted")
def test_a_server_works_in_a_deleted_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "app", "serve", "--port", "0", "--tcp-port", "0"]
    with subprocess.Popen(
        [*command, "--engine", f"sqlite:{tmp_path}/log.db"], env=CLEAN | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stderr
            assert any("  subscribe" in line for line in process.stderr)
        finally:
            process.kill()


@pytest.mark.parametrize(
    "command",
    [
        ["serve", "--engine", "sqlite:log.db"], ["serve", "--data-dir", "data"],
        ["token", "a", "--all", "--tokens", "t"], ["token", "a", "--all", "--engine", "sqlite:log.db"],
        ["backup", "/x", "--engine", "sqlite:log.db"], ["backup", "copy", "--engine", "sqlite:/x"],
        ["restore", "copy", "--engine", "sqlite:/x"], ["restore", "/x", "--engine", "sqlite:log.db"],
    ],
)  # fmt: skip
@pytest.mark.usefixtures("deleted")
def test_a_command_in_a_deleted_folder_says_which_path_it_cannot_find(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app", *command], capture_output=True, text=True, timeout=DEADLINE, check=False,
        env=CLEAN | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode in {1, 2}
    assert "Traceback" not in done.stderr
    assert re.search(
        r"Error: .*(log\.db|data|t|copy) starts in the current folder, which no longer exists", done.stderr
    )


# Names


MISSPELT = {
    "PLAINMQ_AUHT": "PLAINMQ_AUTH", "PLAINMQ_TOKNE": "PLAINMQ_TOKEN", "PLAINMQ_MAX_MESAGES": "PLAINMQ_MAX_MESSAGES",
    "plainmq_auth": "PLAINMQ_AUTH", "PLAINMQ_TCPPORT": "PLAINMQ_TCP_PORT",
    "PLAINMQ_TLS_CERTIFICATE": "PLAINMQ_TLS_CERT",
}  # fmt: skip


@pytest.mark.parametrize(("wrong", "right"), MISSPELT.items())
def test_an_error_about_a_misspelt_variable_names_the_nearest_one(
    wrong: str, right: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(wrong, "required")
    with pytest.raises(SettingInvalid, match=f"{wrong} in the environment is not a setting: did you mean {right}\\?"):
        load()
    monkeypatch.delenv(wrong)
    (tmp_path / ".env").write_text(f"OTHER=x\n{wrong}=required\n")
    with pytest.raises(SettingInvalid, match=f"{wrong} in the file .env is not a setting: did you mean {right}\\?"):
        load()


@pytest.mark.parametrize("command", [["serve"], ["publish", "a", "b"], ["subscribe", "a"], ["token", "x", "--all"]])
def test_no_command_runs_with_a_misspelt_variable(command: list[str], tmp_path: Path) -> None:
    assert_is_a_sentence(run(tmp_path, *command, PLAINMQ_AUHT="required"), "PLAINMQ_AUHT", "PLAINMQ_AUTH")


def test_a_server_is_not_open_because_of_a_slip_in_its_file(tmp_path: Path) -> None:
    for text in ("PLAINMQ_AUHT=required", "PLAINMQ_AUTH required", "PLAINMQ_AUTH", "x=1\nexport PLAINMQ_AUTH"):
        (tmp_path / ".env").write_text(text)
        assert_is_a_sentence(run(tmp_path, "serve", "--port", "0", "--tcp-port", "0"), ".env")


def test_an_error_about_an_unknown_name_says_where_the_names_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAINMQ_QQQQQ", "1")
    with pytest.raises(SettingInvalid, match="plainmq serve --help"):
        load()


def test_every_name_that_a_client_or_a_server_reads_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CLIENT_VARIABLES:
        monkeypatch.setenv(variable(name), "x")
    assert load() == Settings()


def test_what_kubernetes_sets_for_a_service_is_no_slip(monkeypatch: pytest.MonkeyPatch) -> None:
    address = "tcp://10.0.0.7:8000"
    for name, value in {
        "PLAINMQ_SERVICE_HOST": "10.0.0.7", "PLAINMQ_SERVICE_PORT": "8000", "PLAINMQ_SERVICE_PORT_HTTP": "8000",
        "PLAINMQ_PORT_8000_TCP": address, "PLAINMQ_PORT_8000_TCP_ADDR": "10.0.0.7", "PLAINMQ_LINES_PORT": address,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    assert load() == Settings()
    monkeypatch.setenv("PLAINMQ_PORT", address)
    with pytest.raises(SettingInvalid, match="enableServiceLinks: false"):
        load()


# The file


def test_the_file_is_read_as_people_and_their_editors_write_it(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(
        "\ufeffPLAINMQ_PORT=1 # größe\r\nexport PLAINMQ_TCP_PORT='2'\n\nnot ours\n".encode()
    )
    assert (load().port, load().tcp_port) == (1, 2)
    assert load({"port": "3"}).port == 3


def test_a_variable_that_the_file_sets_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("PLAINMQ_PORT=1\nOTHER=1\nOTHER=2\nexport PLAINMQ_PORT=1\n")
    with pytest.raises(SettingInvalid, match=r"line 4 of the file \.env sets PLAINMQ_PORT again"):
        load()
    file.write_text("PLAINMQ_PORT=1\nOTHER=1\nOTHER=2\n#PLAINMQ_PORT=2\n")
    assert load().port == 1


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes(b"PLAINMQ_PORT=1\n\xff")
    with pytest.raises(SettingInvalid, match=r"\.env is not UTF-8, at byte 16"):
        load()
    for text, byte in (("PLAINMQ_PORT=1\n\0", 16), ("PLAINMQ_AUTH=required".encode("utf-16-le").decode(), 2)):
        file.write_text(text)
        with pytest.raises(SettingInvalid, match=rf"\.env is not a text, at byte {byte}"):
            load()
    for target in ("/proc/self/mem", "nowhere"):  # the first exists, and cannot be read from its start
        file.unlink()
        file.symlink_to(target)
        with pytest.raises(SettingInvalid, match=r"\.env cannot be read: "):
            load()


def test_a_folder_in_place_of_the_file_is_refused_unless_it_is_a_virtual_environment(tmp_path: Path) -> None:
    """Container engines make a folder where a file that is to be mounted does not exist."""
    folder = tmp_path / ".env"
    folder.mkdir()
    with pytest.raises(SettingInvalid, match=r"\.env is a folder"):
        load()
    (folder / "pyvenv.cfg").touch()
    assert load() == Settings()


@pytest.mark.parametrize("mark", ["\u200b", "\ufeff", "\u2060"])
def test_a_name_with_characters_that_nobody_sees_is_not_ignored(tmp_path: Path, mark: str) -> None:
    (tmp_path / ".env").write_text(f"A=1\n{mark}PLAINMQ_AUTH=required\n", encoding="utf-8")
    with pytest.raises(SettingInvalid, match=r"did you mean PLAINMQ_AUTH\?"):
        load()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / ".env").touch(mode=0)
    with pytest.raises(SettingInvalid, match="Permission denied"):
        load()
