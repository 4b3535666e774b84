"""The command `actorstream`, run as people and scripts run it: a process with its output, exit code, and Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from actorstream import blocking
from actorstream.cli.measuring import Latencies
from lab.broker import Broker
from tests.conftest import Streams

ROOT = Path(__file__).parent.parent.parent
COMMAND = [sys.executable, "-W", "error", "-m", "actorstream"]
WITHIN_S = 30.0


def environment(broker: Broker) -> dict[str, str]:
    return {**os.environ, "ACTORSTREAM_URI": broker.uri, "COLUMNS": "200", "PYTHONASYNCIODEBUG": ""}


def run(broker: Broker, *arguments: str, stdin: bytes = b"", code: int = 0) -> tuple[str, str]:
    """What it writes to stdout and stderr; it ends with the exit code."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=environment(broker),
        input=stdin,
        capture_output=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == code, (done.returncode, done.stderr.decode())
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done.stdout.decode(), done.stderr.decode()


@contextlib.contextmanager
def running(broker: Broker, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """One that goes on until it is told to end."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*COMMAND, *arguments], cwd=ROOT, env=environment(broker), stdin=pipe, stdout=pipe, stderr=pipe
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def interrupt(process: subprocess.Popen[bytes], how: int = signal.SIGINT) -> tuple[int, str, str]:
    """Press Ctrl-C: the exit code, and what is written until the end."""
    process.send_signal(how)
    assert process.stdout is not None
    assert process.stderr is not None
    out, shown = process.stdout.read(), process.stderr.read()
    return process.wait(WITHIN_S), out.decode(), shown.decode()


def read_lines(process: subprocess.Popen[bytes], count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline().decode().rstrip("\n") for _ in range(count)]


def stored(broker: Broker, stream: str) -> list[bytes]:
    """The bodies that a stream holds, seen without the command."""
    with blocking.connect(broker.uri) as client, client.consumer(stream, "first", until="end") as consumer:
        return [message.body for message in consumer]


def numbered(first: int, last: int) -> bytes:
    return b"".join(b"line %d\n" % number for number in range(first, last + 1))


def lines_of(data: bytes) -> list[bytes]:
    return data.splitlines()


# Publishing -----------------------------------------------------------------------------------------------------------


def test_each_line_is_a_message_and_the_last_needs_no_line_feed(broker: Broker, stream: Streams) -> None:
    name = stream({})
    _, shown = run(broker, "publish", name, stdin=b"one\n\ntwo \xff\nthree")
    assert shown == "actorstream: 4 confirmed, 0 failed\n"
    assert stored(broker, name) == [b"one", b"", b"two \xff", b"three"]


def test_lines_of_a_file_are_published_in_their_order(broker: Broker, stream: Streams, tmp_path: Path) -> None:
    name = stream({})
    data = numbered(1, 20_000)
    (tmp_path / "lines").write_bytes(data)
    _, shown = run(broker, "publish", name, "--lines", str(tmp_path / "lines"))
    assert shown == "actorstream: 20000 confirmed, 0 failed\n"
    assert stored(broker, name) == lines_of(data)


def test_a_run_with_a_name_is_resumed_by_line_number(broker: Broker, stream: Streams) -> None:
    name = stream({})
    run(broker, "publish", name, "--name", "import", stdin=numbered(1, 30))
    _, shown = run(broker, "publish", name, "--name", "import", stdin=numbered(1, 50))
    assert shown == "actorstream: 20 confirmed, 0 failed, 30 skipped, which were stored before\n"
    assert stored(broker, name) == lines_of(numbered(1, 50))
    _, shown = run(broker, "publish", name, "--name", "import", stdin=numbered(1, 50))
    assert shown == "actorstream: 0 confirmed, 0 failed, 50 skipped, which were stored before\n"


def test_an_interrupted_run_with_a_name_is_resumed(broker: Broker, stream: Streams) -> None:
    name = stream({})
    with running(broker, "publish", name, "--name", "import") as process:
        assert process.stdin is not None
        process.stdin.write(numbered(1, 10))
        process.stdin.flush()
        until_stored(broker, name, 10)
        process.send_signal(signal.SIGINT)  # while stdin is open, and more might come
        assert process.wait(WITHIN_S) == 130
        assert process.stderr is not None
        assert process.stderr.read() == b"actorstream: 10 confirmed, 0 failed\n"
    run(broker, "publish", name, "--name", "import", stdin=numbered(1, 12))
    assert stored(broker, name) == lines_of(numbered(1, 12))


def until_stored(broker: Broker, stream: str, count: int) -> None:
    deadline = time.monotonic() + WITHIN_S
    with blocking.connect(broker.uri) as client, client.consumer(stream, "first") as consumer:
        for number, _ in enumerate(consumer, start=1):
            if number == count:
                return
            assert time.monotonic() < deadline


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_sub_entries_are_resumed_too(broker: Broker, stream: Streams, compression: str) -> None:
    name = stream({})
    options = ["--name", "import", "--sub-entry-size", "8", "--compression", compression]
    run(broker, "publish", name, *options, stdin=numbered(1, 20))  # the last one has four
    _, shown = run(broker, "publish", name, *options, stdin=numbered(1, 30))
    assert shown == "actorstream: 10 confirmed, 0 failed, 20 skipped, which were stored before\n"
    assert stored(broker, name) == lines_of(numbered(1, 30))


def test_what_is_said_of_a_message_is_read_with_it(broker: Broker, stream: Streams) -> None:
    name = stream({})
    options = ["-p", "kind=a=b", "-p", "empty=", "--content-type", "text/plain", "--key", "k1", "--filter-value", "v"]
    run(broker, "publish", name, *options, stdin=b"body\n")
    out, _ = run(broker, "consume", name, "--until-end", "--json")
    row = json.loads(out)
    assert row.pop("timestamp_ms") > 0
    assert row == {
        "stream": name,
        "offset": 0,
        "body": "body",
        "properties": {"subject": "k1", "content_type": "text/plain"},
        "application_properties": {"kind": "a=b", "empty": ""},
    }


def test_a_line_that_cannot_be_sent_is_told_and_the_others_are_sent(broker: Broker, stream: Streams) -> None:
    name = stream({})
    data = b"a:1\nno key\nb:" + b"x" * 2**21 + b"\nc:2\n"
    _, shown = run(broker, "publish", name, "-K", ":", stdin=data, code=1)
    first, second, last = shown.splitlines()
    assert first == "actorstream: line 2: there is no key, which would end at ':'"
    assert second.startswith("actorstream: line 3: a message of 2097")
    assert last == "actorstream: 2 confirmed, 2 failed"
    assert stored(broker, name) == [b"1", b"2"]


def test_a_stream_that_is_deleted_meanwhile_ends_it_with_why(broker: Broker, stream: Streams) -> None:
    name = stream({})
    with running(broker, "publish", name) as process:
        assert process.stdin is not None
        process.stdin.write(b"one\n")
        process.stdin.flush()
        until_stored(broker, name, 1)
        broker.management.delete_stream(name)
        with contextlib.suppress(BrokenPipeError):
            while process.poll() is None:  # it learns of it when it has something to publish
                process.stdin.write(b"more\n")
                process.stdin.flush()
                time.sleep(0.05)
        assert process.stderr is not None
        shown = process.stderr.read().decode()
        assert process.returncode == 4, shown
    assert "stream does not exist" in shown.splitlines()[-1]
    assert "Traceback" not in shown


def test_a_run_with_a_name_ends_at_a_line_that_cannot_be_sent(broker: Broker, stream: Streams) -> None:
    name = stream({})
    options = ["publish", name, "--name", "import", "-K", ":"]
    _, shown = run(broker, *options, stdin=b"a:1\nno key\nc:3\n", code=1)
    assert shown.splitlines()[-1] == "actorstream: 1 confirmed, 1 failed"
    run(broker, *options, stdin=b"a:1\nb:2\nc:3\n")  # the line is repaired, and nothing is missing
    assert stored(broker, name) == [b"1", b"2", b"3"]


@pytest.mark.parametrize("routing", ["hash", "key"])
def test_keys_choose_the_partition_of_a_super_stream(broker: Broker, stream: Streams, routing: str) -> None:
    name = stream()
    run(broker, "super-create", name, "--binding-key", "eu", "--binding-key", "us")
    data = b"".join(b"%s:%d\n" % (key, number) for number in range(20) for key in (b"eu", b"us"))
    options = ["--super-stream", "-K", ":", "--routing", routing, "--name", "import"]
    _, shown = run(broker, "publish", name, *options, stdin=data)
    assert shown == "actorstream: 40 confirmed, 0 failed\n"
    _, shown = run(broker, "publish", name, *options, stdin=data + b"us:20\n")
    out, _ = run(broker, "consume", name, "--super-stream", "--until-end", "-f", r"%t %k %s\n")
    rows = [line.split() for line in out.splitlines()]
    for key, count in (("eu", 20), ("us", 21)):
        mine = [row for row in rows if row[1] == key]
        assert [int(body) for _, _, body in mine] == list(range(count))
        assert len({partition for partition, _, _ in mine}) == 1
        assert routing == "hash" or mine[0][0] == f"{name}-{key}"
    if routing == "key":
        _, shown = run(broker, "publish", name, "--super-stream", "-k", "asia", "--routing", "key", stdin=b"x", code=1)
        assert "no partition in use" in shown
    run(broker, "super-delete", name)


# Consuming ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "expected"),
    [
        (["--offset", "first"], [0, 1, 2, 3, 4]),
        (["-o", "3"], [3, 4]),
        (["-o", "2000-01-31T12:00:00Z"], [0, 1, 2, 3, 4]),
    ],
)
def test_reading_begins_where_it_is_said_and_ends_with_what_there_is(
    broker: Broker, stream: Streams, offset: list[str], expected: list[int]
) -> None:
    name = stream({})
    run(broker, "publish", name, stdin=numbered(0, 4))
    out, _ = run(broker, "consume", name, *offset, "-e", "-f", r"%o:%s\n")
    assert out.splitlines() == [f"{number}:line {number}" for number in expected]


def test_formats_write_what_their_tokens_say(broker: Broker, stream: Streams) -> None:
    name = stream({})
    run(broker, "publish", name, "-k", "key", "-p", "a=1", "-p", "b=2", stdin=b"h\xc3\xa9\n")
    out, _ = run(broker, "consume", name, "-e", "-f", r"%t|%o|%k|%p|%s|%S|100%%\t\\|%T\n")
    assert re.fullmatch(rf"{name}\|0\|key\|a=1,b=2\|hé\|3\|100%\t\\\|\d{{13}}\n", out)
    out, _ = run(broker, "consume", name, "-e", "--raw", "-f", "%S")
    assert int(out) > 20, "the whole record, and not the body alone"


def test_a_name_goes_on_after_what_was_written_and_not_after_what_was_fetched(broker: Broker, stream: Streams) -> None:
    name = stream({})
    run(broker, "publish", name, stdin=numbered(0, 99))
    named = ["consume", name, "--name", "reader", "--offset", "first", "-f", r"%o\n"]
    written: list[int] = []
    for count in (1, 30, 60):
        out, _ = run(broker, *named, "--count", str(count))
        written += [int(line) for line in out.splitlines()]
        assert len(written) - 1 == int(run(broker, "offset", "query", "reader", name)[0])
    out, _ = run(broker, *named, "--until-end")
    assert written + [int(line) for line in out.splitlines()] == list(range(100))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_i14_ctrl_c_ends_reading_in_good_order_and_the_offset_is_stored(
    broker: Broker, stream: Streams, how: int
) -> None:
    name = stream({})
    run(broker, "publish", name, stdin=numbered(0, 6))
    with running(broker, "consume", name, "--name", "reader", "--offset", "first") as process:
        assert read_lines(process, 7) == [f"line {number}" for number in range(7)]
        assert interrupt(process, how) == (0, "", "")
    assert run(broker, "offset", "query", "reader", name)[0] == "6\n"


def test_what_a_script_has_started_in_the_background_is_ended_by_sigterm(broker: Broker, stream: Streams) -> None:
    name = stream({})
    run(broker, "publish", name, stdin=numbered(0, 0))
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for `&`
    try:
        with running(broker, "consume", name, "--offset", "first") as started:
            signal.signal(signal.SIGINT, before)
            assert read_lines(started, 1) == ["line 0"]
            assert interrupt(started, signal.SIGTERM) == (0, "", "")
    finally:
        signal.signal(signal.SIGINT, before)


def test_i14_ctrl_c_is_heard_while_messages_keep_coming(broker: Broker, stream: Streams) -> None:
    name = stream({})
    run(broker, "publish", name, "--sub-entry-size", "500", stdin=b"x" * 60 + b"\n" + (b"y" * 60 + b"\n") * 400_000)
    with running(broker, "consume", name, "--name", "reader", "--offset", "first", "-f", r"%o\n") as process:
        lines = read_lines(process, 5_000)
        code, out, shown = interrupt(process)
    assert (code, shown) == (0, "")
    lines += out.splitlines()
    last = len(lines) - 1
    assert last < 400_000
    assert lines == [str(number) for number in range(last + 1)]
    assert run(broker, "offset", "query", "reader", name)[0] == f"{last}\n"


def test_a_reader_that_goes_away_ends_it_in_good_order(broker: Broker, stream: Streams) -> None:
    name = stream({})
    run(broker, "publish", name, stdin=numbered(0, 9))
    with running(broker, "consume", name, "--offset", "first") as process:
        assert process.stdout is not None
        assert read_lines(process, 1) == ["line 0"]
        process.stdout.close()
        run(broker, "publish", name, stdin=b"one more\n")
        assert process.wait(WITHIN_S) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_single_active_consumers_take_over_from_each_other(broker: Broker, stream: Streams) -> None:
    name = stream({})
    shared = ["consume", name, "--name", "group", "--single-active", "--offset", "first"]
    run(broker, "publish", name, stdin=numbered(0, 3))
    with running(broker, *shared) as first:
        assert read_lines(first, 4) == [f"line {number}" for number in range(4)]
        with running(broker, *shared) as second:
            assert interrupt(first) == (0, "", "")
            run(broker, "publish", name, stdin=b"more\n")
            assert read_lines(second, 1) == ["more"]
            assert interrupt(second) == (0, "", "")


def test_a_filter_leaves_out_chunks_without_its_value(broker: Broker, stream: Streams) -> None:
    name = stream({})
    for value in ("red", "green", "blue"):
        run(broker, "publish", name, "--filter-value", value, stdin=value.encode())
    run(broker, "publish", name, stdin=b"plain")
    out, _ = run(broker, "consume", name, "-o", "first", "--filter", "red", "--filter", "blue", "--count", "2")
    assert out.splitlines() == ["red", "blue"]
    options = ["--filter", "green", "--match-unfiltered", "--count", "2"]
    assert run(broker, "consume", name, "-o", "first", *options)[0].splitlines() == ["green", "plain"]


def test_bytes_that_are_no_text_are_written_as_they_are_and_in_json_as_base64(broker: Broker, stream: Streams) -> None:
    name = stream({})
    run(broker, "publish", name, stdin=b"\xff\xfe\n")
    assert json.loads(run(broker, "consume", name, "-e", "--json")[0])["body_base64"] == "//4="


# Administration -------------------------------------------------------------------------------------------------------


def test_streams_are_created_described_and_deleted(broker: Broker, stream: Streams) -> None:
    name = stream()
    limits = ["--max-length", "1GB", "--max-age", "7d", "--max-segment-size", "50MB", "--leader-locator", "balanced"]
    run(broker, "create", name, *limits)
    run(broker, "create", name, *limits, "--exist-ok")
    assert "precondition failed" in run(broker, "create", name, code=1)[1]
    row = json.loads(run(broker, "describe", name, "--json")[0])
    assert (row["stream"], row["first_offset"], row["committed_chunk_id"]) == (name, None, None)
    assert re.fullmatch(r"[\w.]+:\d+", row["leader"])
    run(broker, "publish", name, stdin=b"x")
    header, line = run(broker, "describe", name)[0].splitlines()
    assert header.split() == ["stream", "leader", "replicas", "first", "offset", "last", "chunk"]
    assert line.split() == [name, row["leader"], "none", "0", "0"]
    run(broker, "delete", name)
    run(broker, "delete", name, "--missing-ok")
    assert "stream does not exist" in run(broker, "delete", name, code=4)[1]
    assert "stream does not exist" in run(broker, "describe", name, code=4)[1]


def test_a_super_stream_is_described_with_its_partitions(broker: Broker, stream: Streams) -> None:
    name = stream()
    run(broker, "super-create", name, "--partitions", "2")
    row = json.loads(run(broker, "describe", name, "--json")[0])
    assert row["super_stream"] == name
    assert [partition["stream"] for partition in row["partitions"]] == [f"{name}-0", f"{name}-1"]
    assert len(run(broker, "describe", name)[0].splitlines()) == 3
    run(broker, "super-delete", name)
    assert "stream does not exist" in run(broker, "super-delete", name, code=4)[1]


def test_offsets_are_stored_and_found_by_name(broker: Broker, stream: Streams) -> None:
    name = stream({})
    run(broker, "publish", name, stdin=numbered(0, 9))
    assert run(broker, "offset", "query", "reader", name, code=4)[1].startswith("actorstream: no offset is stored")
    run(broker, "offset", "store", "reader", name, "6")
    assert run(broker, "offset", "query", "reader", name)[0] == "6\n"
    assert run(broker, "consume", name, "--name", "reader", "-e", "-f", "%o,")[0] == "7,8,9,"
    assert "stream does not exist" in run(broker, "offset", "store", "reader", f"{name}-no", "6", code=4)[1]


def test_an_offset_is_resolved_by_a_broker_that_can(newest: Broker, newest_stream: Streams) -> None:
    name = newest_stream({})
    run(newest, "publish", name, stdin=numbered(0, 9))
    assert run(newest, "offset", "resolve", name, "first")[0] == "0\n"
    assert run(newest, "offset", "resolve", name, "next")[0] == "10\n"


# Measuring ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--sub-entry-size", "20", "--compression", "lz4", "-y", "2"]])
def test_a_performance_run_says_what_was_confirmed_and_consumed_and_how_long_it_took(
    broker: Broker, stream: Streams, tmp_path: Path, options: list[str]
) -> None:
    name = stream({})
    file = tmp_path / "summary.json"
    timed = ["--rate", "200", "--batch-size", "20", "--size", "100", "--time", "2.5", "--summary-file", str(file)]
    out, shown = run(broker, "perf", name, *timed, *options)
    assert shown == ""
    *lines, last = out.splitlines()
    assert len(lines) >= 2
    assert all(re.match(r" *\d+\.\d s  published \d+/s, confirmed \d+/s, consumed \d+/s, ", line) for line in lines)
    summary = json.loads(file.read_text())
    bodies = stored(broker, name)
    assert {len(body) for body in bodies} == {100}
    assert summary["confirmed"] == summary["published"] == len(bodies) <= 200 * 2.5 + 20
    assert summary["consumed"] == len(bodies) * summary["settings"]["consumers"]
    assert summary["confirmed_per_s"] == pytest.approx(len(bodies) / summary["seconds"], rel=0.01)
    for latencies in (summary["confirm_latency_ms"], summary["latency_ms"]):
        assert 0 < latencies["p50"] <= latencies["p95"] <= latencies["p99"] < 30_000
    assert last.startswith(f"summary  {len(bodies)} confirmed (")


def test_ctrl_c_ends_a_performance_run_with_its_summary_and_the_stream_that_was_made_is_deleted(broker: Broker) -> None:
    before = broker.management.streams("actorstream-perf-")  # of runs that were killed
    with running(broker, "perf", "--rate", "100") as process:
        assert read_lines(process, 1) != [""]
        code, out, shown = interrupt(process)
    assert (code, shown) == (0, "")
    assert out.splitlines()[-1].startswith("summary  ")
    assert broker.management.streams("actorstream-perf-") == before


def test_percentiles_are_those_of_the_messages_to_within_two_percent() -> None:
    latencies = Latencies()
    assert latencies.percentile(50) is None
    for milliseconds in range(1, 1001):
        latencies.add(milliseconds / 1000)
    for percent in (50, 95, 99, 100):
        assert latencies.percentile(percent) == pytest.approx(percent / 100, rel=0.02)
    latencies.add(5.0, messages=9_000)
    assert latencies.percentile(50) == pytest.approx(5.0, rel=0.02)


# What is wrong --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["publish", "S", "-p", "novalue"], 2, "a property is given as name=value, not 'novalue'"),
        (["publish", "S", "-p", "a=1", "-p", "a=2"], 2, "the property 'a' is given twice"),
        (["publish", "S", "-l", "/no/such/file"], 2, "No such file or directory"),
        (["publish", "S", "--lines", "/"], 2, "Is a directory"),
        (["publish", "S", "-k", "a", "-K", ":"], 2, "not both"),
        (["publish", "S", "--super-stream"], 2, "give --key or --key-separator"),
        (["publish", "S", "--compression", "lz4"], 2, "give --sub-entry-size as well"),
        (["publish", "S", "--sub-entry-size", "9", "--compression", "rar"], 2, "a compression is one of"),
        (["publish", "S", "--sub-entry-size", "9", "--filter-value", "v"], 2, "no filter values in sub-entries"),
        (["publish", "S", "--super-stream", "-k", "a", "--name", "n", "--sub-entry-size", "2"], 2, "line by line"),
        (["publish", "nowhere"], 4, "stream does not exist"),
        (["consume", "S", "--offset", "yesterday"], 2, "an offset is first, last, next, a number, or a moment"),
        (["consume", "S", "--offset", "2025-01-31T12:00:00"], 2, "a timestamp needs a time zone"),
        (["consume", "S", "--format", "%z"], 2, "a format has no '%z'"),
        (["consume", "S", "--format", "50%"], 2, "a format has no '%'"),
        (["consume", "S", "--format", "%s", "--json"], 2, "not both"),
        (["consume", "S", "--filter", "v", "-e"], 2, "--filter and --until-end exclude each other"),
        (["consume", "S", "--single-active"], 2, "a single active consumer has a name"),
        (["consume", "nowhere"], 4, "stream does not exist"),
        (["perf", "S", "--size", "7"], 2, "a message has 8 bytes at least"),
        (["perf", "S", "-x", "0", "-y", "0"], 2, "one publisher or one consumer is needed"),
        (["perf", "nowhere", "-z", "1"], 4, "stream does not exist"),
        (["create", "S2", "--max-age", "soon"], 2, "an age is a number with s, m, h or d"),
        (["create", "S2", "--max-length", "big"], 2, "a size is bytes as an integer"),
        (["super-create", "S2", "--partitions", "2", "--binding-key", "a"], 2, "not both"),
        (["offset", "resolve", "S", "first"], 1, "needs RabbitMQ 4.3 or newer"),
        (["describe", "S", "-u", "rabbitmq-stream://localhost:1"], 3, "cannot connect to localhost:1"),
        (["describe", "S", "-u", "amqp://localhost"], 2, "the URI's scheme is 'amqp'"),
        (["describe", "S", "--tls-ca", "/no/such/file"], 2, "TLS was asked for"),
    ],
)
def test_what_is_wrong_is_one_line_and_a_code(
    broker: Broker, stream: Streams, arguments: list[str], code: int, told: str
) -> None:
    name = stream({})
    out, shown = run(broker, *(name if one == "S" else one for one in arguments), code=code)
    assert out == ""
    *before, line = shown.splitlines()
    # A run that began to publish says besides what became of it.
    assert [one for one in before if one != "actorstream: 0 confirmed, 0 failed"] == []
    assert line.startswith("actorstream: ")
    assert told in line


def test_a_refused_log_in_has_a_code_of_its_own(broker: Broker) -> None:
    uri = re.sub(r"//[^@]*@", "//guest:wrong@", broker.uri)
    _, shown = run(broker, "describe", "any", "--uri", uri, code=5)
    assert shown.startswith("actorstream: authentication failure")
    assert "wrong" not in shown


def test_usage_is_checked_before_anything_is_done(broker: Broker) -> None:
    assert "No such option" in run(broker, "consume", "any", "--no-such", code=2)[1]
    assert "No such command" in run(broker, "frobnicate", code=2)[1]
    assert "Missing argument" in run(broker, "publish", code=2)[1]


def test_what_happens_is_logged_when_asked_for(broker: Broker, stream: Streams) -> None:
    _, shown = run(broker, "consume", stream({}), "-e", "-v")
    assert "event='connected'" in shown


def test_a_missing_extra_is_named(broker: Broker) -> None:
    program = "import sys; sys.modules['typer'] = None\nfrom actorstream.cli.entry import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    told = "actorstream: the command line needs typer: pip install 'actorstream[cli]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", told)


def test_the_console_script_is_the_same_command() -> None:
    script = Path(sys.executable).parent / "actorstream"
    done = subprocess.run([str(script), "--help"], capture_output=True, text=True, check=True)
    assert {"publish", "consume", "describe", "offset"} <= set(done.stdout.split())
