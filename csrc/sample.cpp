// Drawing a token a row: filters as one threshold found without a sort, then Gumbel-max.
//
// The vocabulary is cut into chunks whose largest values are kept, so that whatever looks for large
// values afterwards (the k-th, the most likely ones, what the noise can still lift to the top)
// passes over most chunks. kernels/sample/reference.py says what is to come out.
//
// Bytes: greedy reads a row once. A draw writes it scaled and reads that from the cache. A row of
// 128256 on one core (EPYC Zen 5, 2026-11): greedy 27 us, a draw 286, with top_k 50 51, with top_p
// 0.9 235; torch's version takes 315, 2428, 1188 and 2111.
#include "noise.h"
#include "parallel.h"
#include "quire.h"
#include "rows.h"
#include "select.h"

namespace quire::QUIRE_ISA {
namespace {

constexpr float kGreedyBelow = 1e-5f;  // temperature
constexpr float kMostNoise = 23.0f;    // gumbel(0) is 22.87
constexpr int64_t kNotANumber = -1;
constexpr int64_t kChunk = 64;         // tokens
constexpr int64_t kLikely = 1024;      // chunks whose tokens top_p looks at first
static_assert(kChunk % kNoiseTokens == 0);

struct Filters {
    float temperature;
    int64_t top_k;  // 0: off
    float top_p, min_p;
};

struct Best {
    float value;
    int64_t token;

    // The lowest token wins among equals.
    void take(float other, int64_t at) {
        if (other > value || (other == value && at < token)) value = other, token = at;
    }
};

// The largest of a row; a NaN if there is one.
template <class T>
Best largest_of(const T* logits, int64_t size) {
    Floats most = splat(-__builtin_inff()), broken{};
    each(size, [&](int64_t i, auto access) {
        const Floats v = access.load(logits + i, -__builtin_inff());
        most = max(most, v);
        broken = v == v ? broken : v;
    });
    for (int64_t i = 0; i < kLanes; ++i)
        if (broken[i] != broken[i]) return {broken[i], kNotANumber};
    const float found = largest(most);
    int64_t token = 0;
    while (token < size && widen(logits[token]) != found) ++token;
    return {found, token};
}

class Row {
  public:
    // `scratch` holds three floats a token and one a chunk.
    template <class T>
    Row(const T* logits, int64_t size, Best top, const Filters& filters, float* scratch)
        : chunks_((size + kChunk - 1) / kChunk), z_(scratch), most_(z_ + chunks_ * kChunk),
          values_(most_ + chunks_), masses_(values_ + chunks_ * kChunk),
          top_{top.value / filters.temperature, top.token}, filters_(filters) {
        for (int64_t c = 0; c < chunks_; ++c) {
            const int64_t begin = c * kChunk, left = size - begin;
            Floats most = splat(-__builtin_inff());
            for (int64_t i = 0; i < kChunk; i += kLanes)
                store(z_ + begin + i, splat(-__builtin_inff()));
            each(left < kChunk ? left : kChunk, [&](int64_t i, auto access) {
                const Floats z = access.load(logits + begin + i, -__builtin_inff()) /
                                 filters.temperature;
                access.store(z_ + begin + i, z);
                most = max(most, z);
            });
            most_[c] = largest(most);
        }
        size_ = size;
    }

    int64_t draw(Source from) {
        const float threshold = least_kept();
        Best best{-__builtin_inff(), top_.token};
        // With the likeliest token's score known, most chunks cannot win any more.
        const int64_t first = top_.token / kChunk;
        race(first, threshold, from, best);
        for (int64_t c = 0; c < chunks_; ++c)
            if (c != first && most_[c] >= threshold && most_[c] + kMostNoise >= best.value)
                race(c, threshold, from, best);
        return best.token;
    }

  private:
    void race(int64_t chunk, float threshold, Source from, Best& best) const {
        for (int64_t begin = chunk * kChunk; begin < (chunk + 1) * kChunk; begin += kNoiseTokens) {
            const Floats hidden = splat(-__builtin_inff());
            float scores[kNoiseTokens];
            noise(begin, from, scores);
            for (int64_t i = 0; i < kNoiseTokens; i += kLanes) {
                const Floats z = load(z_ + begin + i);
                const Floats score = z >= threshold ? z + load(scores + i) : hidden;
                if (largest(score) < best.value) continue;
                for (int64_t lane = 0; lane < kLanes; ++lane)
                    best.take(score[lane], begin + i + lane);
            }
        }
    }

