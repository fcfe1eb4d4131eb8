// Dense weights [outputs, inputs] bfloat16 into the panels of matmul.h, as they are or quantized.
//
// Quantized weights are, to the last bit, those of src/quire/quant/layouts: each product and sum
// below is rounded where torch rounds it, so this file is compiled without contraction.
#include "quantize.h"
#include "quire.h"

namespace quire::QUIRE_ISA {
namespace {

constexpr int64_t kSquare = 16;  // words of a row in one cache line

// Turns rows [kPanel, steps] of words into a panel.
void turn(const uint32_t* rows, int64_t steps, uint32_t* panel) {
    for (int64_t first = 0; first < steps; first += kSquare) {
        const int64_t count = steps - first < kSquare ? steps - first : kSquare;
        uint32_t some[kPanel][kSquare];
        for (int64_t r = 0; r < kPanel; ++r)
            std::memcpy(some[r], rows + r * steps + first, count * 4);
        for (int64_t s = 0; s < count; ++s)
            for (int64_t r = 0; r < kPanel; ++r) panel[(first + s) * kPanel + r] = some[r][s];
    }
}

// Fills panels of `steps`: row(output, words [steps]) makes an output's words. What it reads may
// lie where its panel is to be.
template <class Row>
void make_panels(uint32_t* panels, int64_t outputs, int64_t steps, const Row& row) {
    parallel_for((outputs + kPanel - 1) / kPanel, 1, [&](int64_t begin, int64_t end) {
        auto* rows = static_cast<uint32_t*>(scratch(kPanel * steps * 4));
        for (int64_t panel = begin; panel < end; ++panel) {
            std::memset(rows, 0, kPanel * steps * 4);
            for (int64_t r = 0; r < kPanel && panel * kPanel + r < outputs; ++r)
                row(panel * kPanel + r, rows + r * steps);
            turn(rows, steps, panels + panel * steps * kPanel);
        }
    });
}

Floats some(const uint16_t* p, int64_t count) {
    return count >= kLanes ? load(p) : count > 0 ? load_part(p, count) : Floats{};
}

// The upper half of the lanes to the lower one, again and again.
float sum_by_halves(Floats v) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)v);
#else
    for (int64_t half = kLanes / 2; half > 0; half /= 2)
        for (int64_t i = 0; i < half; ++i) v[i] += v[i + half];
    return v[0];
#endif
}

float narrowed(float x) {
    uint16_t stored[kLanes];
    store(stored, splat(x));
    return widen(stored[0]);
}

// The weights that share a scale; their integers under one, and what is lost by it.
template <int64_t kSize>
struct Group {
    static constexpr int64_t kVectors = kSize / kLanes;

    Floats wide[kVectors];

    // The value of the largest magnitude; the positive one of two alike.
    float extreme() const {
        Floats least = wide[0], most = wide[0];
        QUIRE_UNROLL
        for (int64_t v = 1; v < kVectors; ++v)
            least = min(least, wide[v]), most = max(most, wide[v]);
        const float low = -largest(-least), high = largest(most);
        return -low > high ? low : high;
    }

    Floats steps(int64_t v, float inverse) const {
        const Floats rounded = (wide[v] * inverse + 12582912.0f) - 12582912.0f;
        return min(splat(7), max(splat(-8), rounded));
    }

    // Squares added up by halves.
    float error(float scale, float inverse) const {
        Floats square[kVectors];
        QUIRE_UNROLL
        for (int64_t v = 0; v < kVectors; ++v) {
            const Floats off = steps(v, inverse) * scale - wide[v];
            square[v] = off * off;
        }
        QUIRE_UNROLL
        for (int64_t half = kVectors / 2; half > 0; half /= 2)
            QUIRE_UNROLL
            for (int64_t v = 0; v < half; ++v) square[v] += square[v + half];
        return sum_by_halves(square[0]);
    }
};

