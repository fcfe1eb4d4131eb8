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

// Calls body(begin, end) for disjoint ranges that cover [0, n), `grain` long or shorter, from
// several threads at once. Ranges are handed out as threads become free, so a thread that another
// process holds up does not hold up the rest. Not to be nested.
template <class Body>
void parallel_for(int64_t n, int64_t grain, const Body& body) {
    if (n <= grain) {
        if (n > 0) body(int64_t{0}, n);
        return;
    }
    struct Shared {
        const Body& body;
        int64_t n, grain;
        std::atomic<int64_t> next{0};
    } shared{body, n, grain};
    run_team(
        (n + grain - 1) / grain,
        [](void* context) {
            auto& s = *static_cast<Shared*>(context);
            for (;;) {
                const int64_t begin = s.next.fetch_add(s.grain, std::memory_order_relaxed);
                if (begin >= s.n) return;
                s.body(begin, begin + s.grain < s.n ? begin + s.grain : s.n);
            }
        },
        &shared);
}

}  // namespace quire
