// Looking before a sleep, for every call that waits: a few looks, then the CPU is offered to whoever shares it, and
// again, for as long as looking has paid lately (base/patience.hpp, one estimate per thread). Who looks is not armed,
// so nobody rings him. A signal handler that runs meanwhile does not end the wait, as if it had run just before the
// call. Internal to client/ and its preload library.
#pragma once

#include <sched.h>

#include "base/patience.hpp"
#include "base/pause.hpp"
#include "client/session.hpp"

namespace client {

struct ThreadPatience {
    base::Patience patience;
    bool yield_first = false; // what we wait for comes from somebody who needs our CPU
};
inline constinit thread_local ThreadPatience thread_patience;

// One wait of this thread, from its first look to the end of its sleep.
class Looking {
public:
    Looking(Session& s, base::Instant deadline) : Looking(s, deadline, s.look_max) {}
    Looking(Session& s, base::Instant deadline, base::Micros most) : s_(s), deadline_(deadline), most_(most) {}
    ~Looking()
    {
        base::Patience& p = thread_patience.patience;
        if (begun_ && met_) {
            p.waited(s_.host->now() - begin_, most_);
        } else if (begun_ && paid_) {
            p.slept(s_.host->now() - begin_, most_);
        } else if (begun_) {
            p.unpaid();
        }
    }
    Looking(const Looking&) = delete;
    Looking& operator=(const Looking&) = delete;

    // True once ready(); never where looking does not pay.
    template <typename Ready>
    bool until(Ready ready)
    {
        return until(ready, [] { return false; });
    }
    // Or once other(), which costs a system call and is asked now and then; not what looking is to pay for.
    template <typename Ready, typename Other>
    bool until(Ready ready, Other other)
    {
        if (most_ == base::Micros{0}) {
            return false;
        }
        begin();
        base::Instant now = begin_;
        base::Instant asked = begin_;
        bool looks = !thread_patience.yield_first;
        while (now - begin_ < limit(now)) {
            for (int i = 0; looks && i < looks_per_yield; ++i) {
                if (ready()) {
                    thread_patience.yield_first = false;
                    return met_ = true;
                }
                base::pause_cpu();
            }
            looks = true;
            sched_yield();
            base::Instant before = now;
            now = s_.host->now();
            thread_patience.patience.yielded(now, now - before);
            if (ready()) {
                thread_patience.yield_first = now - before >= handed_over;
                return met_ = true;
            }
            if (now - asked >= other_every) {
                asked = now;
                if (other()) {
                    paid_ = false;
                    return true;
                }
            }
        }
        return false;
    }
    // What ended the wait would not have been met by looking.
    void unpaid() { paid_ = false; }

private:
    static constexpr int looks_per_yield = 8;
    static constexpr base::Micros handed_over{2}; // a yield that took so long let somebody run
    static constexpr base::Micros other_every{8};

    void begin()
    {
        if (!begun_) {
            begun_ = true;
            begin_ = s_.host->now();
        }
    }
    base::Micros limit(base::Instant now) const
    {
        base::Micros most = std::max(thread_patience.patience.limit(now, most_), s_.look_min);
        return deadline_ == base::never ? most : std::min(most, deadline_ - begin_);
    }

    Session& s_;
    base::Instant deadline_;
    base::Micros most_;
    base::Instant begin_{};
    bool begun_ = false;
    bool met_ = false; // by looking
    bool paid_ = true; // what ended the wait could have been met so
};

} // namespace client
