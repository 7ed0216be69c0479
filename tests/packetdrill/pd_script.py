"""packetdrill's script language, as far as our own scripts use it: from text to a list of events.

An event is (when, kind, body). Packets, calls and code are parsed here; nothing is run.
"""

import ast
import dataclasses
import errno
import re
import socket
import select


class ScriptError(Exception):
    """What is wrong, with the line of the script in front."""


@dataclasses.dataclass
class When:
    kind: str  # "absolute", "relative", "any", or "range" (absolute numbers from the event before)
    start: float = 0.0
    end: float | None = None  # of a range, or the end of a blocking call
    blocking: bool = False


@dataclasses.dataclass
class TcpPacket:
    flags: str  # sorted letters
    seq: int
    length: int
    ack: int | None
    window: int | None
    options: list | None  # None: not compared (outbound), none (inbound)
    urgent: int | None = None
    ecn: str | None = None
    any_options: bool = False


@dataclasses.dataclass
class UdpPacket:
    length: int


@dataclasses.dataclass
class IcmpPacket:
    type: int
    code: int
    mtu: int
    seq: int | None  # of the TCP segment it quotes
    length: int
    udp_length: int | None = None


@dataclasses.dataclass
class Call:
    name: str
    arguments: list
    result: object
    errno: str | None


@dataclasses.dataclass
class Event:
    line: int
    when: When
    kind: str  # in, out, call, code, shell
    body: object


@dataclasses.dataclass
class Script:
    options: dict
    events: list


# ---- times

TIME = r"\d*\.?\d+(?:[eE]-?\d+)?"
WHEN = re.compile(rf"(?:(?P<plus>\+)?(?P<start>{TIME})(?:(?P<mark>~|\.\.\.)(?P<plus2>\+)?(?P<end>{TIME}))?|(?P<any>\*))\s+")


def parse_when(text):
    m = WHEN.match(text)
    if m is None:
        return None, text
    rest = text[m.end():]
    if m["any"]:
        return When("any"), rest
    start = float(m["start"])
    end = float(m["end"]) if m["end"] else None
    kind = "relative" if m["plus"] else "absolute"
    return When(kind, start, end, m["mark"] == "..."), rest


# ---- packets

SEGMENT = re.compile(
    r"(?:\[(?P<ecn>noecn|ect0|ect1|ce)\]\s+)?(?P<flags>[SFRPUEWA.]+|-)\s+"
    r"(?P<seq>\d+):(?P<end>\d+)\((?P<len>\d+)\)"
    r"(?:\s+ack\s+(?P<ack>\d+))?(?:\s+win\s+(?P<win>\d+))?(?:\s+urg\s+(?P<urg>\d+))?(?:\s+<(?P<options>[^>]*)>)?\s*$")
DATAGRAM = re.compile(r"udp\s*\((?P<len>\d+)\)\s*$")
ICMP = re.compile(
    r"(?:\[(?:(?P<seq>\d+):(?P<end>\d+)\((?P<len>\d+)\)|udp\s*\((?P<udp>\d+)\))\]\s+)?icmp\s+(?P<type>\w+)"
    r"(?:\s+(?P<code>\w+))?(?:\s+mtu\s+(?P<mtu>\d+))?\s*$")
ICMP_TYPES = {"unreachable": 3, "source_quench": 4, "time_exceeded": 11, "parameter_problem": 12}
ICMP_CODES = {"net_unreachable": 0, "host_unreachable": 1, "protocol_unreachable": 2, "port_unreachable": 3,
              "frag_needed": 4, "source_route_failed": 5, "exceeded_ttl": 0}


def parse_option(text):
    words = text.split()
    match words:
        case ["mss", value]:
            return ("mss", int(value))
        case ["wscale", value]:
            return ("wscale", int(value))
        case ["sackOK"] | ["nop"] | ["eol"]:
            return (words[0],)
        case ["TS", "val", value, "ecr", echo]:
            return ("TS", int(value), int(echo))
        case ["FO"]:
            return ("FO", "")
        case ["FO", cookie] if len(cookie) % 2 == 0:
            return ("FO", bytes.fromhex(cookie).hex())
        case ["sack", *ranges]:
            return ("sack", *(tuple(int(n) for n in r.split(":")) for r in ranges))
    raise ScriptError(f"an option that is not known: {text}")


