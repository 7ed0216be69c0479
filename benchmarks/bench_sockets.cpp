// bench-sockets: an ordinary program with ordinary blocking sockets, run on the kernel or through netrun, because the
// interpreters' own cost would hide what is measured. Knows nothing of netd. benchmarks/run starts it.
//   serve ADDRESS PORT [spin]                      echoes, a thread per connection
//   pingpong ADDRESS PORT SECONDS BYTES [spin]     prints round trips per second; spin = polls instead of blocking
//   memcached ADDRESS PORT SECONDS CONNECTIONS     one outstanding get on each; prints requests per second
//   ask ADDRESS PORT SECONDS CONNECTIONS           the same of 64 bytes, of who echoes
//   answer ADDRESS PORT                            echoes, one thread with an epoll set
//   discard ADDRESS PORT                           reads and forgets, a thread per connection
//   bulk ADDRESS PORT SECONDS                      sends to who discards; prints bytes per second
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void give_up(const char* what)
{
    std::fprintf(stderr, "bench-sockets: %s: %s\n", what, std::strerror(errno));
    std::exit(1);
}

sockaddr_in endpoint(const char* address, const char* port)
{
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = htons(static_cast<std::uint16_t>(std::atoi(port)));
    if (inet_pton(AF_INET, address, &name.sin_addr) != 1) {
        errno = EINVAL;
        give_up(address);
    }
    return name;
}

int tcp_socket()
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) {
        give_up("socket");
    }
    return fd;
}

int connected(const char* address, const char* port)
{
    sockaddr_in name = endpoint(address, port);
    int fd = tcp_socket();
    if (connect(fd, reinterpret_cast<sockaddr*>(&name), sizeof name) != 0) {
        give_up("connect");
    }
    return fd;
}

void send_all(int fd, const char* data, std::size_t size)
{
    while (size > 0) {
        ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
        if (n <= 0) {
            give_up("send");
        }
        data += n;
        size -= static_cast<std::size_t>(n);
    }
}

bool spin = false; // set once, before there are threads

ssize_t receive(int fd, char* data, std::size_t size)
{
    for (;;) {
        ssize_t n = recv(fd, data, size, spin ? MSG_DONTWAIT : 0);
        if (n >= 0 || !spin || errno != EAGAIN) {
            return n;
        }
    }
}

void receive_all(int fd, char* data, std::size_t size)
{
    while (size > 0) {
        ssize_t n = receive(fd, data, size);
        if (n <= 0) {
            give_up("recv");
        }
        data += n;
        size -= static_cast<std::size_t>(n);
    }
}

void discard(int fd)
{
    std::vector<char> buffer(256 * 1024);
    while (receive(fd, buffer.data(), buffer.size()) > 0) {
    }
    close(fd);
}

void echo(int fd)
{
    std::vector<char> buffer(65536);
    ssize_t n;
    while ((n = receive(fd, buffer.data(), buffer.size())) > 0) {
        const char* at = buffer.data();
        for (ssize_t sent; n > 0; n -= sent, at += sent) {
            sent = send(fd, at, static_cast<std::size_t>(n), MSG_NOSIGNAL);
            if (sent <= 0) {
                n = 0;
                break;
            }
        }
    }
    close(fd);
}

int listening(const char* address, const char* port)
{
    sockaddr_in name = endpoint(address, port);
    int door = tcp_socket();
    int on = 1;
    setsockopt(door, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(door, reinterpret_cast<sockaddr*>(&name), sizeof name) != 0 || listen(door, 128) != 0) {
        give_up("listen");
    }
    return door;
}

int accepted(int door)
{
    int fd = accept(door, nullptr, nullptr);
    int on = 1;
    if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) {
        give_up("accept");
    }
    return fd;
}

int serve(const char* address, const char* port, void (*how)(int))
{
    int door = listening(address, port);
    for (;;) {
        std::thread(how, accepted(door)).detach();
    }
}

void watch(int poller, int fd)
{
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) != 0) {
        give_up("epoll_ctl");
    }
}

int answer_all(const char* address, const char* port)
{
    int door = listening(address, port);
    int poller = epoll_create1(EPOLL_CLOEXEC);
    watch(poller, door);
    std::vector<char> buffer(65536);
    std::vector<epoll_event> events(64);
    for (;;) {
        int n = epoll_wait(poller, events.data(), static_cast<int>(events.size()), -1);
        for (int i = 0; i < n; ++i) {
            int fd = events[static_cast<std::size_t>(i)].data.fd;
            if (fd == door) {
                watch(poller, accepted(door));
                continue;
            }
            ssize_t size = recv(fd, buffer.data(), buffer.size(), 0);
            if (size <= 0 || send(fd, buffer.data(), static_cast<std::size_t>(size), MSG_NOSIGNAL) != size) {
                close(fd);
            }
        }
    }
}

void print_rate(std::uint64_t count, Clock::time_point start)
{
    std::chrono::duration<double> passed = Clock::now() - start;
    std::printf("%.3f\n", static_cast<double>(count) / passed.count());
}

