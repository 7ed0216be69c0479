// The socket calls of the interface: descriptors on one side, sockets of the stack on the other. A descriptor is a real
// one of the kernel (a socket that nobody uses), so that the tool and its scripts may close it and ask it for TCP_INFO
// by themselves. Results are >= 0 or a negative errno. Any thread; blocking calls block their thread.
#pragma once

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <map>
#include <mutex>
#include <optional>

#include "client/socket_calls.hpp"
#include "tests/packetdrill/world.hpp"

namespace packetdrill {

class Calls {
public:
    explicit Calls(World& w) : world_(w) {}
    ~Calls();

    int socket(int domain, int type, int protocol);
    int bind(int fd, const sockaddr* addr, socklen_t size);
    int listen(int fd, int backlog);
    int accept(int fd, sockaddr* addr, socklen_t* size);
    int connect(int fd, const sockaddr* addr, socklen_t size);
    int shutdown(int fd, int how);
    int close(int fd);

    ssize_t recvmsg(int fd, msghdr* m, int flags);
    ssize_t recvfrom(int fd, void* data, std::size_t size, int flags, sockaddr* from, socklen_t* from_size);
    ssize_t sendmsg(int fd, const msghdr* m, int flags);
    ssize_t sendto(int fd, const void* data, std::size_t size, int flags, const sockaddr* to, socklen_t to_size);
    ssize_t readv(int fd, const iovec* parts, int count);
    ssize_t writev(int fd, const iovec* parts, int count);

    int fcntl(int fd, int command, int argument);
    int ioctl(int fd, unsigned long request, int* argument);
    int getsockopt(int fd, int level, int name, void* value, socklen_t* size);
    int setsockopt(int fd, int level, int name, const void* value, socklen_t size);

    int poll(pollfd* fds, nfds_t count, int ms);
    int epoll_create(int size);
    int epoll_ctl(int epoll, int operation, int fd, epoll_event* event);
    int epoll_wait(int epoll, epoll_event* events, int max, int ms);

    int pipe(int fds[2]);
    ssize_t splice(int from, loff_t* from_at, int to, loff_t* to_at, std::size_t count, unsigned flags);
    ssize_t sendfile(int to, int from, off_t* at, std::size_t count);

    bool is_ours(int fd); // a socket of the stack
    bool owns(int fd);    // that, or an event set

private:
    struct Interest {
        client::Sock sock;
        epoll_event event{};
        bool armed = true; // false: EPOLLONESHOT has reported
    };
    struct EventSet {
        embed::Events events;
        std::map<int, Interest> members;
    };

    std::optional<client::Sock> find(int fd);
    int no_socket(int fd);
    int hand_out(client::Sock k);
    void configure(client::Sock k, int type);
    std::shared_ptr<EventSet> find_set(int epoll);
    void leave_sets(int fd);
    base::Instant deadline(int ms);
    int add_member(EventSet& set, int fd, const epoll_event& event);
    int remove_member(EventSet& set, int fd);

    World& world_;
    std::mutex mutex_; // the tables
    std::map<int, client::Sock> sockets_;
    std::map<int, std::shared_ptr<EventSet>> sets_;
};

} // namespace packetdrill
