// Products of few rows of x with rows of w, both read along the inputs: a register holds partial
// sums of one product, whose lanes are added up at the end.
//
// For one or two rows of x each row of w is read once from beginning to end, one after the other:
// the pattern that memory is fastest at. Measured for one row on one core (EPYC Zen 5, 2026-11):
// 39.8 GB/s, as fast as reading alone; four rows of w at a time 36, with prefetches 30.
//
// With more rows arithmetic counts: a tile of up to kTileRows rows by four of w uses each register
// it loads several times. The first tile brings the weights into the cache, and while the others
// use them the next chunk's are asked for, so that memory works while the thread computes.
//
// A row's products do not depend on how many rows there are: the same registers are added in the
// same order, and an engine that goes on after a crash computes in one step what took many before.
//
// `Format` says what is in a register:
//   Register, Sum             types
//   weight(p), value(p)       a register of w and of x
//   dot(sum, weight, value)   products of the pairs in each lane, added up
//   floats(sum)               as Floats
#pragma once

#include "matmul.h"

namespace quire::QUIRE_ISA {

#if defined(__AVX512F__)
inline constexpr int64_t kTileRows = 6;  // 24 of 32 registers hold sums
inline constexpr int64_t kStreamRows = 2;
#elif defined(__aarch64__)
inline constexpr int64_t kTileRows = 4;
inline constexpr int64_t kStreamRows = 2;
#else
inline constexpr int64_t kTileRows = 2;
inline constexpr int64_t kStreamRows = 2;
#endif
inline constexpr int64_t kTileColumns = 4;
inline constexpr int64_t kBlockBytes = 4096;  // of a row at a time; a tile's fit the nearest cache
inline constexpr int64_t kStreamBlocks = 8;    // that are read in one go

// The last bytes of a row, zeros behind them.
struct Part {
    uint8_t bytes[kRegister] = {};

    Part(const uint8_t* p, int64_t count) { std::memcpy(bytes, p, count); }
};

inline constexpr int64_t kBlockGroups = kBlockRows / kTileRows;

// x as tiles read it: in each block of kBlockRows rows groups as even as can be, each group register
// by register, zeros behind the end. (Strides of a power of two would crowd into few lines of the
// nearest cache.)
struct Groups {
    const uint8_t* data;
    int64_t rows, size;  // `size` bytes are a row's, a multiple of kRegister

    int64_t in_block(int64_t first_row) const {
        const int64_t left = rows - first_row;
        if (rows <= kStreamRows) return 1;
        return left < kBlockRows ? (left + kTileRows - 1) / kTileRows : kBlockGroups;
    }
    int64_t count() const {
        const int64_t last = (rows - 1) / kBlockRows;
        return last * kBlockGroups + in_block(last * kBlockRows);
    }
    // The first row of a group; of the one behind the last, `rows`.
    int64_t first(int64_t group) const {
        const int64_t block = rows <= kStreamRows ? 0 : group / kBlockGroups * kBlockRows;
        const int64_t left = rows - block;
        if (left <= 0) return rows;
        const int64_t within = left < kBlockRows ? left : kBlockRows;
        return block + (group - block / kTileRows) * within / in_block(block);
    }
    int64_t rows_of(int64_t group) const { return first(group + 1) - first(group); }
    // Where the registers from byte `k` of its rows on start.
    const uint8_t* at(int64_t group, int64_t k) const {
        return data + first(group) * size + k * rows_of(group);
    }
};

// Fills `to` with x [rows, size bytes], rows `stride` bytes apart; `groups.data` is `to`.
inline void group_rows(const Groups& groups, uint8_t* to, const uint8_t* x, int64_t stride,
                       int64_t size) {
    parallel_for(groups.count(), 4, [&](int64_t begin, int64_t end) {
        for (int64_t group = begin; group < end; ++group) {
            const int64_t rows = groups.rows_of(group);
            for (int64_t r = 0; r < rows; ++r) {
                const uint8_t* from = x + (groups.first(group) + r) * stride;
                uint8_t* row = to + groups.first(group) * groups.size + r * kRegister;
                int64_t k = 0;
                for (; k + kRegister <= size; k += kRegister)
                    std::memcpy(row + k * rows, from + k, kRegister);
                if (k < size) {
                    const Part part(from + k, size - k);
                    std::memcpy(row + k * rows, part.bytes, kRegister);
                }
            }
        }
    });
}

// Adds up the lanes of four vectors, to four neighbouring floats of `to`.
inline void add_sums(float* to, Floats a, Floats b, Floats c, Floats d) {
#if defined(__AVX512F__)
    const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    const __m512 abcd =
        _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
    const __m256 half =
        _mm256_add_ps(_mm512_castps512_ps256(abcd), _mm512_extractf32x8_ps(abcd, 1));
    const __m128 sums = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    _mm_storeu_ps(to, _mm_add_ps(_mm_loadu_ps(to), sums));
#elif defined(__AVX2__)
    const __m256 abcd = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    const __m128 sums = _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1));
    _mm_storeu_ps(to, _mm_add_ps(_mm_loadu_ps(to), sums));
