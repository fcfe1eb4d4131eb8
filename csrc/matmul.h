// Products of x [rows, inputs] with weights in panels: y = x w^T.
//
// A panel is 32 outputs. Step after step along the inputs it holds a word of each, side by side:
// 2 bfloat16, 4 int8 or 8 int4. So a register of weights meets one word of x in all its lanes, and
// a lane's sum is one output's: nothing is added across lanes, and the panels of a weight are one
// stretch of memory that one row of x reads from beginning to end. Past the outputs and past the
// inputs a panel is zeros. `pack.cpp` makes panels.
//
// A tile is what one pass along the inputs computes: up to kTileRows rows of x by two registers of
// outputs, whose sums stay in registers. x is copied in that order first: of each group of rows,
// word after word, the rows side by side. Inputs are cut so that a panel's part stays near while
// all groups pass over it, and the next part is asked for meanwhile.
//
// A sum runs along the inputs from the first to the last, whatever the tile: a row's products are
// the same to the last bit in any company, and an engine that goes on after a crash computes in one
// step what took many before.
//
// What limits a tile of 12 rows on Zen 5, for each step: 24 products, two a cycle, 12 cycles;
// 2 loads of weights and 12 of x, two a cycle, 7; 128 bytes of weights from the second cache, 2.
#pragma once

#include "activation.h"
#include "parallel.h"
#include "simd.h"

namespace quire::QUIRE_ISA {

inline constexpr int64_t kPanel = 32;
inline constexpr int64_t kTileVectors = 2;
#if defined(__AVX512F__)
inline constexpr int64_t kTileRows = 12;  // 24 of 32 registers hold sums
#elif defined(__aarch64__)
inline constexpr int64_t kTileRows = 8;
#else
inline constexpr int64_t kTileRows = 4;
#endif
inline constexpr int64_t kTileColumns = kTileVectors * kLanes;
inline constexpr int64_t kBlockRows = 96;        // of x, a multiple of kTileRows
inline constexpr int64_t kPartWords = 16 << 10;  // of a panel at a time
inline constexpr int64_t kNear = 2 << 10;        // words that one group alone asks for ahead
inline constexpr int64_t kLine = 16;             // words of a cache line
inline constexpr int64_t kMostPanels = 3;        // of a chunk

// x as tiles read it: groups of rows as even as can be, so many words of each row that the groups'
// parts do not meet in the same lines of a cache.
struct Groups {
    const uint32_t* data;
    int64_t rows, words;
    int64_t count = (rows + kTileRows - 1) / kTileRows;
    int64_t least = rows / count, longer = rows % count;  // the first groups have one row more

    static int64_t words_of(int64_t used) { return used + kPartWords / kPanel; }

    int64_t first(int64_t group) const { return group * least + (group < longer ? group : longer); }
    int64_t rows_of(int64_t group) const { return least + (group < longer); }
    const uint32_t* at(int64_t group) const { return data + first(group) * words; }
};

// Fills groups at `to` [rows, words]: fill(first_row, count, to) makes one, [.., count].
template <class Fill>
Groups make_groups(uint32_t* to, int64_t rows, int64_t words, const Fill& fill) {
    const Groups groups{to, rows, words};
    const int64_t grain = 16384 / (kTileRows * words) + 1;
    parallel_for(groups.count, grain, [&](int64_t begin, int64_t end) {
        for (int64_t group = begin; group < end; ++group) {
            const int64_t first = groups.first(group);
            fill(first, groups.rows_of(group), to + first * words);
        }
    });
    return groups;
}

// Where sums go: y [rows, outputs], rows y_stride apart; bias [outputs] or null. With an activation
// w and bias have 2 * outputs rows, gates first. int8 weights have a scale for each row, and so
// have rows of x that were rounded to int8.
struct Result {
    uint16_t* y;
    int64_t y_stride, rows, outputs;
    const uint16_t* bias;
    int64_t activation;
    const float* scale = nullptr;
    const float* row_scale = nullptr;

    bool gated() const { return activation != kNone; }
    int64_t chunks() const { return (outputs + kPanel - 1) / kPanel; }

    // A chunk is a panel of outputs; if gated, also the one or two that hold their up rows.
    int64_t panels() const { return !gated() ? 1 : outputs % kPanel == 0 ? 2 : 3; }
    int64_t panel(int64_t chunk, int64_t index) const {
        if (index == 0) return chunk;
        const int64_t last = (2 * outputs - 1) / kPanel, at = chunk + outputs / kPanel + index - 1;
        return at < last ? at : last;
    }

    // Makes y of rows [begin, end) of a chunk of their sums [rows, panels * kPanel].
    template <class Format>
    void finish(int64_t begin, int64_t end, int64_t chunk, const float* sums) const {
        const int64_t first = chunk * kPanel, stride = panels() * kPanel;
        for (int64_t i = first; i < first + kPanel && i < outputs; i += kLanes) {
            const int64_t left = outputs - i;
            const Outputs own = some(i, left), ups = gated() ? some(outputs + i, left) : own;
            const float* from = sums + i - first;
            for (int64_t row = begin; row < end; ++row, from += stride) {
                const float by = row_scale == nullptr ? 1 : row_scale[row];
                Floats value = Format::floats(from) * by * own.scale + own.bias;
                if (gated()) {
                    const Floats up = Format::floats(from + kPanel + outputs % kPanel);
                    value = activate(value, activation) * (up * by * ups.scale + ups.bias);
                }
                uint16_t* const to = y + row * y_stride + i;
                left >= kLanes ? store(to, value) : store_part(to, value, left);
            }
        }
    }

