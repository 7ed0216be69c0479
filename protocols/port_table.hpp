// Explicit binds of one protocol, replicated on every CPU: a bind completes when each CPU has reserved the port, in the
// same order of CPUs for every bind of that port, so two racing binds meet at the first CPU and one of them wins there.
// PortTable: owner = its domain's CPU; everything o.
#pragma once

#include <cstdint>
#include <memory>

#include "base/error.hpp"
#include "base/net_addr.hpp"
#include "base/ownership.hpp"

namespace protocols {

struct Socket;

struct PortReservation {
    base::Endpoint local;          // addr may be unspecified (wildcard)
    const Socket* owner = nullptr; // identity only, never dereferenced on a foreign CPU
    bool reuse_addr = false;
    bool reuse_port = false;
    bool v6_only = false;      // "::" leaves IPv4 alone
    std::uint32_t user_id = 0; // SO_REUSEPORT shares between sockets of one user only
    bool listening = false;
    base::CpuId cpu = base::no_cpu; // where the socket lived when it bound
};

struct alignas(base::apart) PortTable {
    PortTable();
    ~PortTable();
    // address_in_use by the rules of Linux's bind (man 7 socket, SO_REUSEADDR and SO_REUSEPORT): wildcard against any
    // address conflicts; both with reuse_port and of one user are fine; both with reuse_addr are fine unless one
    // listens.
    base::Error reserve(const PortReservation& r);
    void release(const Socket* owner);
    // listen(): conflicts with another listener on an overlapping address unless both have reuse_port.
    base::Error set_listening(const Socket* owner);
    void clear_listening(const Socket* owner); // undoes it, when another CPU refused
    // The reservation that reserve(r) would meet, and the CPU that said it owned the socket; null = none.
    const Socket* conflicting(const PortReservation& r, base::CpuId& cpu) const;
    std::size_t size() const;
    bool any_on_port(std::uint16_t port) const;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

} // namespace protocols