#else
    to[0] += sum(a), to[1] += sum(b), to[2] += sum(c), to[3] += sum(d);
#endif
}

// sums [kRows][kChunk], four columns of it, += kRows rows of x times four of w, one by one. Added up
// as `tile` does, block by block.
template <class Format, int64_t kRows>
void stream(float* sums, const uint8_t* x, const uint8_t* const* w, int64_t size) {
    Floats totals[kStreamBlocks][kTileColumns][kRows];
    for (int64_t column = 0; column < kTileColumns; ++column)
        for (int64_t start = 0; start < size; start += kBlockBytes) {
            const int64_t end = size - start < kBlockBytes ? size : start + kBlockBytes;
            typename Format::Sum acc[kRows] = {};
            int64_t k = start;
            const auto add = [&](typename Format::Register weight) {
                QUIRE_UNROLL
                for (int64_t r = 0; r < kRows; ++r) {
                    const auto value = Format::value(x + k * kRows + r * kRegister);
                    acc[r] = Format::dot(acc[r], weight, value);
                }
            };
            for (; k + kRegister <= end; k += kRegister) add(Format::weight(w[column] + k));
            if (k < end) add(Format::weight(Part(w[column] + k, end - k).bytes));
            QUIRE_UNROLL
            for (int64_t r = 0; r < kRows; ++r)
                totals[start / kBlockBytes][column][r] = Format::floats(acc[r]);
        }
    for (int64_t block = 0; block * kBlockBytes < size; ++block) {
        const auto& of = totals[block];
        QUIRE_UNROLL
        for (int64_t r = 0; r < kRows; ++r)
            add_sums(sums + r * kChunk, of[0][r], of[1][r], of[2][r], of[3][r]);
    }
}

// Weights to ask for while tiles are computed: a part of four rows, in the order of their bytes,
// four lines a step of all groups together.
class Ahead {
  public:
    // `share` of `shares` of the bytes [0, size) of rows `stride` bytes apart; null: nothing.
    Ahead(const uint8_t* rows, int64_t stride, int64_t size, int64_t share, int64_t shares)
        : shares_(rows == nullptr ? INT64_MAX : shares), size_(size), stride_(stride), row_(rows) {
        if (rows == nullptr) return;
        const int64_t first = kTileColumns * size * share / shares;
        row_ = rows + first / size * stride;
        at_ = first % size;
    }

    void step() {
        for (due_ += kTileColumns; due_ >= shares_; due_ -= shares_) {
            __builtin_prefetch(row_ + at_, 0, 2);
            at_ += kRegister;
            if (at_ >= size_) at_ = 0, row_ += stride_;
        }
    }