// Scales tried, and below which magnitude a scale counts as 0: as int4_group.py has them.
constexpr double kShares[] = {1.0, 0.95, 0.9, 0.85, 0.8, 0.75};
constexpr float kSmallest = 0x1p-126f;

float inverse_of(float scale) { return std::fabs(scale) < kSmallest ? 0.0f : 1.0f / scale; }

template <int64_t kSize>
float best_scale(const Group<kSize>& group) {
    const float extreme = group.extreme();
    float best = INFINITY, chosen = 0;
    for (const double share : kShares) {
        const float tried = narrowed(extreme * static_cast<float>(share / -8));
        const float error = group.error(tried, inverse_of(tried));
        if (error < best) best = error, chosen = tried;
    }
    return chosen;
}

template <int64_t kSize>
void pack_groups(const uint16_t* dense, uint32_t* panels, uint16_t* scale, int64_t outputs,
                 int64_t inputs) {
    const int64_t groups = (inputs + kSize - 1) / kSize;
    make_panels(panels, outputs, groups * kSize / 8, [&](int64_t output, uint32_t* words) {
        for (int64_t g = 0; g < groups; ++g) {
            Group<kSize> group;
            for (int64_t v = 0; v < group.kVectors; ++v) {
                const int64_t k = g * kSize + v * kLanes;
                group.wide[v] = some(dense + output * inputs + k, inputs - k);
            }
            const float chosen = best_scale(group);
            const int64_t place = (output / kPanel * groups + g) * kPanel + output % kPanel;
            std::memcpy(scale + place, reinterpret_cast<const char*>(&chosen) + 2, 2);
            uint8_t bytes[kSize];
            for (int64_t v = 0; v < group.kVectors; ++v)
                store(bytes + v * kLanes, integers(group.steps(v, inverse_of(chosen))) + 8);
            for (int64_t i = 0; i < kSize; i += 8) {
                uint32_t low, high;
                std::memcpy(&low, bytes + i, 4);
                std::memcpy(&high, bytes + i + 4, 4);
                *words++ = low | high << 4;
            }
        }
    });
}

}  // namespace
}  // namespace quire::QUIRE_ISA

void QUIRE_KERNEL(pack_bf16)(const uint16_t* dense, uint32_t* panels, int64_t outputs,
                             int64_t inputs) {
    quire::QUIRE_ISA::make_panels(
        panels, outputs, (inputs + 1) / 2, [&](int64_t output, uint32_t* words) {
            std::memcpy(words, dense + output * inputs, inputs * sizeof *dense);
        });
}

void QUIRE_KERNEL(pack_int8)(const uint16_t* dense, uint32_t* panels, float* scale,
                             int64_t outputs, int64_t inputs) {
    using namespace quire::QUIRE_ISA;
    make_panels(panels, outputs, (inputs + 3) / 4, [&](int64_t output, uint32_t* words) {
        const uint16_t* from = dense + output * inputs;
        Floats most = splat(1e-12f);
        for (int64_t k = 0; k < inputs; k += kLanes) {
            const Floats value = some(from + k, inputs - k);
            most = max(most, max(value, -value));
        }
        scale[output] = largest(most) / 127.0f;
        auto* to = reinterpret_cast<uint8_t*>(words);
        for (int64_t k = 0; k < inputs; k += kLanes) {
            uint8_t bytes[kLanes];
            store(bytes, integers(some(from + k, inputs - k) / scale[output]) + 128);
            std::memcpy(to + k, bytes, inputs - k < kLanes ? inputs - k : kLanes);
        }
    });
}

void QUIRE_KERNEL(pack_int4)(const uint16_t* dense, uint32_t* panels, uint16_t* scale,
                             int64_t outputs, int64_t inputs, int64_t size) {
    using namespace quire::QUIRE_ISA;
    if (size == 32) pack_groups<32>(dense, panels, scale, outputs, inputs);
    if (size == 64) pack_groups<64>(dense, panels, scale, outputs, inputs);
    if (size == 128) pack_groups<128>(dense, panels, scale, outputs, inputs);
}