def parse_packet(text, outbound):
    if m := DATAGRAM.match(text):
        return UdpPacket(int(m["len"]))
    if m := ICMP.match(text):
        if m["type"] not in ICMP_TYPES or (m["code"] or "net_unreachable") not in ICMP_CODES:
            raise ScriptError(f"an ICMP message that is not known: {text}")
        return IcmpPacket(ICMP_TYPES[m["type"]], ICMP_CODES[m["code"] or "net_unreachable"], int(m["mtu"] or 0),
                          int(m["seq"]) if m["seq"] else None, int(m["len"] or 0), int(m["udp"]) if m["udp"] else None)
    m = SEGMENT.match(text)
    if m is None:
        raise ScriptError(f"not a packet: {text}")
    seq, end, length = int(m["seq"]), int(m["end"]), int(m["len"])
    if end - seq != length:
        raise ScriptError(f"{seq}:{end} is not {length} bytes")
    options = m["options"]
    parsed = TcpPacket("".join(sorted(m["flags"].replace("-", ""))), seq, length, int(m["ack"]) if m["ack"] else None,
                       int(m["win"]) if m["win"] else None, [], int(m["urg"]) if m["urg"] else None, m["ecn"])
    if options == "...":
        if not outbound:
            raise ScriptError("<...> is for packets that the stack sends")
        parsed.any_options = True
    elif options:
        parsed.options = [parse_option(o.strip()) for o in options.split(",")]
    if ("." in parsed.flags) != (parsed.ack is not None):
        raise ScriptError("'.' and ack go together")
    return parsed


# ---- calls

ELLIPSIS = "..."
SYMBOLS = {name: getattr(module, name) for module in (socket, select, errno) for name in dir(module) if name.isupper()}
SYMBOLS |= {
    "NULL": 0, "O_RDWR": 2, "O_NONBLOCK": 0o4000, "F_GETFL": 3, "F_SETFL": 4, "F_GETFD": 1,
    "FIONREAD": 0x541B, "SIOCINQ": 0x541B, "SIOCOUTQ": 0x5411, "SIOCOUTQNSD": 0x894B, "SIOCATMARK": 0x8905, "FIONBIO": 0x5421,
    "SOL_TCP": 6, "SOL_IP": 0, "SOL_SOCKET": 1, "TCP_INFO": 11, "TCP_USER_TIMEOUT": 18, "TCP_NOTSENT_LOWAT": 25,
    "TCP_CC_INFO": 26, "TCP_CONGESTION": 13, "TCP_QUICKACK": 12, "SO_MEMINFO": 55, "SO_ZEROCOPY": 60, "IP_MTU": 14,
    "IP_MTU_DISCOVER": 10, "IP_PMTUDISC_DONT": 0, "IP_PMTUDISC_WANT": 1, "IP_PMTUDISC_DO": 2, "IP_PMTUDISC_PROBE": 3,
    "EPOLL_CTL_ADD": 1, "EPOLL_CTL_DEL": 2, "EPOLL_CTL_MOD": 3, "SPLICE_F_NONBLOCK": 2, "MSG_NOSIGNAL": 0x4000, "MSG_TRUNC": 0x20,
    "POLLRDHUP": 0x2000, "POLLRDNORM": 0x40, "POLLWRNORM": 0x100,
}
for _name in ("SOCK_STREAM", "SOCK_DGRAM", "SOCK_NONBLOCK", "SHUT_RD", "SHUT_WR", "SHUT_RDWR"):
    SYMBOLS[_name] = int(getattr(socket, _name))

TOKEN = re.compile(r"""\s*(?:
    (?P<dots>\.\.\.)|(?P<string>"(?:[^"\\]|\\.)*")|(?P<number>-?0x[0-9a-fA-F]+|-?\d+(?:\.\d+)?)|
    (?P<word>[A-Za-z_]\w*)|(?P<mark>[\[\]{}(),=|:]))""", re.VERBOSE)