  private:
    int64_t due_ = 0, shares_, size_, stride_, at_ = 0;
    const uint8_t* row_;
};

// The same all at once.
template <class Format, int64_t kRows>
void tile(float* sums, const uint8_t* x, const uint8_t* const* w, int64_t size, Ahead ahead) {
    typename Format::Sum acc[kRows][kTileColumns] = {};
    int64_t k = 0;
    for (; k + kRegister <= size; k += kRegister) {
        typename Format::Register weight[kTileColumns];
        QUIRE_UNROLL
        for (int64_t c = 0; c < kTileColumns; ++c) weight[c] = Format::weight(w[c] + k);
        QUIRE_UNROLL
        for (int64_t r = 0; r < kRows; ++r) {
            const auto value = Format::value(x + k * kRows + r * kRegister);
            QUIRE_UNROLL
            for (int64_t c = 0; c < kTileColumns; ++c)
                acc[r][c] = Format::dot(acc[r][c], weight[c], value);
        }
        ahead.step();
    }
    if (k < size) {
        QUIRE_UNROLL
        for (int64_t c = 0; c < kTileColumns; ++c) {
            const auto weight = Format::weight(Part(w[c] + k, size - k).bytes);
            QUIRE_UNROLL
            for (int64_t r = 0; r < kRows; ++r) {
                const auto value = Format::value(x + k * kRows + r * kRegister);
                acc[r][c] = Format::dot(acc[r][c], weight, value);
            }
        }
    }
    QUIRE_UNROLL
    for (int64_t r = 0; r < kRows; ++r)
        add_sums(sums + r * kChunk, Format::floats(acc[r][0]), Format::floats(acc[r][1]),
                 Format::floats(acc[r][2]), Format::floats(acc[r][3]));
}

// Calls function.template operator()<n>() for n = `count` in [1, kMost].
template <int64_t kMost, class Function>
void with_constant(int64_t count, const Function& function) {
    if constexpr (kMost > 0) {
        if (count == kMost)
            function.template operator()<kMost>();
        else
            with_constant<kMost - 1>(count, function);
    }
}

// The whole product of x and w [.., size bytes].
template <class Format>
void few_rows(const Result& result, const Groups& x, const uint8_t* w, int64_t size) {
    const bool streams = x.rows <= kStreamRows;
    const int64_t most = streams ? kStreamBlocks * kBlockBytes : kBlockBytes;
    for_each_chunk(result, [&](float* sums, int64_t chunk, int64_t first, bool more) {
        const int64_t begin = first / kTileRows, end = begin + x.in_block(first);
        for (int64_t k = 0; k < size; k += most) {
            const int64_t depth = size - k < most ? size - k : most;
            for (int64_t group = begin; group < end; ++group) {
                const int64_t rows = x.rows_of(group);
                for (int64_t column = 0; column < kChunk; column += kTileColumns) {
                    const uint8_t* weights[kTileColumns];
                    QUIRE_UNROLL
                    for (int64_t c = 0; c < kTileColumns; ++c)
                        weights[c] = w + result.weight_row(chunk, column + c) * size + k;
                    // One group alone uses a row once: then the next rows, and no next chunk.
                    const uint8_t* next = nullptr;
                    if (end == 1)
                        next = weights[0] + kTileColumns * size;
                    else if (more && first == 0)
                        next = w + result.weight_row(chunk + 1, column) * size + k;
                    const Ahead ahead(next, size, depth, group, end);
                    float* to = sums + (x.first(group) - first) * kChunk + column;
                    if (streams)
                        with_constant<kStreamRows>(rows, [&]<int64_t kRows>() {
                            stream<Format, kRows>(to, x.at(group, k), weights, depth);
                        });
                    else
                        with_constant<kTileRows>(rows, [&]<int64_t kRows>() {
                            tile<Format, kRows>(to, x.at(group, k), weights, depth, ahead);
                        });
                }
            }
        }
    });
}

}  // namespace quire::QUIRE_ISA
