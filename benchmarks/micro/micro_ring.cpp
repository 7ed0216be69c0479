// Rings and queues between two CPUs: ours, boost's two lock-free ones and a queue under a mutex; 8 and 64 bytes, one at
// a time and in batches of 16.
#include <algorithm>
#include <boost/lockfree/queue.hpp>
#include <boost/lockfree/spsc_queue.hpp>
#include <memory>
#include <mutex>
#include <thread>

#include "benchmarks/micro/micro.hpp"
#include "lwkt/ipiq.hpp"

namespace micro {
namespace {

constexpr std::uint32_t ring_slots = 1024;
constexpr std::uint32_t batch_max = 16;

template <std::size_t Bytes>
struct Block {
    std::uint64_t words[Bytes / 8];
};

template <typename T>
struct OurRing {
    lwkt::Ipiq<T> ring{ring_slots};
    std::uint32_t push(const T* blocks, std::uint32_t n) { return ring.push(blocks, n); }
    std::uint32_t pop(T* out, std::uint32_t n) { return ring.pop(out, n); }
};

template <typename T>
struct BoostSpsc {
    boost::lockfree::spsc_queue<T, boost::lockfree::capacity<ring_slots>> ring;
    std::uint32_t push(const T* blocks, std::uint32_t n) { return static_cast<std::uint32_t>(ring.push(blocks, n)); }
    std::uint32_t pop(T* out, std::uint32_t n) { return static_cast<std::uint32_t>(ring.pop(out, n)); }
};

// Many producers and consumers; knows no batches.
template <typename T>
struct BoostQueue {
    boost::lockfree::queue<T, boost::lockfree::capacity<ring_slots>> ring;
    std::uint32_t push(const T* blocks, std::uint32_t n)
    {
        std::uint32_t done = 0;
        while (done < n && ring.push(blocks[done])) {
            ++done;
        }
        return done;
    }
    std::uint32_t pop(T* out, std::uint32_t n)
    {
        std::uint32_t done = 0;
        while (done < n && ring.pop(out[done])) {
            ++done;
        }
        return done;
    }
};

template <typename T>
struct MutexQueue {
    std::mutex mutex;
    T slots[ring_slots];
    std::uint32_t head = 0;
    std::uint32_t tail = 0;
    std::uint32_t push(const T* blocks, std::uint32_t n)
    {
        std::lock_guard lock(mutex);
        n = std::min(n, ring_slots - (tail - head));
        for (std::uint32_t i = 0; i < n; ++i) {
            slots[tail++ % ring_slots] = blocks[i];
        }
        return n;
    }
    std::uint32_t pop(T* out, std::uint32_t n)
    {
        std::lock_guard lock(mutex);
        n = std::min(n, tail - head);
        for (std::uint32_t i = 0; i < n; ++i) {
            out[i] = slots[head++ % ring_slots];
        }
        return n;
    }
};

// What carries whole batches of a size that the compiler knows, and nothing else: the least, for `bound.ring64`.
template <typename T>
struct BareRing {
    struct alignas(base::apart) Side { // private to it
        std::uint32_t at = 0;
        std::uint32_t others_seen = 0;
    };
    alignas(base::apart) std::atomic<std::uint32_t> tail{0};
    alignas(base::apart) std::atomic<std::uint32_t> head{0};
    Side producer;
    Side consumer;
    alignas(base::apart) T slots[ring_slots];
    std::uint32_t push(const T* blocks, std::uint32_t)
    {
        if (producer.at - producer.others_seen == ring_slots) {
            producer.others_seen = head.load(std::memory_order_acquire);
            return 0;
        }
        std::copy_n(blocks, batch_max, slots + producer.at % ring_slots);
        producer.at += batch_max;
        tail.store(producer.at, std::memory_order_release);
        return batch_max;
    }
    std::uint32_t pop(T* out, std::uint32_t)
    {
        if (consumer.at == consumer.others_seen) {
            consumer.others_seen = tail.load(std::memory_order_acquire);
            return 0;
        }
        std::copy_n(slots + consumer.at % ring_slots, batch_max, out);
        consumer.at += batch_max;
        head.store(consumer.at, std::memory_order_release);
        return batch_max;
    }
};

// Nanoseconds per block from one CPU to the other.
template <template <typename> class Ring, std::size_t Bytes>
double cost(const std::vector<int>& cpus, std::uint64_t count, std::uint32_t batch)
{
    using T = Block<Bytes>;
    auto ring = std::make_unique<Ring<T>>();
    Meeting meeting;
    std::uint64_t sum = 0;
    double start = 0;
    double end = 0;
    std::thread producer([&] {
        bind_here(cpus[0]);
        T blocks[batch_max] = {};
        meeting.wait();
        start = seconds_now();
        for (std::uint64_t sent = 0; sent < count; sent += batch) {
            for (std::uint32_t i = 0; i < batch; ++i) {
                blocks[i].words[0] = sent + i;
            }
            for (std::uint32_t done = 0; done < batch;) {
                done += ring->push(blocks + done, batch - done);
            }
        }
    });
    std::thread consumer([&] {
        bind_here(cpus[1]);
        T blocks[batch_max];
        meeting.wait();
        for (std::uint64_t got = 0; got < count;) {
            std::uint32_t n = ring->pop(blocks, batch);
            for (std::uint32_t i = 0; i < n; ++i) {
                sum += blocks[i].words[0];
            }
            got += n;
        }
        end = seconds_now();
    });
    producer.join();
    consumer.join();
    INVARIANT(sum == count * (count - 1) / 2);
    return (end - start) / static_cast<double>(count) * 1e9;
}

template <std::size_t Bytes>
void compare(const std::vector<int>& cpus, std::uint32_t batch)
{
    std::string tail = text(".%zub.batch%u", Bytes, batch);
    Figure ours{.name = "micro.ring.ours" + tail, .why = "Ipiq, 1,024 slots"};
    Figure spsc{.name = "micro.ring.boost_spsc" + tail, .why = "boost::lockfree::spsc_queue"};
    Figure mpmc{.name = "micro.ring.boost_queue" + tail, .why = "boost::lockfree::queue, many to many"};
    Figure mutex{.name = "micro.ring.mutex" + tail, .why = "std::mutex around an array"};
    Figure ratio{.name = "ratio.ring64", .unit = "ratio"};
    Figure bare{.name = "micro.ring.bare" + tail, .why = "whole batches through an array of 1,024, nothing else"};
    Figure bound{.name = "bound.ring64", .unit = "ratio"};
    bool goal = Bytes == 64 && batch == batch_max;
    std::uint64_t fast = quick ? 800'000 : 8'000'000; // a multiple of the batch
    std::uint64_t slow = fast / 20;
    for (Rounds r; r.another();) {
        ours.values.push_back(cost<OurRing, Bytes>(cpus, fast, batch));
        spsc.values.push_back(cost<BoostSpsc, Bytes>(cpus, fast, batch));
        ratio.values.push_back(spsc.values.back() / ours.values.back());
        if (goal) {
            bare.values.push_back(cost<BareRing, Bytes>(cpus, fast, batch));
            bound.values.push_back(spsc.values.back() / bare.values.back());
        }
        mpmc.values.push_back(cost<BoostQueue, Bytes>(cpus, slow, batch));
        mutex.values.push_back(cost<MutexQueue, Bytes>(cpus, slow, batch));
    }
    if (goal) {
        ratio.why =
            text("64 B in batches of 16: Ipiq %.1f ns, boost spsc_queue %.1f ns each", ours.median(), spsc.median());
        bound.why = text("whole batches through an array, nothing else: %.1f ns, boost spsc_queue %.1f ns each",
            bare.median(), spsc.median());
        for (const Figure* figure : {&ratio, &bound, &bare}) {
            figure->print();
        }
    }
    for (const Figure* figure : {&ours, &spsc, &mpmc, &mutex}) {
        figure->print();
    }
}

} // namespace

void rings()
{
    auto cpus = pair_of_cpus({"ratio.ring64"}, "ratio");
    if (!cpus.empty()) {
        compare<64>(cpus, 16);
        compare<64>(cpus, 1);
        compare<8>(cpus, 16);
        compare<8>(cpus, 1);
    }
}

} // namespace micro
