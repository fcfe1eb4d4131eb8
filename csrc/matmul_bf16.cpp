// bfloat16 weights and activations, fp32 sums. A unit is a step: two inputs.
#include "dot_pairs.h"
#include "matmul_steps.h"
#include "quire.h"
#include "shuffle.h"

namespace quire::QUIRE_ISA {
namespace {

// Makes a group of `count` rows: two inputs a word, a square of kLanes words of kLanes rows at a time.
// What a square has beyond `count` is written over by the next word's, or lies behind the group.
void pair_inputs(const uint16_t* x, int64_t x_stride, int64_t inputs, int64_t count, uint32_t* to) {
    constexpr int64_t kSquares = (kTileRows + kLanes - 1) / kLanes;
    const int64_t squares = (count + kLanes - 1) / kLanes;
    const int64_t whole = count > kLanes / 4 ? inputs / 2 / kLanes * kLanes : 0;  // or not worth it
    for (int64_t word = 0; word < whole; word += kLanes) {
        Words square[kSquares][kLanes];
        for (int64_t s = 0; s < squares; ++s) {
            QUIRE_UNROLL
            for (int64_t i = 0; i < kLanes; ++i) {
                const int64_t row = s * kLanes + i < count ? s * kLanes + i : 0;
                std::memcpy(&square[s][i], x + row * x_stride + 2 * word, sizeof(Words));
            }
            transpose(square[s]);
        }
        for (int64_t i = 0; i < kLanes; ++i)
            for (int64_t s = 0; s < squares; ++s)
                std::memcpy(to + (word + i) * count + s * kLanes, &square[s][i], sizeof(Words));
    }
    for (int64_t r = 0; r < count; ++r) {
        const uint16_t* const from = x + r * x_stride;
        for (int64_t word = whole; word < inputs / 2; ++word)
            std::memcpy(to + word * count + r, from + 2 * word, 4);
        if (inputs % 2 != 0) to[inputs / 2 * count + r] = from[inputs - 1];
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