    // The smallest value that passes the filters.
    float least_kept() {
        float threshold = -__builtin_inff();
        if (filters_.min_p > 0) threshold = top_.value + logf(filters_.min_p);
        if (filters_.top_k > 0 && filters_.top_k < size_) {
            const int64_t count = gather(bound(filters_.top_k));
            if (count >= filters_.top_k) {  // fewer: the rest are masked
                const float kth = kth_largest(values_, count, filters_.top_k);
                threshold = kth > threshold ? kth : threshold;
            }
        }
        if (filters_.top_p >= 1) return threshold;
        const double goal = filters_.top_p * mass(threshold);
        if (goal <= 0) return top_.value;
        const float likely = bound(kLikely);
        int64_t count = gather(likely > threshold ? likely : threshold);
        if (likely > threshold && weigh(count) < goal) count = gather(threshold);
        weigh(count);
        return smallest_of_heaviest(values_, masses_, count, goal);
    }

    // A value that `count` tokens reach at least: the largest of as many chunks.
    float bound(int64_t count) {
        if (count > chunks_) return -__builtin_inff();
        std::memcpy(masses_, most_, chunks_ * sizeof(float));
        return kth_largest(masses_, chunks_, count);
    }

    // values_ = what reaches `threshold`; how many.
    int64_t gather(float threshold) {
        int64_t count = 0;
        for (int64_t c = 0; c < chunks_; ++c) {
            if (most_[c] < threshold || most_[c] == -__builtin_inff()) continue;
            for (int64_t i = c * kChunk; i < (c + 1) * kChunk; ++i) {
                values_[count] = z_[i];
                count += z_[i] >= threshold && z_[i] > -__builtin_inff();
            }
        }
        return count;
    }

    // masses_ = e^(values_ - the largest); their sum.
    double weigh(int64_t count) {
        double total = 0;
        each(count, [&](int64_t i, auto access) {
            const Floats mass = exp(access.load(values_ + i, -__builtin_inff()) - top_.value);
            access.store(masses_ + i, mass);
            total += sum(mass);
        });
        return total;
    }

    // Of all that reaches `threshold`.
    double mass(float threshold) const {
        double total = 0;
        for (int64_t c = 0; c < chunks_; ++c) {
            if (most_[c] < threshold) continue;
            Floats of_chunk{};
            for (int64_t i = c * kChunk; i < (c + 1) * kChunk; i += kLanes) {
                const Floats z = load(z_ + i);
                of_chunk += z >= threshold ? exp(z - top_.value) : Floats{};
            }
            total += sum(of_chunk);
        }
        return total;
    }

    const int64_t chunks_;
    float *const z_, *const most_, *const values_, *const masses_;
    const Best top_;
    const Filters filters_;
    int64_t size_;
};

template <class T>
int64_t sample(const T* logits, int64_t size, const Filters& filters, Source from) {
    const Best top = largest_of(logits, size);
    if (!(top.value - top.value == 0)) return kNotANumber;  // infinite or not a number
    if (filters.temperature < kGreedyBelow) return top.token;
    const int64_t padded = (size + kChunk - 1) / kChunk * kChunk;
    const int64_t bytes = (3 * padded + padded / kChunk) * sizeof(float);
    return Row(logits, size, top, filters, static_cast<float*>(quire::scratch(bytes))).draw(from);
}

}  // namespace
}  // namespace quire::QUIRE_ISA

void QUIRE_KERNEL(sample)(const void* logits, const float* temperature, const int32_t* top_k,
                          const float* top_p, const float* min_p, const int64_t* seed,
                          const int64_t* positions, int64_t* tokens, int64_t rows, int64_t size,
                          int64_t stride, int64_t bf16) {
    using namespace quire::QUIRE_ISA;
    const auto run = [&](auto element) {
        const auto* from_first = static_cast<const decltype(element)*>(logits);
        quire::parallel_for(rows, 1, [&](int64_t begin, int64_t end) {
            for (int64_t r = begin; r < end; ++r) {
                const Filters filters{temperature[r], top_k[r], top_p[r], min_p[r]};
                const Source from{static_cast<uint64_t>(seed[r]),
                                  static_cast<uint64_t>(positions[r])};
                tokens[r] = sample(from_first + r * stride, size, filters, from);
            }
        });
    };
    bf16 ? run(uint16_t{}) : run(float{});
}
