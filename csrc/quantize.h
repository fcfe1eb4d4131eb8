// Rows of x rounded to int8, a scale for each, in the groups of matmul.h.
#pragma once

#include "matmul.h"

namespace quire::QUIRE_ISA {

struct Quantized {
    Groups groups;
    const float* scale;  // [rows]
};

// The integers of kLanes values times `inverse`, as bytes.
inline void round_to_bytes(Floats values, float inverse, int8_t* to) {
    typedef int8_t Bytes __attribute__((vector_size(kLanes)));
    // Adding 1.5 * 2^23 rounds to nearest; the sum's low byte is the integer.
    const Ints bits = (Ints)(values * inverse + 12582912.0f);
    const Bytes bytes = __builtin_convertvector(bits, Bytes);
    std::memcpy(to, &bytes, sizeof bytes);
}

// x [rows, inputs], rows x_stride apart, rounded to 127 steps of the row's largest value. Before
// each `span` values (a multiple of 4; past the inputs they are 0) comes a word that is `factor`
// times their sum: what weights that are held with -factor added have too much. The memory is the
// calling thread's scratch.
inline Quantized quantize_rows(const uint16_t* x, int64_t x_stride, int64_t rows, int64_t inputs,
                               int64_t span, int32_t factor) {
    const int64_t spans = (inputs + span - 1) / span, words = spans * (span / 4 + 1);
    const int64_t scales = (rows + 15) / 16 * 16;
    auto* scale = static_cast<float*>(scratch((scales + rows * words) * 4));
    const auto quantize = [&](int64_t row, uint32_t* to, int64_t stride) {
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
            int32_t total = 0;
            for (int64_t i = first; i < first + span; i += kLanes) {
                alignas(64) int8_t bytes[kLanes];
                const Floats values = i + kLanes <= inputs ? load(from + i)
                                      : i < inputs         ? load_part(from + i, inputs - i)
                                                           : Floats{};
                round_to_bytes(values, inverse, bytes);
                for (int64_t j = 0; j < kLanes && i + j < first + span; j += 4) {
                    for (int64_t b = 0; b < 4; ++b) total += bytes[j + b];
                    std::memcpy(to += stride, bytes + j, 4);
                }
            }
            *head = static_cast<uint32_t>(factor * total);
            to += stride;
        }
    };
    auto* data = reinterpret_cast<uint32_t*>(scale + scales);
    return {make_groups(data, rows, words, quantize), scale};
}

}  // namespace quire::QUIRE_ISA
