// Where the threads come from: torch's OpenMP runtime, or a small pool of our own.
#include "parallel.h"

#include <condition_variable>
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

// Workers spin this long for the next task before they sleep: between two kernels of a step, not
// between steps.
constexpr int kSpins = 2000;

class Pool {
  public:
    explicit Pool(int64_t workers) {
        for (int64_t i = 0; i < workers; ++i) threads_.emplace_back([this, i] { work(i); });
    }

    ~Pool() {
        post(nullptr, nullptr, size());
        for (auto& thread : threads_) thread.join();
    }

    int64_t size() const { return static_cast<int64_t>(threads_.size()); }

    // Runs the task in `helpers` workers beside the caller.
    void run(int64_t helpers, Task task, void* context) {
        std::unique_lock busy(busy_, std::try_to_lock);
        if (!busy) return task(context);  // another thread's kernel has the workers
        post(task, context, helpers);
        task(context);
        while (left_.load(std::memory_order_acquire) != 0) relax();
    }

  private:
    void post(Task task, void* context, int64_t helpers) {
        task_ = task, context_ = context, helpers_ = helpers;
        left_.store(size(), std::memory_order_relaxed);
        generation_.fetch_add(1, std::memory_order_seq_cst);
        if (sleepers_.load(std::memory_order_seq_cst) > 0) {
            std::lock_guard lock(mutex_);
            wake_.notify_all();
        }
    }

    void work(int64_t index) {
        uint64_t seen = 0;
        for (;;) {
            wait(seen);
            ++seen;
            const Task task = task_;
            if (task != nullptr && index < helpers_) task(context_);
            left_.fetch_sub(1, std::memory_order_release);
            if (task == nullptr) return;
        }
    }

    void wait(uint64_t seen) {
        for (int i = 0; i < kSpins; ++i, relax())
            if (generation_.load(std::memory_order_acquire) != seen) return;
        std::unique_lock lock(mutex_);
        sleepers_.fetch_add(1, std::memory_order_seq_cst);
        wake_.wait(lock, [&] { return generation_.load(std::memory_order_seq_cst) != seen; });
        sleepers_.fetch_sub(1, std::memory_order_relaxed);
    }

    std::vector<std::thread> threads_;
    std::mutex busy_, mutex_;
    std::condition_variable wake_;
    std::atomic<uint64_t> generation_{0};
    std::atomic<int64_t> sleepers_{0}, left_{0};
    Task task_ = nullptr;
    void* context_ = nullptr;
    int64_t helpers_ = 0;
};

struct Team {
    int64_t threads = 1;
    GompParallel gomp = nullptr;
    Pool* pool = nullptr;  // lives as long as the process: its threads may outlast static objects
};

Team team;

}  // namespace

void run_team(int64_t threads, Task task, void* context) {
    if (threads > team.threads) threads = team.threads;
    if (threads <= 1) return task(context);
    if (team.gomp != nullptr) return team.gomp(task, context, static_cast<unsigned>(threads), 0);
    team.pool->run(threads - 1, task, context);
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
