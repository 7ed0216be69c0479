// What this process is to netd: its settings (from netrun's environment), its membership, its placeholder, and fork.
// Membership comes at the first bind, connect or send of an Internet socket, so that what netrun starts on the way (a
// shell) costs nothing. Any thread.
#pragma once

#include <vector>

#include "client/preload/decide.hpp"
#include "client/session.hpp"

namespace preload {

struct Settings {
    const char* socket_path = nullptr;
    const char* share = nullptr; // the family to join, null = one of our own
    std::uint32_t spin_us = 0;   // how long a call polls before it sleeps, 0 = as it pays
    bool why = false;            // one line a socket on stderr
    bool strict = false;         // what would be the kernel's fails
    std::vector<KernelRule> kernel_rules;
};
const Settings& settings();

// Null and errno ENETDOWN, with one line on stderr, when netd cannot be had.
client::Session* session();
// Null when this process never attached.
client::Session* session_if_attached();

// A descriptor of this library, which the program must not close.
bool is_own(int fd);
bool keeps_own(); // there were any; no call of the C++ runtime, no memory
std::vector<int> own_fds();
void add_own(int fd);
void drop_own(int fd);
// Moves a fresh descriptor out of the program's way, close-on-exec; the old number is closed. -1 and errno on failure.
int keep_own(int fd);

// A new descriptor of the placeholder: a socket to fstat(2), nothing to read and write. -1 and errno.
int placeholder_fd(bool close_on_exec);
// The placeholder takes fd's number; its FD_CLOEXEC stays.
bool placeholder_over(int fd);

// A child that shares our memory (vfork, posix_spawn) may close descriptors, but the table is its parent's.
bool is_foreign_process();

void start(); // constructor: settings, real calls, fork handlers

} // namespace preload
