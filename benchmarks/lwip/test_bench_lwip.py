"""bench-lwip and its threaded kin run each workload for a moment: operations are done, data are right, wrong data are noticed."""

import json
import subprocess
import sys


def run(*arguments, seconds="0.02", program=1):
    return subprocess.run([sys.argv[program], *arguments, "--seconds", seconds], capture_output=True, text=True, timeout=50)


def measured(*arguments, **more):
    done = run(*arguments, **more)
    assert done.returncode == 0, (arguments, done.stderr)
    return json.loads(done.stdout)


def worked(*arguments, program):
    """As long as it takes on a machine that others use: both threads share a CPU with whoever else wants it."""
    for seconds in ("0.1", "1", "5"):
        one = measured(*arguments, program=program, seconds=seconds)
        if one["operations"] > 0:
            break
    assert one["operations"] > 0 and one["counters"]["drops"] == 0, one
    return one


TUN = """
ip tuntap add dev lw0 mode tun && ip address add 10.9.2.1/24 dev lw0 && ip link set lw0 up || exit 77
"$1" lw0 10.9.2.2 7777 $2 & server=$!
"$3" -c '
import os, socket, sys
sent = os.urandom(200000)
with socket.create_connection(("10.9.2.2", 7777), 10) as s:
    got = b""
    for at in range(0, len(sent), 5000):
        s.sendall(sent[at:at + 5000])
        while sys.argv[1] != "--discard" and len(got) < at + 5000:
            got += s.recv(5000)
    s.shutdown(socket.SHUT_WR)
    got += s.recv(1)
assert got == (b"" if sys.argv[1] == "--discard" else sent)
' "$2"
result=$?
kill $server
exit $result
"""


def tun(mode):
    """A server of the kernel's, in a namespace of its own; where there can be none, nothing."""
    command = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", TUN, "sh", sys.argv[4], mode, sys.executable]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert done.returncode in (0, 77) or "unshare" in done.stderr, done.stderr


def main():
    for workload in ("conn", "rr", "udp"):
        for concurrency in (1, 50):
            for size in (64, 1400):
                one = measured(workload, "--concurrency", str(concurrency), "--bytes", str(size))
                assert one["workload"] == workload and one["concurrency"] == concurrency and one["operations"] > 0, one
                assert one["counters"]["drops"] == 0 and one["counters"]["packets"] > 0, one
    for more in ([], ["--copy"], ["--mss", "65495"], ["--bytes", "100"], ["--checksums", "off"], ["--routines", "lwip"]):
        one = measured("bulk", *more)
        assert one["operations"] > 0 and one["unit"] == "B/s" and one["counters"]["drops"] == 0, one
    idle = measured("idle", "--concurrency", "100")
    assert 100 < idle["value"] < 1000, idle

    # A flipped bit: dropped for its checksum and sent again; without checksums the program notices by itself.
    damaged = measured("bulk", "--corrupt", "200")
    assert damaged["counters"]["corrupted"] == 1 and damaged["operations"] > 0, damaged
    unseen = run("bulk", "--corrupt", "200", "--checksums", "off")
    assert unseen.returncode == 1 and "wrong bytes" in unseen.stderr, unseen
    # Application threads apart from lwIP's: calls under its lock (2) and as messages to its thread (3).
    for program in (2, 3):
        for workload in ("conn", "rr", "udp", "bulk"):
            for concurrency in ("1", "100"):
                one = worked(workload, "--concurrency", concurrency, program=program)
                assert one["workload"] == workload and one["discipline"] == ("core lock", "messages")[program - 2], one
        worked("bulk", "--no-copy", program=program)
    # A server on a TUN device.
    for mode in ("--spin=0", "--spin=50", "--discard"):
        tun(mode)
    wrong = subprocess.run([sys.argv[4], "lw0", "nowhere", "1"], capture_output=True, text=True)
    assert wrong.returncode == 1 and "nowhere is no address" in wrong.stderr, wrong
    assert run("lw0", program=4).returncode == 64
    for bad in (["none"], ["bulk", "--mss", "1"], ["rr", "--concurrency", "0"]):
        assert run(*bad).returncode == 64, bad


if __name__ == "__main__":
    if len(sys.argv) < 2:
        print("bench-lwip is not built: run benchmarks/lwip/fetch")
        sys.exit(77)
    main()
