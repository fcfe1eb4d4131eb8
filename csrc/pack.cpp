// Dense weights [outputs, inputs] bfloat16 into the panels of matmul.h, as they are or quantized.
//
// Quantized weights are, to the last bit, those of src/quire/quant/layouts: each product and sum
// below is rounded where torch rounds it, so this file is compiled without contraction.
#include "matmul.h"
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

// Fills panels of `steps`: row(output, words [steps]) makes an output's words. What it reads may lie
// where its panel is to be.
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

// To the nearest integer, to even of two. |x| < 2^22.
Floats round(Floats x) { return (x + 12582912.0f) - 12582912.0f; }

float narrowed(float x) {
    uint16_t stored[kLanes];
    store(stored, splat(x));
    return widen(stored[0]);
}

constexpr int64_t kMostVectors = 128 / kLanes;

// The weights that share a scale; their integers under one, and what is lost by it.
struct Group {
    Floats wide[kMostVectors];
    int64_t vectors;

    // The value of the largest magnitude; the positive one of two alike.
    float extreme() const {
        Floats least = wide[0], most = wide[0];
        for (int64_t v = 1; v < vectors; ++v)
            least = min(least, wide[v]), most = max(most, wide[v]);
        const float low = -largest(-least), high = largest(most);
        return -low > high ? low : high;
    }

    Floats integers(int64_t v, float inverse) const {
        return min(splat(7), max(splat(-8), round(wide[v] * inverse)));
    }

    // Squares added up by halves.
    float error(float scale, float inverse) const {
        Floats square[kMostVectors];
        for (int64_t v = 0; v < vectors; ++v) {
            const Floats off = integers(v, inverse) * scale - wide[v];
            square[v] = off * off;
        }
        for (int64_t half = vectors / 2; half > 0; half /= 2)
            for (int64_t v = 0; v < half; ++v) square[v] += square[v + half];
        float lanes[kLanes];
        store(lanes, square[0]);
        for (int64_t half = kLanes / 2; half > 0; half /= 2)
            for (int64_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
        return lanes[0];
    }
};

// Scales tried, and below which magnitude a scale counts as 0: as int4_group.py has them.
constexpr double kShares[] = {1.0, 0.95, 0.9, 0.85, 0.8, 0.75};
constexpr float kSmallest = 0x1p-126f;

float inverse_of(float scale) { return std::fabs(scale) < kSmallest ? 0.0f : 1.0f / scale; }

float best_scale(const Group& group) {
    const float extreme = group.extreme();
    float best = INFINITY, chosen = 0;
    for (const double share : kShares) {
        const float tried = narrowed(extreme * static_cast<float>(share / -8));
        const float error = group.error(tried, inverse_of(tried));
        if (error < best) best = error, chosen = tried;
    }
    return chosen;
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
            const Floats integers = round(some(from + k, inputs - k) / scale[output]) + 128.0f;
            for (int64_t i = 0; i < kLanes && k + i < inputs; ++i)
                to[k + i] = static_cast<uint8_t>(integers[i]);
        }
    });
}

void QUIRE_KERNEL(pack_int4)(const uint16_t* dense, uint32_t* panels, uint16_t* scale,
                             int64_t outputs, int64_t inputs, int64_t size) {
    using namespace quire::QUIRE_ISA;
    const int64_t groups = (inputs + size - 1) / size;
    make_panels(panels, outputs, groups * size / 8, [&](int64_t output, uint32_t* words) {
        auto* to = reinterpret_cast<uint8_t*>(words);
        for (int64_t g = 0; g < groups; ++g) {
            Group group{{}, size / kLanes};
            for (int64_t v = 0; v < group.vectors; ++v) {
                const int64_t k = g * size + v * kLanes;
                group.wide[v] = some(dense + output * inputs + k, inputs - k);
            }
            const float chosen = best_scale(group);
            const int64_t place = (output / kPanel * groups + g) * kPanel + output % kPanel;
            std::memcpy(scale + place, reinterpret_cast<const char*>(&chosen) + 2, 2);
            uint8_t integers[128];
            for (int64_t v = 0; v < group.vectors; ++v) {
                const Floats made = group.integers(v, inverse_of(chosen)) + 8.0f;
                for (int64_t i = 0; i < kLanes; ++i)
                    integers[v * kLanes + i] = static_cast<uint8_t>(made[i]);
            }
            for (int64_t i = 0; i < size; i += 8)
                for (int64_t j = 0; j < 4; ++j)
                    *to++ = static_cast<uint8_t>(integers[i + j] | integers[i + 4 + j] << 4);
        }
    });
}
