#include "embed/events.hpp"

#include <algorithm>

#include "base/check.hpp"
#include "client/ready_bits.hpp"
#include "client/socket_calls.hpp"
#include "embed/stack.hpp"

namespace embed {

int Events::open(Stack& stack)
{
    INVARIANT(session_ == nullptr);
    client::Session& session = stack.session();
    if (int error = client::make_set_waiter(session, waiter_)) {
        return error;
    }
    session_ = &session;
    by_slot_.resize(session.view.sockets());
    return 0;
}

void Events::close()
{
    if (session_ == nullptr) {
        return;
    }
    for (const Interest& i : by_slot_) {
        if (i.events != 0) {
            client::sock_unwatch(*session_, i.sock, waiter_.index);
        }
    }
    session_->host->drop_waiter(waiter_);
    session_ = nullptr;
    by_slot_.clear();
    ready_.clear();
}

void Events::add(client::Sock k, std::uint32_t interest, void* user)
{
    Interest& i = by_slot_[k.slot];
    INVARIANT(i.events == 0 && interest != 0);
    bool queued = i.queued;
    i = {k, interest, queued, user};
    client::sock_watch(*session_, k, waiter_.index);
    queue(k.slot);
}

// A slot that is still queued is skipped, or stands for the socket that has the slot by then.
void Events::remove(client::Sock k)
{
    Interest& i = by_slot_[k.slot];
    INVARIANT(i.events != 0 && i.sock.generation == k.generation);
    client::sock_unwatch(*session_, i.sock, waiter_.index);
    i.events = 0;
}

void Events::queue(std::uint32_t slot)
{
    Interest& i = by_slot_[slot];
    if (!i.queued && i.events != 0) {
        i.queued = true;
        ready_.push_back(slot);
    }
}

int Events::collect(std::span<Event> out)
{
    client::take_ready_bits(session_->view, waiter_.index, [this](std::uint32_t slot) { queue(slot); });
    std::swap(ready_, looking_);
    std::size_t found = 0;
    for (std::size_t at = 0; at < looking_.size(); ++at) {
        if (at + 1 < looking_.size()) {
            session_->view.fetch_slot(looking_[at + 1]);
        }
        if (found == out.size()) { // the rest is first next time
            ready_.insert(ready_.begin(), looking_.begin() + static_cast<std::ptrdiff_t>(at), looking_.end());
            break;
        }
        Interest& i = by_slot_[looking_[at]];
        i.queued = false;
        std::uint32_t events = i.events != 0 ? client::sock_readiness(*session_, i.sock, i.events) : 0;
        if (events == 0) {
            continue;
        }
        out[found++] = {i.user, events};
        if ((i.events & EPOLLET) == 0) {
            queue(looking_[at]);
        }
    }
    looking_.clear();
    return static_cast<int>(found);
}

// Armed first, then a last look: news after the look finds the waiter armed.
int Events::sleep(base::Instant deadline)
{
    auto pending = [this] { return client::ready_bits_pending(session_->view, waiter_.index); };
    client::arm_waiter(*session_, waiter_);
    int rc = pending() ? 0 : session_->host->sleep(waiter_, deadline);
    session_->view.waiter(waiter_.index).sleeping.store(0, std::memory_order_relaxed);
    return rc;
}

int Events::wait(std::span<Event> out, base::Instant deadline)
{
    INVARIANT(session_ != nullptr && !out.empty());
    for (;;) {
        int found = collect(out);
        if (found != 0) {
            return found;
        }
        if (deadline != base::never && session_->host->now() >= deadline) {
            return 0;
        }
        int rc = sleep(deadline);
        if (rc != 0 && rc != -ETIMEDOUT) {
            return rc;
        }
    }
}

} // namespace embed
