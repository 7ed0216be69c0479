// The work that bench-stack measures, the same code for every side. A worker is a thread that plays clients and servers
// of its share of the concurrent operations in one event loop. Each worker has its own counter; nothing else is shared.
//
//   conn   connect, a request, a response, close by the server, close by the client
//   rr     request and response on connections that stay
//   udp    request and response by datagrams; what is lost is asked again
//   bulk   one stream per worker, counted in bytes at the receiver
//
// With `cross` the clients of a worker ask the server of the next one.
#pragma once

#include <sys/epoll.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <vector>

#include "base/ownership.hpp"
#include "benchmarks/stack/side.hpp"

namespace bench {

struct alignas(base::apart) Progress {
    std::atomic<std::uint64_t> done{0};
    std::atomic<std::uint64_t> lost{0};
    std::atomic<bool> ready{false}; // all that stays open is open
};

// Where workers wait for each other, if each asks the next one's server: no connect before that listens, and no close
// while another still takes an end for an error.
struct Meeting {
    std::atomic<unsigned> serving{0};
    std::atomic<unsigned> left{0};
};

inline unsigned worker_count(const Plan& plan)
{
    return static_cast<unsigned>(plan.cpus.size());
}

inline constexpr int look_up_ms = 50; // how often a worker without events looks whether it should stop

template <typename Side>
class Worker {
public:
    Worker(Side& side, const Plan& plan, unsigned index, Progress& progress, Meeting& meeting,
        const std::atomic<bool>& stop)
        : side_(side), plan_(plan), index_(index), asks_(plan.cross ? (index + 1) % worker_count(plan) : index),
          progress_(progress), meeting_(meeting), stop_(stop), set_(side), buffer_(1 << 18),
          share_(std::max(1U, plan.concurrency / worker_count(plan)))
    {
    }

    void conn()
    {
        listen();
        auto step = [this](End& e, std::uint32_t events) { e.server ? serve_once(e) : ask_once(e, events); };
        meet(step);
        for (unsigned i = 0; i < share_; ++i) {
            connect(*ends_.emplace_back(std::make_unique<End>()));
        }
        progress_.ready = true;
        loop(step);
    }

    void rr()
    {
        listen();
        unsigned opened = 0;
        unsigned waiting = 0;
        auto step = [&](End& e, std::uint32_t events) {
            if (e.server) {
                echo(e);
            } else if (!e.connected) {
                e.connected = true;
                --waiting;
                send(e);
            } else if ((events & EPOLLIN) != 0) {
                ask_again(e);
            }
        };
        meet(step);
        while (!stop_ && opened < share_) { // in waves, since a backlog is finite
            for (; waiting < 256 && opened < share_; ++opened, ++waiting) {
                connect(*ends_.emplace_back(std::make_unique<End>()));
            }
            once(step);
        }
        while (!stop_ && waiting != 0) {
            once(step);
        }
        progress_.ready = true;
        loop(step);
    }

    void udp()
    {
        End server;
        server.server = true;
        server.socket = side_.open_server(SOCK_DGRAM, index_);
        set_.add(server.socket, EPOLLIN, &server);
        auto step = [this](End& e, std::uint32_t) { e.server ? serve_datagrams(e) : take_datagram(e); };
        meet(step);
        for (unsigned i = 0; i < share_; ++i) {
            End& e = *ends_.emplace_back(std::make_unique<End>());
            e.socket = side_.open(SOCK_DGRAM);
            must(side_.connect(e.socket, i, asks_), "connect");
            set_.add(e.socket, EPOLLIN, &e);
        }
        progress_.ready = true;
        for (auto& e : ends_) {
            ask_datagram(*e);
        }
        auto last_look = std::chrono::steady_clock::now();
        while (!stop_) {
            once(step);
            auto now = std::chrono::steady_clock::now();
            if (now - last_look > std::chrono::milliseconds(4 * look_up_ms)) {
                last_look = now;
                ask_lost_again();
            }
        }
        set_.remove(server.socket);
        finish();
    }

    void bulk()
    {
        listen();
        auto step = [this](End& e, std::uint32_t) {
            if (!e.server) {
                std::size_t size = std::min(buffer_.size(), plan_.bytes);
                while (!stop_ && must(e.socket.send(buffer_.data(), size), "send") > 0) {
                }
                return;
            }
            ssize_t n;
            while ((n = must(e.socket.recv(buffer_.data(), buffer_.size()), "recv")) > 0) {
                base::count(progress_.done, static_cast<std::uint64_t>(n));
            }
        };
        meet(step);
        connect(*ends_.emplace_back(std::make_unique<End>()));
        progress_.ready = true;
        loop(step);
    }

private:
    struct End {
        typename Side::Socket socket;
        bool server = false;
        bool connected = false;
        bool answered = true;
        std::size_t got = 0;
        std::uint32_t round = 0;
        std::uint32_t place = 0; // among accepted_
    };

    template <typename Step>
    void once(Step&& step)
    {
        set_.wait(look_up_ms, [&](void* user, std::uint32_t events) {
            auto& e = *static_cast<End*>(user);
            if (&e == &listener_) {
                accept_all(step);
            } else {
                step(e, events);
            }
        });
    }
    template <typename Step>
    void loop(Step&& step)
    {
        while (!stop_.load(std::memory_order_relaxed)) {
            once(step);
        }
        finish();
    }
    // All servers are there when this returns. Meanwhile ours serves: another worker may be further on.
    template <typename Step>
    void meet(Step&& step)
    {
        meeting_.serving.fetch_add(1);
        while (plan_.cross && !stop_ && meeting_.serving.load() < worker_count(plan_)) {
            once(step);
        }
    }
    void finish()
    {
        meeting_.left.fetch_add(1);
        while (plan_.cross && meeting_.left.load() < worker_count(plan_)) {
            set_.wait(1, [](void*, std::uint32_t) {});
        }
        for (auto* list : {&ends_, &accepted_}) {
            for (auto& e : *list) {
                set_.remove(e->socket);
                e->socket.close();
            }
        }
        if (listening_) {
            set_.remove(listener_.socket);
        }
    }

