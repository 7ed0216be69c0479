// Which families a poll looks at: nobody is forgotten, and who is quiet costs little.
#include <catch2/catch.hpp>

#include "gateway/poll_set.hpp"

using namespace gateway;

namespace {

constexpr std::size_t families = 40;

struct Polled {
    explicit Polled(std::size_t n, bool all_quiet = false) : set(all_quiet)
    {
        for (std::size_t i = 0; i < n; ++i) {
            auto c = std::make_unique<Client>();
            std::string error;
            SegmentOptions o;
            o.sockets = 64 * 65; // two words of summary
            o.ring_memory = 4096;
            REQUIRE(c->segment.create({-1}, o, {}, error));
            set.add(*c, 0);
            clients.push_back(std::move(c));
        }
    }
    void name(std::size_t i, std::uint64_t bits = 1) { clients[i]->view().marks(0).summary[1].store(bits); }
    bool says(const Client& c) const { return c.view().marks(0).summary[1].load() != 0; }
    // As GatewayCpu::poll; whether `i` was among those that it looked at closely.
    bool poll(std::size_t i)
    {
        set.listen(now);
        bool heard = false;
        for (auto& f : set.lively()) {
            f.said |= says(*f.client);
            heard |= f.client == clients[i].get();
        }
        set.sort([](const Client&) { return false; });
        return heard;
    }
    void fall_quiet()
    {
        for (std::uint32_t i = 0; i < 2 * PollSet::polls_until_quiet; ++i) {
            poll(0);
        }
    }
    unsigned polls_until_heard(std::size_t i)
    {
        unsigned n = 1;
        while (!poll(i)) {
            REQUIRE(++n < 1000);
        }
        return n;
    }

    base::Instant now{base::seconds(1)};
    PollSet set;
    std::vector<std::unique_ptr<Client>> clients;
};

} // namespace

TEST_CASE("families that say nothing become quiet, those that speak do not")
{
    Polled p(families);
    REQUIRE(p.set.lively().size() == families);
    p.name(7);
    p.fall_quiet();
    REQUIRE(p.set.lively().size() == 1);
    REQUIRE(p.set.lively()[0].client == p.clients[7].get());
}

TEST_CASE("a family with something left over stays lively")
{
    Polled p(2);
    for (std::uint32_t i = 0; i < 4 * PollSet::polls_until_quiet; ++i) {
        p.set.listen(p.now);
        p.set.sort([&](const Client& c) { return &c == p.clients[1].get(); });
    }
    REQUIRE(p.set.lively().size() == 1);
    REQUIRE(p.set.lively()[0].client == p.clients[1].get());
}

TEST_CASE("whoever was quiet is heard within a few polls, however many the others are and whatever they do")
{
    Polled p(families);
    p.fall_quiet();
    REQUIRE(p.set.lively().empty());
    unsigned most = (families + PollSet::looks_min - 1) / PollSet::looks_min;
    for (std::size_t i = 0; i < families; ++i) {
        if (i % 3 == 0) {
            p.name((i * 7) % families, ~std::uint64_t{0}); // one that shouts, and is moved
        }
        p.name(i);
        REQUIRE(p.polls_until_heard(i) <= most);
    }
}

TEST_CASE("time that has passed since the last poll brings more looks")
{
    Polled p(families);
    p.fall_quiet();
    p.name(families - 1);
    p.now += PollSet::look_every * families;
    REQUIRE(p.poll(families - 1));
}

TEST_CASE("before a CPU sleeps it looks at all families, and what it sees is heard by the next poll")
{
    Polled p(families);
    p.fall_quiet();
    auto says = [&](const Client& c) { return p.says(c); };
    REQUIRE_FALSE(p.set.pending(says));
    for (std::size_t i : {families - 1, std::size_t{3}, families / 2}) {
        p.name(i);
        REQUIRE(p.set.pending(says));
        REQUIRE(p.poll(i));
        p.name(i, 0);
        p.fall_quiet();
    }
    p.name(5); // names words without marks: nothing to wake for
    REQUIRE_FALSE(p.set.pending([](const Client&) { return false; }));
}

TEST_CASE("a family that goes is forgotten, quiet or not")
{
    Polled p(3);
    p.set.remove(*p.clients[0]);
    p.fall_quiet();
    p.set.remove(*p.clients[1]);
    p.name(0);
    p.name(1);
    REQUIRE_FALSE(p.set.pending([](const Client&) { return true; }));
    p.name(2);
    REQUIRE(p.poll(2));
    REQUIRE(p.set.lively().size() == 1);
}

TEST_CASE("where a visit is all that a mark gets, every poll looks at all families")
{
    Polled p(families, true);
    p.fall_quiet();
    for (std::size_t i = 0; i < families; ++i) {
        p.name(i);
        REQUIRE(p.poll(i));
        p.name(i, 0);
    }
}
