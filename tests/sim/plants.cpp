#include "tests/sim/plants.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>

#include "base/plant.hpp"

namespace sim {

namespace {

using base::Plant;

constexpr rlim_t cpu_seconds_max = 15;

struct Named {
    Plant plant;
    const char* name;
    const char* what;
};

constexpr Named plants[] = {
    {Plant::lost_doorbell, "lost-doorbell", "a CPU that sleeps is not rung for a message"},
    {Plant::lost_mark_doorbell, "lost-mark-doorbell", "an application does not ring for its marks and requests"},
    {Plant::mark_cleared_late, "mark-cleared-late", "a mark is cleared after the offset was read"},
    {Plant::spill_overtaken, "spill-overtaken", "a message overtakes those that found the ring full"},
    {Plant::free_to_wrong_home, "free-to-wrong-home", "memory goes to the pool of whoever frees it"},
    {Plant::slot_keeps_generation, "stale-id", "a slot that is given out again keeps its generation"},
    {Plant::end_before_last_byte, "end-before-data",
        "the end of the stream shows when the FIN comes, whatever is missing before it"},
    {Plant::space_before_ack, "space-before-ack", "ring space is free before its bytes are acknowledged"},
    {Plant::ring_freed_early, "ring-freed-early", "a closed socket's ring goes home with bytes unacknowledged"},
    {Plant::wrong_start_of_ring, "wrong-start-of-ring", "the reader is not told where the ring starts again"},
    {Plant::writer_not_woken, "writer-not-woken", "nobody tells a writer of space"},
    {Plant::accept_not_told, "accept-not-told", "nobody tells of a connection to accept"},
    {Plant::wakeup_lost, "wakeup-lost", "a waiter in three is not woken"},
    {Plant::timer_lost_at_rearm, "timer-lost-at-rearm", "an armed timer does not move to an earlier deadline"},
    {Plant::persist_not_armed, "persist-not-armed", "a closed window is not probed"},
    {Plant::delayed_ack_never_sent, "delayed-ack-never-sent", "an ACK is put off without a timer"},
    {Plant::window_edge_too_far, "window-edge-too-far", "the window offered is a segment too large"},
    {Plant::fin_not_sent_again, "fin-not-sent-again", "a lost FIN is not sent again"},
    {Plant::sent_again_from_wrong_place, "sent-again-from-wrong-place",
        "a retransmission carries bytes from one too early"},
    {Plant::old_text_not_trimmed, "old-text-not-trimmed", "what was received before is taken for what follows"},
    {Plant::hole_skipped, "hole-skipped", "text out of order is given out without what lies before it"},
    {Plant::fin_counted_as_text, "fin-counted-as-text", "the ACK of a FIN counts as one of a byte"},
    {Plant::checksum_ignored, "checksum-ignored", "TCP checksums are not verified"},
    {Plant::datagram_checksum_ignored, "datagram-checksum-ignored", "UDP checksums are not verified"},
    {Plant::wrong_owner, "wrong-owner", "a packet is handled on the CPU where it arrived"},
    {Plant::credit_leaked, "credit-leaked", "what was half open keeps its place in the backlog"},
    {Plant::half_open_leaked, "half-open-leaked", "half-open connections are not freed"},
    {Plant::asleep_with_text_unsent, "asleep-with-text-unsent",
        "a connection falls asleep without a last look at its ring"},
    {Plant::fragment_misplaced, "fragment-misplaced", "fragments are put together in the order in which they came"},
    {Plant::first_window_too_large, "first-window-too-large", "a SYN-ACK offers more than the ring holds"},
    {Plant::mapped_not_taken, "mapped-not-taken", "a listener of IPv6 takes no IPv4"},
    {Plant::mark_not_echoed, "mark-not-echoed", "congestion marks are not told to the sender"},
    {Plant::mark_lost_in_reassembly, "mark-lost-in-reassembly", "a marked fragment does not mark its datagram"},
    {Plant::advertisement_kept_here, "advertisement-kept-here",
        "what a router says changes addresses and routes of one CPU only"},
    {Plant::gone_address_used, "gone-address-used", "a connection sends from an address that its host has no more"},
    {Plant::ipv4_change_kept_here, "ipv4-change-kept-here",
        "one CPU only hears of a change of IPv4 addresses and routes"},
    {Plant::ace_off_by_one, "ace-off-by-one", "the accurate feedback counts one mark too many at each"},
    {Plant::window_growth_ignored, "window-growth-ignored", "a window that opens lets nothing out by itself"},
    {Plant::ack_of_two_kept, "ack-of-two-kept", "four full segments are acknowledged at once, not two"},
    {Plant::ack_sent_twice, "ack-sent-twice", "the delayed ACK is sent although a segment has said it"},
    {Plant::sacked_sent_again, "sacked-sent-again", "what is SACKed behind a lost segment is sent again with it"},
    {Plant::lost_without_evidence, "lost-without-evidence", "what nothing was heard of yet is taken for lost"},
    {Plant::pace_not_kept, "pace-not-kept", "what is paced goes as soon as the windows let it"},
    {Plant::timeout_not_doubled, "timeout-not-doubled", "text is sent again by the timer without back-off"},
    {Plant::syn_not_spread, "syn-not-spread", "a SYN is sent again without back-off"},
    {Plant::probes_not_spread, "probes-not-spread", "a closed window is probed without back-off"},
    {Plant::timeout_put_off, "timeout-put-off", "text that is sent puts off the timeout of what is under way"},
    {Plant::patience_of_before, "patience-of-before",
        "the user's patience counts from before what is tried again was sent"},
    {Plant::patience_overrun, "patience-overrun", "the user's patience ends with the timeout that comes after it"},
    {Plant::keepalive_unheard, "keepalive-unheard", "a peer that was heard meanwhile is asked whether it is there"},
    {Plant::delayed_ack_put_off, "delayed-ack-put-off", "more text puts the delayed ACK off anew"},
    {Plant::fin_wait_2_short, "fin-wait-2-short", "FIN-WAIT-2 of a closed socket lasts 50 ms"},
    {Plant::time_wait_at_once, "time-wait-at-once", "the end of one TIME-WAIT ends all others"},
};

// True: a seed failed in the child.
bool found(const Named& p, const PlantTest& test, void (*run_seed)(std::uint64_t, std::uint64_t), std::uint64_t& seeds)
{
    for (seeds = 0; seeds < test.seeds; ++seeds) {
        std::fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            int quiet = open("/dev/null", O_WRONLY);
            dup2(quiet, 2);
            rlimit cpu{cpu_seconds_max, cpu_seconds_max}; // a round without end
            setrlimit(RLIMIT_CPU, &cpu);
            switch_on(p.name);
            run_seed(test.seed + seeds, test.steps);
            _exit(0);
        }
        int status = 0;
        waitpid(child, &status, 0);
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
            return true;
        }
    }
    return false;
}

} // namespace

bool switch_on([[maybe_unused]] const std::string& plant)
{
#ifdef NETD_PLANTS
    for (const Named& p : plants) {
        if (plant == p.name) {
            base::the_plant = p.plant;
            return true;
        }
    }
#endif
    return false;
}

void list_plants()
{
    for (const Named& p : plants) {
        std::printf("%-28s %s\n", p.name, p.what);
    }
}

int find_plants(const PlantTest& test, void (*run_seed)(std::uint64_t, std::uint64_t))
{
    int missed = 0;
    unsigned number = 0;
    for (const Named& p : plants) {
        if (number++ % test.parts != test.part) {
            continue;
        }
        std::uint64_t seeds = 0;
        bool good = found(p, test, run_seed, seeds);
        missed += good ? 0 : 1;
        if (good) {
            std::printf("%-28s found by seed %llu\n", p.name, static_cast<unsigned long long>(test.seed + seeds));
        } else {
            std::printf("%-28s NOT FOUND in %llu seeds\n", p.name, static_cast<unsigned long long>(seeds));
        }
    }
    return missed;
}

} // namespace sim