    void listen()
    {
        listener_.socket = side_.open_server(SOCK_STREAM, index_);
        listening_ = true;
        set_.add(listener_.socket, EPOLLIN, &listener_);
    }
    template <typename Step>
    void accept_all(Step&& step)
    {
        for (;;) {
            if (spare_ == nullptr) {
                spare_ = std::make_unique<End>();
            }
            End& e = *spare_;
            if (must(side_.accept(listener_.socket, e.socket), "accept") < 0) {
                return;
            }
            e = End{std::move(e.socket)};
            e.server = e.connected = true;
            e.place = static_cast<std::uint32_t>(accepted_.size());
            accepted_.push_back(std::move(spare_));
            set_.add(e.socket, EPOLLIN, &e);
            step(e, 0); // the request may be there already
        }
    }
    void connect(End& e)
    {
        e.socket = side_.open(SOCK_STREAM);
        e.connected = false;
        e.got = 0;
        must(side_.connect(e.socket, turn_++, asks_), "connect");
        set_.add(e.socket, EPOLLIN | EPOLLOUT, &e);
    }
    void send(End& e)
    {
        if (must(e.socket.send(buffer_.data(), plan_.bytes), "send") != static_cast<ssize_t>(plan_.bytes)) {
            give_up("send of a whole message", -EAGAIN);
        }
    }
    // How many bytes of the message are still missing; -1 at the end of the stream.
    ssize_t receive(End& e)
    {
        while (e.got < plan_.bytes) {
            ssize_t n = must(e.socket.recv(buffer_.data(), plan_.bytes - e.got), "recv");
            if (n == 0) {
                return -1;
            }
            if (n < 0) {
                break;
            }
            e.got += static_cast<std::size_t>(n);
        }
        return static_cast<ssize_t>(plan_.bytes - e.got);
    }

    void serve_once(End& e)
    {
        ssize_t missing = receive(e);
        if (missing > 0) {
            return;
        }
        if (missing == 0) {
            send(e);
        }
        drop(e);
    }
    // The server closes first, so that the TIME-WAIT is its and ephemeral ports come back.
    void drop(End& e)
    {
        set_.remove(e.socket);
        e.socket.close();
        std::uint32_t place = e.place;
        spare_ = std::move(accepted_[place]);
        accepted_[place] = std::move(accepted_.back());
        if (accepted_[place] != nullptr) {
            accepted_[place]->place = place;
        }
        accepted_.pop_back();
    }
    void ask_once(End& e, std::uint32_t events)
    {
        if (!e.connected) {
            if ((events & (EPOLLERR | EPOLLHUP)) != 0) {
                give_up("connection refused or lost", -ECONNREFUSED);
            }
            e.connected = true;
            send(e);
        }
        if ((events & EPOLLIN) == 0 || receive(e) != 0) {
            return;
        }
        char beyond;
        ssize_t end = must(e.socket.recv(&beyond, 1), "recv");
        if (end > 0) {
            give_up("more than the response", -EBADMSG);
        }
        if (end == 0) {
            set_.remove(e.socket);
            e.socket.close();
            base::count(progress_.done);
            connect(e);
        }
    }
    void echo(End& e)
    {
        ssize_t missing = receive(e);
        if (missing == 0) {
            e.got = 0;
            send(e);
        }
    }
    void ask_again(End& e)
    {
        if (receive(e) == 0) {
            e.got = 0;
            base::count(progress_.done);
            send(e);
        }
    }

    void ask_datagram(End& e)
    {
        e.answered = false;
        std::memcpy(buffer_.data(), &e.round, sizeof e.round);
        must(e.socket.send(buffer_.data(), plan_.bytes), "send");
    }
    void serve_datagrams(End& e)
    {
        typename Side::Address from;
        ssize_t n;
        while ((n = must(side_.receive_from(e.socket, buffer_.data(), buffer_.size(), from), "recvfrom")) >= 0) {
            must(side_.send_to(e.socket, buffer_.data(), static_cast<std::size_t>(n), from), "sendto");
        }
    }
    void take_datagram(End& e)
    {
        ssize_t n;
        while ((n = must(e.socket.recv(buffer_.data(), buffer_.size()), "recv")) >= 0) {
            if (!e.answered && std::memcmp(buffer_.data(), &e.round, sizeof e.round) == 0) {
                ++e.round;
                base::count(progress_.done);
                ask_datagram(e);
            }
        }
    }
    void ask_lost_again()
    {
        for (auto& e : ends_) {
            if (e->got == e->round) { // no answer since the last look
                base::count(progress_.lost);
                ask_datagram(*e);
            }
            e->got = e->round;
        }
    }

    Side& side_;
    const Plan& plan_;
    unsigned index_;
    unsigned asks_; // the worker whose server is asked
    Progress& progress_;
    Meeting& meeting_;
    const std::atomic<bool>& stop_;
    typename Side::Set set_;
    std::vector<char> buffer_;
    unsigned share_;
    unsigned turn_ = 0;
    End listener_;
    bool listening_ = false;
    std::vector<std::unique_ptr<End>> ends_;
    std::vector<std::unique_ptr<End>> accepted_;
    std::unique_ptr<End> spare_;
};

} // namespace bench
