// Objects of a pool: made and destroyed on their CPU, and destroyed on the other one, whence their memory goes home.
#include <memory>

#include "benchmarks/micro/micro.hpp"
#include "lwkt/pool.hpp"
#include "lwkt/port.hpp"

namespace micro {
namespace {

using namespace lwkt;

struct Object : Message {
    Pool<Object>* pool = nullptr;
    std::uint64_t payload[20] = {};
};

Figure local()
{
    Figure figure{
        .name = "micro.pool.local", .why = "make and destroy on the home CPU, 64 at a time, objects of 224 B"};
    VirtualClock clock;
    CpuSetOptions options;
    options.pin = {-1};
    CpuSet set(clock, options);
    Pool<Object> pool(set, 1024);
    int laps = quick ? 20'000 : 100'000;
    for (Rounds r; r.another();) {
        set.call(0, [&](Cpu&) {
            Object* objects[64];
            double start = cpu_seconds_now();
            for (int lap = 0; lap < laps; ++lap) {
                for (Object*& o : objects) {
                    o = pool.make();
                }
                for (Object* o : objects) {
                    pool.destroy(*o);
                }
            }
            figure.values.push_back((cpu_seconds_now() - start) / (laps * 64.0) * 1e9);
        });
    }
    return figure;
}

// CPU 0 makes and sends as long as its share lasts, CPU 1 destroys, the chains come home.
struct Feeder final : Poller {
    explicit Feeder(Pool<Object>& p) : pool(p) {}
    std::uint32_t poll(std::uint32_t budget) override
    {
        std::uint32_t n = 0;
        for (; n < budget && left > 0; ++n) {
            Object* o = pool.make();
            if (o == nullptr) {
                break;
            }
            o->pool = &pool;
            o->cls = Class::net;
            o->dispatch = [](Message& m) {
                auto& object = static_cast<Object&>(m);
                object.pool->destroy(object);
            };
            --left;
            Cpu::current()->send(1, *o);
        }
        if (left == 0 && !told && pool.core().in_use(0) == 0) {
            told = true;
            Message unused;
            finished.deliver(unused);
        }
        return n;
    }
    bool pending() const override { return !told; } // what comes home does so without a doorbell
    Pool<Object>& pool;
    int left = 0;
    bool told = true;
    CompletionPort finished;
};

Figure remote(const std::vector<int>& cpus)
{
    Figure figure{
        .name = "micro.pool.remote", .why = "make, send, destroy on the other CPU and back home, objects of 224 B"};
    int objects = quick ? 200'000 : 1'000'000;
    RealClock clock;
    CpuSet set(clock, awake(cpus));
    Pool<Object> pool(set, 2048);
    Feeder feeder(pool);
    set.cpu(0).add_poller(Class::net, feeder);
    set.start();
    for (Rounds r; r.another();) {
        feeder.finished.reset();
        double start = seconds_now();
        set.call(0, [&feeder, objects](Cpu&) {
            feeder.left = objects;
            feeder.told = false;
        });
        feeder.finished.wait();
        figure.values.push_back((seconds_now() - start) / objects * 1e9);
    }
    set.stop();
    return figure;
}

} // namespace

void pools()
{
    local().print();
    if (auto cpus = pair_of_cpus({"micro.pool.remote"}); !cpus.empty()) {
        remote(cpus).print();
    }
}

} // namespace micro