int pingpong(const char* address, const char* port, double seconds, std::size_t bytes)
{
    int fd = connected(address, port);
    std::vector<char> out(bytes, 'x');
    std::vector<char> in(bytes);
    auto start = Clock::now();
    auto end = start + std::chrono::duration<double>(seconds);
    std::uint64_t trips = 0;
    for (; Clock::now() < end; ++trips) {
        send_all(fd, out.data(), bytes);
        receive_all(fd, in.data(), bytes);
    }
    if (in != out) {
        errno = EBADMSG;
        give_up("the echo");
    }
    print_rate(trips, start);
    return 0;
}

// One request outstanding on each connection, until the time is over; every answer is compared. `begin`, if it says
// something, goes first on each connection and is answered by `begun` bytes.
int ask(const char* address, const char* port, double seconds, int connections, const std::string& begin,
    std::size_t begun, const std::string& request, const std::string& answer)
{
    int poller = epoll_create1(EPOLL_CLOEXEC);
    std::vector<char> buffer(std::max(answer.size(), begun));
    for (int i = 0; i < connections; ++i) {
        int fd = connected(address, port);
        send_all(fd, begin.data(), begin.size());
        receive_all(fd, buffer.data(), begun);
        watch(poller, fd);
        send_all(fd, request.data(), request.size());
    }
    auto start = Clock::now();
    auto end = start + std::chrono::duration<double>(seconds);
    std::uint64_t requests = 0;
    std::vector<epoll_event> events(64);
    while (Clock::now() < end) {
        int n = epoll_wait(poller, events.data(), static_cast<int>(events.size()), 5000);
        if (n <= 0) {
            errno = n == 0 ? ETIMEDOUT : errno;
            give_up("epoll_wait");
        }
        for (int i = 0; i < n; ++i) {
            int fd = events[static_cast<std::size_t>(i)].data.fd;
            receive_all(fd, buffer.data(), answer.size());
            if (std::memcmp(buffer.data(), answer.data(), answer.size()) != 0) {
                errno = EBADMSG;
                give_up("the answer");
            }
            send_all(fd, request.data(), request.size());
            ++requests;
        }
    }
    print_rate(requests, start);
    return 0;
}

int ask_memcached(const char* address, const char* port, double seconds, int connections)
{
    const std::string value(64, 'v');
    return ask(address, port, seconds, connections, "set key 0 0 64\r\n" + value + "\r\n", std::strlen("STORED\r\n"),
        "get key\r\n", "VALUE key 0 64\r\n" + value + "\r\nEND\r\n");
}

int ask_echo(const char* address, const char* port, double seconds, int connections)
{
    const std::string request(64, 'r');
    return ask(address, port, seconds, connections, "", 0, request, request);
}

// Bytes a second until the receiver has read the last one and closed.
int bulk(const char* address, const char* port, double seconds)
{
    int fd = connected(address, port);
    std::vector<char> out(256 * 1024, 'b');
    auto start = Clock::now();
    auto end = start + std::chrono::duration<double>(seconds);
    std::uint64_t bytes = 0;
    for (; Clock::now() < end; bytes += out.size()) {
        send_all(fd, out.data(), out.size());
    }
    char rest;
    if (shutdown(fd, SHUT_WR) != 0 || recv(fd, &rest, 1, 0) != 0) {
        give_up("the end");
    }
    print_rate(bytes, start);
    return 0;
}

} // namespace

int main(int argc, char** argv)
{
    std::string mode = argc > 1 ? argv[1] : "";
    spin = argc > 4 && std::string(argv[argc - 1]) == "spin";
    argc -= spin ? 1 : 0;
    if (mode == "serve" && argc == 4) {
        return serve(argv[2], argv[3], echo);
    }
    if (mode == "answer" && argc == 4) {
        return answer_all(argv[2], argv[3]);
    }
    if (mode == "discard" && argc == 4) {
        return serve(argv[2], argv[3], discard);
    }
    if (mode == "pingpong" && argc == 6) {
        return pingpong(argv[2], argv[3], std::atof(argv[4]), static_cast<std::size_t>(std::atoi(argv[5])));
    }
    if (mode == "memcached" && argc == 6) {
        return ask_memcached(argv[2], argv[3], std::atof(argv[4]), std::atoi(argv[5]));
    }
    if (mode == "ask" && argc == 6) {
        return ask_echo(argv[2], argv[3], std::atof(argv[4]), std::atoi(argv[5]));
    }
    if (mode == "bulk" && argc == 5) {
        return bulk(argv[2], argv[3], std::atof(argv[4]));
    }
    std::fprintf(stderr,
        "usage: bench-sockets serve ADDRESS PORT [spin] | pingpong ADDRESS PORT SECONDS BYTES [spin] |\n"
        "       memcached ADDRESS PORT SECONDS CONNECTIONS | ask ADDRESS PORT SECONDS CONNECTIONS |\n"
        "       answer ADDRESS PORT | discard ADDRESS PORT | bulk ADDRESS PORT SECONDS\n");
    return 2;
}
