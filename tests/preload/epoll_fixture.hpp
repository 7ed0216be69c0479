// Sets for the cases about epoll: filled, listed as descriptors, waited in by threads.
#pragma once

#include <poll.h>
#include <sys/syscall.h>

#include <atomic>
#include <fstream>
#include <functional>
#include <string>
#include <thread>

#include "client/preload/poll_set.hpp"
#include "tests/preload/fixture.hpp"

namespace fake {

using namespace preload;

inline constexpr timespec at_once{0, 0};

struct Set {
    Set() : s(attached()), fd(::epoll_create1(EPOLL_CLOEXEC)) { REQUIRE(fd >= 0); }
    ~Set() { ::close(fd); }
    int control(int op, int target, std::uint32_t events)
    {
        std::lock_guard lock(table_mutex);
        epoll_event event{events, {}};
        event.data.fd = target;
        Entry* e = peek(target);
        return op == EPOLL_CTL_ADD   ? set.add(fd, &s, target, *e, event)
               : op == EPOLL_CTL_MOD ? set.modify(fd, target, *e, event)
                                     : set.remove(fd, target, *e);
    }
    int add(int target, std::uint32_t events) { return control(EPOLL_CTL_ADD, target, events); }
    // Events of descriptor `only`, or all; 0 when there are none now.
    std::uint32_t now(int only)
    {
        epoll_event out[16];
        int n = set.wait(fd, out, 16, &at_once, nullptr);
        for (int i = 0; i < n; ++i) {
            if (out[i].data.fd == only) {
                return out[i].events;
            }
        }
        return 0;
    }
    int sleep(epoll_event* out, int max) { return set.wait(fd, out, max, nullptr, nullptr); }

    client::Session& s;
    EpollSet set;
    int fd;
};

inline constexpr timespec patience{5, 0}; // what is lost is missed after this; nothing is measured

// The set's descriptor in the table, as epoll_create leaves it there.
struct Listed {
    explicit Listed(Set& set) : fd(set.fd)
    {
        std::lock_guard lock(table_mutex);
        entry = new_entry(EntryState::epoll);
        entry->set = &set.set;
        REQUIRE(install(fd, entry) == nullptr);
    }
    ~Listed()
    {
        {
            std::lock_guard lock(table_mutex);
            uninstall(fd);
            entry->set = nullptr;
        }
        unref(entry);
    }
    int fd;
    Entry* entry;
};

inline int polled(int fd, const timespec& timeout)
{
    pollfd one{fd, POLLIN, 0};
    return poll_mixed(&one, 1, &timeout, nullptr);
}

// A thread in a call that waits.
class Early {
public:
    explicit Early(Set& set)
        : Early([&set] {
              epoll_event out[1];
              return set.set.wait_for_kernel(set.fd, out, 1, &patience, nullptr);
          })
    {
    }
    explicit Early(std::function<int()> call)
    {
        thread_ = std::thread([this, call] {
            id_ = gettid();
            found_ = call();
        });
        while (!asleep()) {
            std::this_thread::yield();
        }
    }
    ~Early() { thread_.join(); }
    int end() const
    {
        while (found_ < 0) {
            std::this_thread::yield();
        }
        return found_;
    }
    Early(const Early&) = delete;
    Early& operator=(const Early&) = delete;
    int found() const { return found_; } // -1: waits still

private:
    // In a system call that waits.
    bool asleep() const
    {
        std::ifstream in("/proc/self/task/" + std::to_string(id_.load()) + "/syscall");
        int number = -1;
        return in >> number && (number == SYS_epoll_pwait2 || number == SYS_ppoll);
    }

    std::atomic<pid_t> id_{0};
    std::atomic<int> found_{-1};
    std::thread thread_;
};

} // namespace fake