    // Asks for the memory that finish() writes.
    void ask(int64_t begin, int64_t end, int64_t chunk) const {
        for (int64_t row = begin; row < end; ++row)
            __builtin_prefetch(y + row * y_stride + chunk * kPanel, 1);
    }

  private:
    struct Outputs {
        Floats scale, bias;
    };

    // Of weight rows from `first` on. -0 is what a sum stays the same with.
    Outputs some(int64_t first, int64_t left) const {
        const auto values = [&](const auto* from, float none) {
            if (from == nullptr) return splat(none);
            return left >= kLanes ? load(from + first) : load_part(from + first, left);
        };
        return {values(scale, 1.0f), values(bias, -0.0f)};
    }
};

// Asks for memory while tiles are computed, `share` words (two cache lines at most) with each step.
struct Ahead {
    const uint32_t* next;
    int64_t share;

    void step() {
        __builtin_prefetch(next, 0, 3);
        if (share > kLine) __builtin_prefetch(next + kLine, 0, 3);
        next += share;
    }
};

// Where a tile is: sums [kRows], rows `stride` apart, from a column of a panel on; x of its group;
// units [begin, end) of the panel. Sums start from nothing if begin is 0.
struct Place {
    float* sums;
    int64_t stride;
    const uint32_t* x;
    int64_t panel, column, begin, end;
};

// Calls function.template operator()<n>() for n = `count` in [1, kMost].
template <int64_t kMost, class Function>
inline void with_constant(int64_t count, const Function& function) {
    if constexpr (kMost > 0) {
        if (count == kMost)
            function.template operator()<kMost>();
        else
            with_constant<kMost - 1>(count, function);
    }
}

// sums: [kBlockRows, panels of a chunk * kPanel], the caller's.
template <class Format>
void multiply_chunk(const Format& format, const Result& result, const Groups& x, int64_t chunk,
                    float* sums) {
    // One group alone is itself waiting for memory. Several share what is near, and together ask
    // for what the next panel has of these inputs, or the first panel of the next.
    const int64_t groups = x.count, panels = result.panels(), stride = panels * kPanel;
    const int64_t part = groups == 1 ? format.units : kPartWords / format.unit_words;
    const auto words = [&](int64_t panel, int64_t unit) {
        return format.weights + (panel * format.units + unit) * format.unit_words;
    };
    for (int64_t begin = 0; begin < format.units; begin += part) {
        const int64_t end = format.units - begin < part ? format.units : begin + part;
        const int64_t steps = (end - begin) * format.unit_words / kPanel;
        for (int64_t index = 0; index < panels; ++index) {
            const int64_t panel = result.panel(chunk, index);
            Ahead ahead{groups == 1          ? words(panel, begin) + kNear
                        : index + 1 < panels ? words(result.panel(chunk, index + 1), begin)
                        : end < format.units ? words(chunk, end)
                                             : words(chunk + 1, 0),
                        (kPanel + groups - 1) / groups};
            const bool last = end == format.units && index + 1 == panels;
            for (int64_t group = 0; group < groups; ++group) {
                const int64_t row = x.first(group), rows = x.rows_of(group);
                float* const own = sums + row * stride;
                if (last) result.ask(row, row + rows, chunk);
                Place at{own + index * kPanel, stride, x.at(group), panel, 0, begin, end};
                with_constant<kTileRows>(rows, [&]<int64_t kRows>() {
                    for (; at.column < kPanel; at.column += kTileColumns, at.sums += kTileColumns)
                        format.template tile<kRows>(at, ahead);
                });
                ahead.next += steps * ahead.share;
                if (last) result.template finish<Format>(row, row + rows, chunk, own);
            }
        }
    }
}

// Rows that are multiplied next of `left`: whole tiles of blocks that are as even as can be, as each
// reads all weights.
inline int64_t rows_of_block(int64_t left) {
    const int64_t blocks = (left + kBlockRows - 1) / kBlockRows;
    const int64_t tiles = (left + kTileRows - 1) / kTileRows;
    const int64_t rows = (tiles + blocks - 1) / blocks * kTileRows;
    return rows < left ? rows : left;
}

// The whole product, as many rows at a time as leave room for weights in the caches: then
// x_of(first_row, block) makes their groups, and may set what `block` is to know of them.
// `Format` says what panels are made of:
//   weights, units, unit_words   of a panel: so many units along the inputs, so many words each
//   tile<kRows>(place, ahead)    adds to the sums of a tile
//   floats(sums)                 kLanes of those sums as Floats
template <class Format, class XOf>
void multiply(const Format& format, const Result& result, const XOf& x_of) {
    Result block = result;
    for (int64_t first = 0; first < result.rows; first += block.rows) {
        block.rows = rows_of_block(result.rows - first);
        block.y = result.y + first * block.y_stride;
        const Groups x = x_of(first, block);
        parallel_for(block.chunks(), 1, block.chunks() / 32 + 1, [&](int64_t begin, int64_t end) {
            alignas(64) float sums[kBlockRows * kMostPanels * kPanel];
            for (int64_t chunk = begin; chunk < end; ++chunk)
                multiply_chunk(format, block, x, chunk, sums);
        });
    }
}

}  // namespace quire::QUIRE_ISA
