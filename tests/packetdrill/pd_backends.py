"""Whom a script drives: the stack in libnetd-packetdrill.so, loaded as packetdrill loads it, or this machine's kernel by
a TUN device in a network namespace of its own. Both are the same table of calls, a way for packets, and a clock."""

import collections
import ctypes
import fcntl
import os
import select
import struct
import subprocess
import threading
import time

from pd_packet import Outbound

LOCAL, REMOTE, GATEWAY, NETMASK_BITS, PORT = "192.168.0.1", "192.0.2.1", "192.168.0.1", 16, 8080
RECEIVE_PATIENCE_S = 8.0

P, INT, LONG, SIZE, PTR = ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_size_t, ctypes.c_void_p
# The members of the interface in order: name, result, arguments behind `userdata`.
MEMBERS = [
    ("free", None, []), ("socket", INT, [INT, INT, INT]), ("bind", INT, [INT, PTR, INT]), ("listen", INT, [INT, INT]),
    ("accept", INT, [INT, PTR, PTR]), ("connect", INT, [INT, PTR, INT]), ("read", LONG, [INT, PTR, SIZE]),
    ("readv", LONG, [INT, PTR, INT]), ("recv", LONG, [INT, PTR, SIZE, INT]),
    ("recvfrom", LONG, [INT, PTR, SIZE, INT, PTR, PTR]), ("recvmsg", LONG, [INT, PTR, INT]),
    ("write", LONG, [INT, PTR, SIZE]), ("writev", LONG, [INT, PTR, INT]), ("send", LONG, [INT, PTR, SIZE, INT]),
    ("sendto", LONG, [INT, PTR, SIZE, INT, PTR, INT]), ("sendmsg", LONG, [INT, PTR, INT]), ("fcntl", INT, [INT, INT, INT]),
    ("ioctl", INT, [INT, ctypes.c_ulong, PTR]), ("close", INT, [INT]), ("shutdown", INT, [INT, INT]),
    ("getsockopt", INT, [INT, INT, INT, PTR, PTR]), ("setsockopt", INT, [INT, INT, INT, PTR, INT]),
    ("poll", INT, [PTR, ctypes.c_ulong, INT]), ("netdev_send", INT, [PTR, SIZE]), ("netdev_receive", INT, [PTR, PTR, PTR]),
    ("usleep", INT, [ctypes.c_uint]), ("gettimeofday", INT, [PTR, PTR]), ("epoll_create", INT, [INT]),
    ("epoll_ctl", INT, [INT, INT, INT, PTR]), ("epoll_wait", INT, [INT, PTR, INT, INT]), ("pipe", INT, [PTR]),
    ("splice", LONG, [INT, PTR, INT, PTR, SIZE, ctypes.c_uint]),
]
libc = ctypes.CDLL(None, use_errno=True)
libc.sendfile.restype = LONG


class Timeval(ctypes.Structure):
    _fields_ = [("sec", LONG), ("usec", LONG)]


class Interface(ctypes.Structure):
    _fields_ = [("userdata", P), *((name, P) for name, _, _ in MEMBERS)]


def flags_of(mtu, real_time):
    return (f"local={LOCAL}/{NETMASK_BITS},remote={REMOTE}/32,gateway={GATEWAY},mtu={mtu},"
            f"time={'real' if real_time else 'virtual'}")


