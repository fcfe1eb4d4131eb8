// What all matmuls share: how work is cut, and what becomes of the sums.
//
// y [rows, outputs] = x [rows, inputs] w [outputs, inputs]^T. Both are read along the inputs, which
// is how checkpoints store weights: nothing is packed, and there is one copy. A thread takes chunks
// of outputs and all rows.
#pragma once

#include "activation.h"
#include "parallel.h"
#include "simd.h"

namespace quire::QUIRE_ISA {

inline constexpr int64_t kChunk = 32;      // rows of w; with a gate, half of them gates
inline constexpr int64_t kBlockRows = 96;  // of x
inline constexpr int64_t kRegister = kLanes * 4;  // bytes

// Where sums go: y [rows, outputs], rows y_stride apart; bias [outputs] or null. With an activation
// w and bias have 2 * outputs rows, gates first. Quantized weights have a scale for each row; so do
// their activations, and `row_offset` is what every sum of that row has too much.
struct Result {
    uint16_t* y;
    int64_t y_stride, rows, outputs;
    const uint16_t* bias;
    int64_t activation;
    const float* scale = nullptr;
    const float* row_scale = nullptr;
    const float* row_offset = nullptr;

    bool gated() const { return activation != kNone; }
    int64_t width() const { return gated() ? kChunk / 2 : kChunk; }  // outputs of a chunk
    int64_t chunks() const { return (outputs + width() - 1) / width(); }

    // The row of w behind `column` of a chunk; past the end, the last one again.
    int64_t weight_row(int64_t chunk, int64_t column) const {
        const int64_t output = chunk * width() + column % width();
        const int64_t bounded = output < outputs ? output : outputs - 1;
        return gated() && column >= width() ? outputs + bounded : bounded;
    }

    // Finishes a chunk's sums [kChunk] of row `row`.
    void finish(int64_t row, int64_t chunk, const float* sums) const {
        const int64_t first = chunk * width();
        const int64_t end = outputs - first < width() ? outputs - first : width();
        for (int64_t i = 0; i < end; i += kLanes) {
            const int64_t left = end - i;
            Floats value = finished(row, first + i, load(sums + i), left);
            if (gated()) {
                const Floats up = load(sums + width() + i);
                value = activate(value, activation) * finished(row, outputs + first + i, up, left);
            }
            uint16_t* to = y + row * y_stride + first + i;
            if (left >= kLanes)
                store(to, value);
            else
                store_part(to, value, left);
        }
    }

  private:
    Floats finished(int64_t row, int64_t weight_row, Floats sums, int64_t left) const {
        if (row_scale != nullptr) sums = (sums - row_offset[row]) * row_scale[row];
        if (scale != nullptr) sums *= some(scale + weight_row, left);
        if (bias != nullptr) sums += some(bias + weight_row, left);
        return sums;
    }

    template <class T>
    static Floats some(const T* p, int64_t count) {
        return count >= kLanes ? load(p) : load_part(p, count);
    }
};

// Calls block(sums [up to kBlockRows][kChunk], chunk, first_row, more) for every chunk and block
// of rows, in several threads, and finishes the sums it makes. `more`: there is a next chunk.
template <class Block>
void for_each_chunk(const Result& result, const Block& block) {
    const int64_t chunks = result.chunks();
    parallel_for(chunks, chunks / 8 + 1, [&](int64_t begin, int64_t end) {
        alignas(64) float sums[kBlockRows * kChunk];
        for (int64_t chunk = begin; chunk < end; ++chunk) {
            for (int64_t first = 0; first < result.rows; first += kBlockRows) {
                const int64_t left = result.rows - first;
                const int64_t rows = left < kBlockRows ? left : kBlockRows;
                for (int64_t i = 0; i < rows * kChunk; ++i) sums[i] = 0;
                block(sums, chunk, first, chunk + 1 < chunks);
                for (int64_t i = 0; i < rows; ++i)
                    result.finish(first + i, chunk, sums + i * kChunk);
            }
        }
    });
}

}  // namespace quire::QUIRE_ISA
