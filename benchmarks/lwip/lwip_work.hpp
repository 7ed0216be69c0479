// The workloads on lwIP's raw API, clients and servers in one thread; what an operation is: benchmarks/README.md. Each
// response is compared with what was expected; a wrong byte ends the program.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace lwip_bench {

struct WorkOptions {
    std::string workload;     // conn, rr, bulk, udp or idle
    unsigned concurrency = 1; // operations outstanding; connections of rr and idle, sockets of udp
    std::size_t bytes = 64;   // of a request and of a response; bulk: of a write
    bool copy = false;        // bulk: copy at both ends, as a socket would
};

class Work {
public:
    virtual ~Work() = default;
    // Called when the wire is empty: begin what waits. All that is started before is done then.
    virtual void refill() {}
    // Every connection is open.
    virtual bool ready() const { return true; }

    std::uint64_t operations = 0; // done since the beginning; bulk: bytes received
};

std::unique_ptr<Work> make_tcp_work(const WorkOptions& options);
std::unique_ptr<Work> make_bulk_work(const WorkOptions& options);
std::unique_ptr<Work> make_udp_work(const WorkOptions& options);

// A request: a stamp that tells it from others, then a pattern.
class Message {
public:
    explicit Message(std::size_t bytes);

    // The request of that stamp, until the next call.
    const unsigned char* with(std::uint64_t stamp);
    std::size_t size() const { return size_; }

private:
    std::size_t size_;
    std::unique_ptr<unsigned char[]> bytes_;
};

} // namespace lwip_bench
