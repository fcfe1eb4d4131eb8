// bfloat16 weights and activations, fp32 sums. A unit is a step: two inputs.
#include "dot_pairs.h"
#include "matmul_steps.h"
#include "quire.h"

namespace quire::QUIRE_ISA {
namespace {

// Makes a group of `count` rows: two inputs a word, so many of each row that all rows' are near.
void pair_inputs(const uint16_t* x, int64_t x_stride, int64_t inputs, int64_t count, uint32_t* to) {
    constexpr int64_t kSome = 256;
    const int64_t words = (inputs + 1) / 2;
    for (int64_t first = 0; first < words; first += kSome)
        for (int64_t r = 0; r < count; ++r) {
            const uint16_t* const from = x + r * x_stride;
            const int64_t end = words - first < kSome ? words : first + kSome;
            const int64_t whole = end < inputs / 2 ? end : inputs / 2;
            for (int64_t i = first; i < whole; ++i)
                std::memcpy(to + i * count + r, from + 2 * i, 4);
            if (whole < end) to[whole * count + r] = from[inputs - 1];
        }
}

}  // namespace
}  // namespace quire::QUIRE_ISA

void QUIRE_KERNEL(matmul_bf16)(const uint16_t* x, int64_t x_stride, const uint32_t* w,
                               const uint16_t* bias, uint16_t* y, int64_t y_stride, int64_t rows,
                               int64_t outputs, int64_t inputs, int64_t activation) {
    using namespace quire::QUIRE_ISA;
    const int64_t words = (inputs + 1) / 2, held = Groups::words_of(words);
    const auto groups_of = [&](int64_t first_row, const Result& block) {
        auto* to = static_cast<uint32_t*>(quire::scratch(block.rows * held * 4));
        return make_groups(to, block.rows, held, [&](int64_t row, int64_t count, uint32_t* group) {
            pair_inputs(x + (first_row + row) * x_stride, x_stride, inputs, count, group);
        });
    };
    const Result result{y, y_stride, rows, outputs, bias, activation};
    multiply(Steps<Bfloat16>{w, words}, result, groups_of);
}