class Library:
    def __init__(self, path, mtu, real_time):
        mode = os.RTLD_NOW | os.RTLD_LOCAL | os.RTLD_NODELETE | os.RTLD_DEEPBIND
        self.mtu = mtu
        self.virtual = not real_time
        init = ctypes.CDLL(path, mode=mode).packetdrill_interface_init
        init.restype = None
        self.table = Interface()
        init(flags_of(mtu, real_time).encode(), ctypes.byref(self.table))
        self.calls = {}
        for name, result, arguments in MEMBERS:
            self.calls[name] = ctypes.CFUNCTYPE(result, P, *arguments, use_errno=True)(getattr(self.table, name))

    def call(self, name, *arguments):
        return self.calls[name](self.table.userdata, *arguments)

    def now(self):
        t = Timeval()
        self.call("gettimeofday", ctypes.byref(t), None)
        return t.sec + t.usec / 1e6

    def sleep(self, seconds):
        self.call("usleep", int(seconds * 1e6))

    def send(self, packet):
        self.call("netdev_send", packet, len(packet))

    def receive(self):
        """(packet, time) or None."""
        buffer = ctypes.create_string_buffer(65536)
        size = ctypes.c_size_t(len(buffer))
        at = ctypes.c_longlong()
        self.call("netdev_receive", buffer, ctypes.byref(size), ctypes.byref(at))
        return (Outbound(buffer.raw[:size.value], self.mtu), at.value / 1e6) if size.value else None

    def leftover(self, end):
        """A packet that left until `end` and was not asked for. In real time nobody can tell without waiting."""
        found = self.receive() if self.virtual else None
        return found[0] if found and found[1] <= end else None

    def finish(self):
        self.call("free")


# packetdrill's own scripts set these; the rest of a new namespace is as Linux has it.
KERNEL_SETTINGS = {
    "net.ipv4.tcp_rmem": "4096 131072 15728640", "net.ipv4.tcp_wmem": "4096 262144 4194304", "net.ipv4.tcp_ecn": "0",
    "net.ipv4.tcp_no_metrics_save": "1", "net.ipv4.tcp_fastopen": "0", "net.ipv4.tcp_autocorking": "0",
    "net.ipv4.conf.all.rp_filter": "0", "net.ipv6.conf.all.disable_ipv6": "1", "net.ipv4.tcp_plb_enabled": "0",
}
TUNSETIFF, IFF_TUN, IFF_NO_PI, CLONE_NEWNET = 0x400454CA, 1, 0x1000, 0x40000000


class Kernel:
    virtual = False

    def __init__(self, mtu):
        self.mtu = mtu
        if libc.unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "no network namespace to be had")
        self.tun = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(self.tun, TUNSETIFF, struct.pack("16sH22x", b"pd0", IFF_TUN | IFF_NO_PI))
        for key, value in KERNEL_SETTINGS.items():
            subprocess.run(["sysctl", "-qw", f"{key}={value}"], check=False, stderr=subprocess.DEVNULL)
        for command in (f"addr add {LOCAL}/{NETMASK_BITS} dev pd0", f"link set pd0 mtu {mtu} up", "link set lo up",
                        f"route add {REMOTE} dev pd0 congctl cubic"):
            subprocess.run(["ip", *command.split()], check=True)
        self.packets = collections.deque()
        self.arrived = threading.Condition()
        threading.Thread(target=self.read, daemon=True).start()
        for name, result, arguments in MEMBERS:
            if hasattr(libc, name):
                function = getattr(libc, name)
                function.restype, function.argtypes = result, arguments

    def read(self):
        """A thread, so that a packet's time is when it left and not when the script asked for it."""
        while True:
            select.select([self.tun], [], [])
            data, at = os.read(self.tun, 65536), time.time()
            if data[0] >> 4 == 4 and data[9] != 2:  # IGMP is the host's own business
                with self.arrived:
                    self.packets.append((data, at))
                    self.arrived.notify_all()

    def call(self, name, *arguments):
        return getattr(libc, name)(*arguments)

    now = staticmethod(time.time)
    sleep = staticmethod(time.sleep)

    def send(self, packet):
        os.write(self.tun, packet)

    def receive(self):
        with self.arrived:
            if not self.arrived.wait_for(lambda: self.packets, RECEIVE_PATIENCE_S):
                return None
            data, at = self.packets.popleft()
        return Outbound(data, self.mtu), at

    def leftover(self, end):
        time.sleep(0.005)
        with self.arrived:
            return Outbound(self.packets[0][0], self.mtu) if self.packets and self.packets[0][1] <= end else None

    def finish(self):
        pass
