// The only thing kernels know of threads.
#pragma once

#include <atomic>
#include <cstdint>

namespace quire {

using Task = void (*)(void* context);

// Runs task(context) once in each of up to `threads` threads, this one included, and returns when
// all are done. Never more than quire_set_threads allowed.
void run_team(int64_t threads, Task task, void* context);

// Runs body(context) here, and keeps the other threads awake for what it gives to run_team: between
// short pieces of work that costs less than calling them together for each. For kernels made of
// many others.
void with_team(Task body, void* context);

template <class Body>
void with_team(const Body& body) {
    with_team([](void* context) { (*static_cast<const Body*>(context))(); },
              const_cast<Body*>(&body));
}

// Memory for the duration of a kernel, aligned to a cache line: the calling thread's own, reused by
// its next kernel, grown when needed and given back when the thread ends.
void* scratch(int64_t bytes);

// Threads that run_team may have.
int64_t team_size();

// Calls body(begin, end) for disjoint ranges that cover [0, n), from several threads at once. Ranges
// are handed out as threads become free, so a thread that another process holds up does not hold up
// the rest. They are `most` long, the last ones as short as `least`: then all end together. Not to be
// nested.
template <class Body>
void parallel_for(int64_t n, int64_t least, int64_t most, const Body& body) {
    if (n <= least) {
        if (n > 0) body(int64_t{0}, n);
        return;
    }
    struct Shared {
        const Body& body;
        int64_t n, least, most, shares;
        std::atomic<int64_t> next{0};

        int64_t length(int64_t left) const {
            const int64_t share = left / shares, wanted = share < most ? share : most;
            const int64_t some = wanted < least ? least : wanted;
            return some < left ? some : left;
        }
    } shared{body, n, least, most, 2 * team_size()};
    run_team(
        (n + least - 1) / least,
        [](void* context) {
            auto& s = *static_cast<Shared*>(context);
            for (int64_t begin = 0; begin < s.n;) {
                const int64_t length = s.length(s.n - begin);
                if (!s.next.compare_exchange_weak(begin, begin + length, std::memory_order_relaxed))
                    continue;
                s.body(begin, begin + length);
                begin = s.next.load(std::memory_order_relaxed);
            }
        },
        &shared);
}

// The same with ranges of one length.
template <class Body>
void parallel_for(int64_t n, int64_t grain, const Body& body) {
    parallel_for(n, grain, grain, body);
}

}  // namespace quire
