// int4 weights in groups with a scale each, activations quantized row by row. A unit is a group.
//
// A step holds eight inputs of each output: the low halves of a word's bytes meet one word of x,
// the high halves the next. Weights are held with 8 added. A group's products are added up as
// integers; times its scale that goes to the fp32 sums.
#include "dot_bytes.h"
#include "matmul.h"
#include "quantize.h"
#include "quire.h"

namespace quire::QUIRE_ISA {
namespace {

struct Int4Groups {
    const uint32_t* weights;
    int64_t units, unit_words;
    const uint16_t* scales;  // [panels, units, kPanel] bfloat16

    static Floats floats(const float* sums) { return load(sums); }

    template <int64_t kRows>
    void tile(const Place& at, Ahead ahead) const {
        Floats acc[kRows][kTileVectors];
        QUIRE_UNROLL
        for (int64_t r = 0; r < kRows; ++r)
            QUIRE_UNROLL
            for (int64_t v = 0; v < kTileVectors; ++v)
                acc[r][v] =
                    at.begin == 0 ? Floats{} : load(at.sums + r * at.stride + v * kLanes);
        const int64_t first = at.panel * units + at.begin, steps = unit_words / kPanel;
        const uint32_t* w = weights + first * unit_words + at.column;
        const uint16_t* scale = scales + first * kPanel + at.column;
        const uint32_t* x = at.x + at.begin * (2 * steps + 1) * kRows;
        for (int64_t unit = at.begin; unit < at.end; ++unit, scale += kPanel) {
            Ints sums[kRows][kTileVectors];
            QUIRE_UNROLL
            for (int64_t r = 0; r < kRows; ++r)
                QUIRE_UNROLL
                for (int64_t v = 0; v < kTileVectors; ++v)
                    sums[r][v] = Ints{} + static_cast<int32_t>(x[r]);
            x += kRows;
            for (int64_t step = 0; step < steps; ++step, w += kPanel, x += 2 * kRows) {
                Words low[kTileVectors], high[kTileVectors];
                QUIRE_UNROLL
                for (int64_t v = 0; v < kTileVectors; ++v) {
                    const Words packed = load(w + v * kLanes);
                    low[v] = packed & 0x0f0f0f0fu, high[v] = packed >> 4 & 0x0f0f0f0fu;
                }
                QUIRE_UNROLL
                for (int64_t r = 0; r < kRows; ++r) {
                    const Words value = Words{} + x[r];
                    QUIRE_UNROLL
                    for (int64_t v = 0; v < kTileVectors; ++v)
                        sums[r][v] = dot_halfbytes(sums[r][v], low[v], value);
                }
                QUIRE_UNROLL
                for (int64_t r = 0; r < kRows; ++r) {
                    const Words value = Words{} + x[kRows + r];
                    QUIRE_UNROLL
                    for (int64_t v = 0; v < kTileVectors; ++v)
                        sums[r][v] = dot_halfbytes(sums[r][v], high[v], value);
                }
                ahead.step();
            }
            QUIRE_UNROLL
            for (int64_t v = 0; v < kTileVectors; ++v) {
                const Floats wide = load(scale + v * kLanes);
                QUIRE_UNROLL
                for (int64_t r = 0; r < kRows; ++r)
                    acc[r][v] += __builtin_convertvector(sums[r][v], Floats) * wide;
            }
        }
        QUIRE_UNROLL
        for (int64_t r = 0; r < kRows; ++r)
            QUIRE_UNROLL
            for (int64_t v = 0; v < kTileVectors; ++v)
                store(at.sums + r * at.stride + v * kLanes, acc[r][v]);
    }
};

}  // namespace
}  // namespace quire::QUIRE_ISA

void QUIRE_KERNEL(matmul_int4)(const uint16_t* x, int64_t x_stride, const uint32_t* w,
                               const uint16_t* scale, const uint16_t* bias, uint16_t* y,
                               int64_t y_stride, int64_t rows, int64_t outputs, int64_t inputs,
                               int64_t group, int64_t activation) {
    using namespace quire::QUIRE_ISA;
    const auto groups_of = [&](int64_t first_row, Result& block) {
        return quantize_rows(x + first_row * x_stride, x_stride, inputs, group, -8, block);
    };
    const Result result{y, y_stride, rows, outputs, bias, activation};
    const int64_t groups = (inputs + group - 1) / group;
    multiply(Int4Groups{w, groups, group / 8 * kPanel, scale}, result, groups_of);
}
