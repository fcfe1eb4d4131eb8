// Rows of x rounded to int8, a scale for each, in the groups of matmul.h.
#pragma once

#include "matmul.h"

namespace quire::QUIRE_ISA {

// To the nearest, to even of two: that is what adding 1.5 * 2^23 does, in the low bits of the sum.
inline Ints integers(Floats values) { return (Ints)(values + 12582912.0f) - 0x4b400000; }

// Their lowest bytes.
inline void store(uint8_t* to, Ints values) {
    typedef uint8_t Bytes __attribute__((vector_size(kLanes)));
    const Bytes bytes = __builtin_convertvector(values, Bytes);
    std::memcpy(to, &bytes, sizeof bytes);
}

// The block's rows of x, x_stride apart, rounded to 127 steps of the row's largest value. Before
// each `span` values (a multiple of 4; past the inputs they are 0) comes a word that is `factor`
// times their sum: what weights that are held with -factor added have too much. The memory, also
// that of block.row_scale, is the calling thread's scratch.
inline Groups quantize_rows(const uint16_t* x, int64_t x_stride, int64_t inputs, int64_t span,
                            int32_t factor, Result& block) {
    const int64_t spans = (inputs + span - 1) / span;
    const int64_t words = Groups::words_of(spans * (span / 4 + 1));
    const int64_t scales = (block.rows + 15) / 16 * 16;
    auto* scale = static_cast<float*>(scratch((scales + block.rows * words) * 4));
    block.row_scale = scale;
    const auto quantize_row = [&](int64_t row, uint32_t* to, int64_t stride) {
        const uint16_t* from = x + row * x_stride;
        Floats most{};
        int64_t k = 0;
        for (; k + kLanes <= inputs; k += kLanes) {
            const Floats value = load(from + k);
            most = max(most, max(value, -value));
        }
        if (k < inputs) {
            const Floats value = load_part(from + k, inputs - k);
            most = max(most, max(value, -value));
        }
        const float peak = largest(most), inverse = peak > 0 ? 127.0f / peak : 0.0f;
        scale[row] = peak / 127.0f;
        for (int64_t first = 0; first < inputs; first += span) {
            uint32_t* const head = to;
            Ints totals{};
            const auto put = [&](Floats values, int64_t words) {
                const Ints made = integers(values * inverse);
                totals += made;
                uint8_t bytes[kLanes];
                store(bytes, made);
                for (int64_t i = 0; i < words; ++i) std::memcpy(to += stride, bytes + 4 * i, 4);
            };
            const int64_t end = first + span, whole = end < inputs ? end : inputs;
            int64_t i = first;
            for (; i + kLanes <= whole; i += kLanes) put(load(from + i), kLanes / 4);
            for (; i < end; i += kLanes) {
                const int64_t count = whole - i < kLanes ? whole - i : kLanes;
                const int64_t words = end - i < kLanes ? (end - i) / 4 : kLanes / 4;
                put(count > 0 ? load_part(from + i, count) : Floats{}, words);
            }
            *head = static_cast<uint32_t>(factor * sum(totals));
            to += stride;
        }
    };
    auto* data = reinterpret_cast<uint32_t*>(scale + scales);
    const auto quantize = [&](int64_t first_row, int64_t count, uint32_t* to) {
        for (int64_t r = 0; r < count; ++r) quantize_row(first_row + r, to + r, count);
    };
    return make_groups(data, block.rows, words, quantize);
}

}  // namespace quire::QUIRE_ISA
