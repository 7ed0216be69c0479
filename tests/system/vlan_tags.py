"""A VLAN of a device without the kernel's 802.1Q module: `vlan_tags.py DEVICE NAME ID` makes NAME, one end of a veth
pair, and eBPF at the other end (TCX, Linux 6.6) that gives frames their tag on the way to DEVICE and takes it off those
that come from there. What has another tag, or none, stays DEVICE's. Run in the device's network namespace; it all goes
with the devices."""

import ctypes
import os
import platform
import socket
import struct
import subprocess
import sys

SYSCALL = {"x86_64": 321, "aarch64": 280}
PROG_LOAD, PROG_ATTACH = 5, 8  # enum bpf_cmd
SCHED_CLS, TCX_INGRESS = 3, 46  # enum bpf_prog_type, bpf_attach_type
VLAN_PUSH, VLAN_POP, REDIRECT = 18, 19, 23  # helpers
VLAN_PRESENT, VLAN_TCI = 20, 24  # in struct __sk_buff
TCX_NEXT = -1
TAG = 0x8100


def instruction(code, to=0, source=0, offset=0, value=0):
    return struct.pack("<BBhi", code, source << 4 | to, offset, value)


def set_to(register, value):
    return instruction(0xb7, register, value=value)


def copy(to, source):
    return instruction(0xbf, to, source)


def load32(to, source, offset):
    return instruction(0x61, to, source, offset)


def call(helper):
    return instruction(0x85, value=helper)


END = instruction(0x95)


def redirect(index):
    return [set_to(1, index), set_to(2, 0), call(REDIRECT), END]


def tagging(vlan, device):
    return [set_to(2, socket.htons(TAG)), set_to(3, vlan), call(VLAN_PUSH), *redirect(device)]


def untagging(vlan, port):
    return [copy(6, 1), set_to(0, TCX_NEXT),
            load32(2, 6, VLAN_PRESENT), instruction(0x15, 2, offset=8, value=0),  # to the end if it has none,
            load32(2, 6, VLAN_TCI), instruction(0x57, 2, value=0xfff), instruction(0x55, 2, offset=5, value=vlan),  # or another
            copy(1, 6), call(VLAN_POP), *redirect(port)]


def bpf(command, attributes):
    attributes = attributes.ljust(128, b"\0")
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(SYSCALL[platform.machine()], command, buffer, len(attributes))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"bpf: {os.strerror(ctypes.get_errno())}")
    return result


def attach(device, program):
    code = ctypes.create_string_buffer(b"".join(program))
    license_name = ctypes.create_string_buffer(b"")
    loaded = bpf(PROG_LOAD, struct.pack("=IIQQ", SCHED_CLS, len(program), ctypes.addressof(code), ctypes.addressof(license_name)))
    bpf(PROG_ATTACH, struct.pack("=III", socket.if_nametoindex(device), loaded, TCX_INGRESS))


def main():
    device, name, vlan = sys.argv[1], sys.argv[2], int(sys.argv[3])
    port = f"{name}t"
    subprocess.run(["ip", "link", "add", name, "type", "veth", "peer", "name", port], check=True)
    attach(port, tagging(vlan, socket.if_nametoindex(device)))
    attach(device, untagging(vlan, socket.if_nametoindex(port)))
    subprocess.run(["ip", "link", "set", port, "up"], check=True)


if __name__ == "__main__":
    try:
        main()
    except (OSError, KeyError, subprocess.CalledProcessError) as error:
        sys.exit(f"vlan_tags: {error}")