class Parser:
    """Expressions of a call: numbers, names, alternatives by |, strings, lists and structures."""

    def __init__(self, text):
        self.text = text
        self.at = 0

    def peek(self):
        m = TOKEN.match(self.text, self.at)
        return m.group().strip() if m else ""

    def take(self, wanted=None):
        m = TOKEN.match(self.text, self.at)
        if m is None or (wanted is not None and m.group().strip() != wanted):
            raise ScriptError(f"expected {wanted or 'something'} at «{self.text[self.at:self.at + 30]}»")
        self.at = m.end()
        return m

    def rest(self):
        return self.text[self.at:].strip()

    def sequence(self, opening, closing):
        self.take(opening)
        found = []
        while self.peek() != closing:
            found.append(self.expression())
            if self.peek() == ",":
                self.take()
        self.take(closing)
        return found

    def structure(self):
        """{a=1, b=2} is a dict; {..., 100} a list; names may carry a count in parentheses."""
        self.take("{")
        fields = {}
        plain = []
        while self.peek() != "}":
            start = self.at
            m = self.take()
            if m["word"] and self.peek() == "(":
                self.sequence("(", ")")
            if m["word"] and self.peek() == "=":
                self.take("=")
                fields[m["word"]] = self.expression()
            else:
                self.at = start
                plain.append(self.expression())
            if self.peek() == ",":
                self.take()
        self.take("}")
        return fields or plain

    def term(self):
        mark = self.peek()
        if mark == "[":
            return self.sequence("[", "]")
        if mark == "{":
            return self.structure()
        m = self.take()
        if m["dots"]:
            return ELLIPSIS
        if m["string"]:
            return ast.literal_eval(m["string"])
        if m["number"]:
            return float(m["number"]) if "." in m["number"] else int(m["number"], 0)
        if m["word"]:
            if m["word"] in ("inet_addr", "htons", "htonl") and self.peek() == "(":
                return self.sequence("(", ")")[0]
            if m["word"] not in SYMBOLS:
                raise ScriptError(f"a name that is not known: {m['word']}")
            return int(SYMBOLS[m["word"]])
        raise ScriptError(f"not an expression: {self.text}")

    def expression(self):
        value = self.term()
        while self.peek() == "|":
            self.take("|")
            value |= self.term()
        return value


CALL = re.compile(r"(?P<name>[a-z_]\w*)\s*(?=\()")


def parse_call(text):
    m = CALL.match(text)
    if m is None:
        raise ScriptError(f"not a call: {text}")
    p = Parser(text[m.end():])
    arguments = p.sequence("(", ")")
    p.take("=")
    result = p.expression()
    rest = p.rest()
    code = None
    if rest and rest[0].isalpha():
        code = rest.split()[0]
        rest = rest[len(code):].strip()
        if code not in SYMBOLS:
            raise ScriptError(f"an errno that is not known: {code}")
    if rest and not (rest.startswith("(") and rest.endswith(")")):
        raise ScriptError(f"what does «{rest}» mean?")
    return Call(m["name"], arguments, result, code)


# ---- the whole

OPTION = re.compile(r"^--(\w+)(?:=(\S+))?\s*$")


def statements(text):
    """(line, statement), comments gone; %{ }% blocks and shell commands whole, other statements continued by indentation
    while a parenthesis is open."""
    text = re.sub(r"/\*.*?\*/", lambda m: "\n" * m.group().count("\n"), text, flags=re.DOTALL)
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        first = at
        line = lines[at]
        whole = re.sub(r"(?<![:\"])//.*$", "", line)
        at += 1
        for opening, closing in (("%{", "}%"), ("`", "`")):
            if opening in line:
                whole = line
                while closing not in whole.split(opening, 1)[1]:
                    if at == len(lines):
                        raise ScriptError(f"{first + 1}: {opening} without its end")
                    whole += "\n" + lines[at]
                    at += 1
                break
        else:
            while whole.count("(") > whole.count(")") and at < len(lines):
                whole += " " + re.sub(r"(?<![:\"])//.*$", "", lines[at]).strip()
                at += 1
        if whole.strip() and not whole.lstrip().startswith("#"):
            yield first + 1, whole.strip()


def parse_event(text):
    """(when, kind, body) of one statement."""
    when, rest = parse_when(text)
    if when is None:
        when, rest = When("relative"), text
    if rest.startswith("`"):
        return when, "shell", rest.strip("`")
    if rest.startswith("%{"):
        return when, "code", rest[2:rest.rindex("}%")]
    if rest.startswith("<"):
        return when, "in", parse_packet(rest[1:].strip(), False)
    if rest.startswith(">"):
        return when, "out", parse_packet(rest[1:].strip(), True)
    return when, "call", parse_call(rest)


def parse(text):
    options = {}
    events = []
    for line, statement in statements(text):
        if m := OPTION.match(statement):
            options[m[1]] = m[2] or ""
            continue
        try:
            when, kind, body = parse_event(statement)
        except ScriptError as e:
            raise ScriptError(f"{line}: {e}") from None
        events.append(Event(line, when, kind, body))
    return Script(options, events)
