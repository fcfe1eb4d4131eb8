// Where the threads come from: torch's OpenMP runtime, or a small pool of our own.
#include "parallel.h"

#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>

#include "quire.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace quire {
namespace {

// As libgomp and LLVM's libomp export it; `flags` 0: no binding policy.
using GompParallel = void (*)(Task, void*, unsigned threads, unsigned flags);

inline void relax() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("isb");
#endif
}

// Threads without a task spin this long before they let others have their core.
constexpr int kSpins = 2000;

// Threads that wait for tasks of one that has them. A helper that comes too late, because another
// process has its core, misses the task and is not waited for.
class Crew {
  public:
    // Runs the task here and in the helpers that come before it is done. One caller at a time.
    void run(Task task, void* context) {
        task_ = task, context_ = context;
        const uint32_t before = state_.load(std::memory_order_relaxed);
        state_.store((before / kTask + 1) * kTask + kOpen, std::memory_order_release);
        state_.notify_all();
        task(context);
        uint32_t state = state_.fetch_and(~kOpen, std::memory_order_acq_rel);
        for (int spins = 0; state % kOpen != 0; state = state_.load(std::memory_order_acquire))
            ++spins < kSpins ? relax() : std::this_thread::yield();
    }

    // Lets the helpers go.
    void dismiss() {
        state_.fetch_or(kOver, std::memory_order_release);
        state_.notify_all();
    }

    // Runs tasks until dismissed. idle(state) is called when there has been none for a while.
    template <class Idle>
    void help(const Idle& idle) {
        uint32_t seen = 0;
        for (int spins = 0;;) {
            uint32_t state = state_.load(std::memory_order_acquire);
            if ((state & kOver) != 0) return;
            if ((state & kOpen) == 0 || state / kTask == seen) {
                ++spins < kSpins ? relax() : idle(state);
            } else if (state_.compare_exchange_weak(state, state + 1, std::memory_order_acquire)) {
                task_(context_);
                state_.fetch_sub(1, std::memory_order_release);
                seen = state / kTask;
                spins = 0;
            }
        }
    }

    void sleep(uint32_t state) const { state_.wait(state, std::memory_order_relaxed); }

  private:
    // The number of helpers at work; whether more may join; whether all is over; the task's number.
    static constexpr uint32_t kOpen = 1 << 12, kOver = kOpen << 1, kTask = kOver << 1;

    std::atomic<uint32_t> state_{0};
    Task task_ = nullptr;
    void* context_ = nullptr;
};

// Threads of our own, asleep when there is nothing to do.
class Pool {
  public:
    explicit Pool(int64_t workers) {
        for (int64_t i = 0; i < workers; ++i)
            threads_.emplace_back([this] { crew_.help([this](uint32_t s) { crew_.sleep(s); }); });
    }

    ~Pool() {
        crew_.dismiss();
        for (auto& thread : threads_) thread.join();
    }

    int64_t size() const { return static_cast<int64_t>(threads_.size()); }

    void run(Task task, void* context) {
        std::unique_lock busy(busy_, std::try_to_lock);
        busy ? crew_.run(task, context) : task(context);  // another thread's kernel has them
    }

  private:
    std::vector<std::thread> threads_;
    std::mutex busy_;
    Crew crew_;
};

struct Team {
    int64_t threads = 1;
    GompParallel gomp = nullptr;
    Pool* pool = nullptr;  // lives as long as the process: its threads may outlast static objects
};

Team team;
thread_local Crew* at_hand = nullptr;  // what with_team has called together for this thread

}  // namespace

int64_t team_size() { return team.threads; }

void run_team(int64_t threads, Task task, void* context) {
    if (threads > team.threads) threads = team.threads;
    if (threads <= 1) return task(context);
    if (at_hand != nullptr) return at_hand->run(task, context);
    if (team.gomp != nullptr) return team.gomp(task, context, static_cast<unsigned>(threads), 0);
    team.pool->run(task, context);
}

void with_team(Task body, void* context) {
    if (team.threads <= 1 || team.gomp == nullptr || at_hand != nullptr) return body(context);
    struct Session {
        Task body;
        void* context;
        std::thread::id caller;
        Crew crew;
    } session{body, context, std::this_thread::get_id(), {}};
    team.gomp(
        [](void* of) {
            auto& s = *static_cast<Session*>(of);
            if (std::this_thread::get_id() != s.caller)
                return s.crew.help([](uint32_t) { std::this_thread::yield(); });
            at_hand = &s.crew;
            s.body(s.context);
            at_hand = nullptr;
            s.crew.dismiss();
        },
        &session, static_cast<unsigned>(team.threads), 0);
}

void* scratch(int64_t bytes) {
    struct Memory {
        void* data = nullptr;
        int64_t size = 0;

        ~Memory() { std::free(data); }
    };
    thread_local Memory memory;
    if (memory.size < bytes) {
        std::free(memory.data);
        memory.size = (bytes + 4095) / 4096 * 4096;
        memory.data = std::aligned_alloc(64, memory.size);
        if (memory.data == nullptr) {
            std::fprintf(stderr, "quire: no memory for a kernel's %lld bytes\n",
                         static_cast<long long>(memory.size));
            std::abort();
        }
    }
    return memory.data;
}

}  // namespace quire

extern "C" void quire_set_threads(int64_t count, void* gomp_parallel) {
    using quire::team;
    team.threads = count < 1 ? 1 : count;
    team.gomp = reinterpret_cast<quire::GompParallel>(gomp_parallel);
    const int64_t workers = team.gomp != nullptr ? 0 : team.threads - 1;
    if (team.pool != nullptr && team.pool->size() == workers) return;
    delete team.pool;
    team.pool = workers > 0 ? new quire::Pool(workers) : nullptr;
}
