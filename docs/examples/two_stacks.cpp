// Two TCP/IP stacks in one process, joined by a simulated link, talk TCP: first with protocol threads in real time,
// then in virtual time, where one thread steps everything and 20 ms of delay cost nothing.
#include <sys/socket.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include "embed/netd.hpp"

namespace {

constexpr const char* server_address = "10.0.0.2:7";
const std::string request = "hello over two stacks";

// Socket calls return a negative errno where the kernel's would return -1.
ssize_t expect(ssize_t result, const char* what)
{
    if (result < 0) {
        std::fprintf(stderr, "%s: %s\n", what, strerror(static_cast<int>(-result)));
        std::exit(1);
    }
    return result;
}

void start(embed::Stack& client, embed::Stack& server, base::Micros delay)
{
    std::string error;
    drivers::SimLink link;
    drivers::SimLinkOptions wire;
    wire.a.send.delay = wire.b.send.delay = delay;
    if (!embed::join(client, "10.0.0.1/24", server, "10.0.0.2/24", wire, link, error) || !client.start(error) ||
        !server.start(error)) {
        std::fprintf(stderr, "%s\n", error.c_str());
        std::exit(1);
    }
}

embed::Socket listen(embed::Stack& server)
{
    embed::Socket listener;
    expect(embed::Socket::open(server, SOCK_STREAM, listener), "socket");
    expect(listener.bind(*embed::parse_endpoint(server_address)), "bind");
    expect(listener.listen(16), "listen");
    return listener;
}

std::string read_to_end(embed::Socket& s)
{
    std::string all;
    char buffer[4096];
    while (ssize_t n = expect(s.recv(buffer), "recv")) {
        all.append(buffer, static_cast<std::size_t>(n));
    }
    return all;
}

// Accepts one connection and sends back what it says, once it has said everything.
void echo_once(embed::Socket& listener)
{
    embed::Socket connection;
    base::Endpoint peer;
    expect(listener.accept(connection, &peer), "accept");
    std::string said = read_to_end(connection);
    std::printf("  server: %s said %zu bytes\n", to_string(peer).c_str(), said.size());
    expect(connection.send(said), "send");
}

void check(const std::string& answer)
{
    std::printf("  client: the answer is \"%s\"\n", answer.c_str());
    if (answer != request) {
        std::exit(1);
    }
}

void with_threads()
{
    std::printf("with protocol threads:\n");
    embed::Stack client{embed::StackConfig{.name = "client"}};
    embed::Stack server{embed::StackConfig{.name = "server"}};
    start(client, server, base::Micros{0});
    embed::Socket listener = listen(server);
    std::thread echo([&] { echo_once(listener); });

    embed::Socket s;
    expect(embed::Socket::open(client, SOCK_STREAM, s), "socket");
    expect(s.connect(*embed::parse_endpoint(server_address)), "connect");
    expect(s.send(request), "send");
    expect(s.shutdown(SHUT_WR), "shutdown");
    check(read_to_end(s));
    echo.join();
}

// One thread plays both programs. Calls block as usual: while they do, the world moves.
void in_virtual_time()
{
    std::printf("in virtual time, 10 ms each way:\n");
    embed::Simulation world{42};
    embed::Stack client{embed::StackConfig{.simulation = &world, .seed = 1}};
    embed::Stack server{embed::StackConfig{.simulation = &world, .seed = 2}};
    start(client, server, base::millis(10));
    embed::Socket listener = listen(server);

    base::Instant before = world.now();
    embed::Socket s;
    expect(embed::Socket::open(client, SOCK_STREAM, s), "socket");
    expect(s.connect(*embed::parse_endpoint(server_address)), "connect");
    std::printf("  client: connected after %lld us\n", static_cast<long long>((world.now() - before).count()));
    expect(s.send(request), "send");
    expect(s.shutdown(SHUT_WR), "shutdown");
    echo_once(listener);
    check(read_to_end(s));
    std::printf("  client: all over after %lld us\n", static_cast<long long>((world.now() - before).count()));
}

} // namespace

int main()
{
    with_threads();
    in_virtual_time();
    return 0;
}
