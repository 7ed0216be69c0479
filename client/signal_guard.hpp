// Signals blocked and cancellation off for a scope: for round trips to netd that must not be left half way. Costs two
// system calls, so never on a data path. CancelGuard alone costs none: for calls that are no cancellation points.
#pragma once

#include <pthread.h>

#include <csignal>
#include <initializer_list>

namespace client {

class CancelGuard {
public:
    CancelGuard() { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before_); }
    ~CancelGuard() { pthread_setcancelstate(before_, nullptr); }
    CancelGuard(const CancelGuard&) = delete;
    CancelGuard& operator=(const CancelGuard&) = delete;

private:
    int before_ = 0;
};

class SignalGuard {
public:
    explicit SignalGuard(bool wanted = true) : wanted_(wanted)
    {
        if (!wanted) {
            return;
        }
        sigset_t all;
        sigfillset(&all);
        for (int fault : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP}) {
            sigdelset(&all, fault); // a blocked fault would kill instead of reaching its handler
        }
        pthread_sigmask(SIG_SETMASK, &all, &before_);
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_before_);
    }
    ~SignalGuard()
    {
        if (!wanted_) {
            return;
        }
        pthread_setcancelstate(cancel_before_, nullptr);
        pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }
    SignalGuard(const SignalGuard&) = delete;
    SignalGuard& operator=(const SignalGuard&) = delete;

private:
    bool wanted_;
    sigset_t before_;
    int cancel_before_ = 0;
};

} // namespace client
