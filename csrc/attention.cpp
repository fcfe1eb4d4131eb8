// Paged attention for any mix of query lengths: online softmax over blocks of keys.
//
// A tile is some queries of one sequence with the query heads of one KV head, up to kTileRows rows.
// Tiles are cut into pieces of some blocks each, which are what threads take. Each block gives a
// row a partial result of its own: a largest score, a sum of weights, a weighted sum of values.
// They are merged in the order of the blocks: by the piece if it is the whole tile, by the piece
// that finishes last if not. Hence a row's result does not depend on how the work was cut.
//
// Pieces of the same positions follow one another head by head, as pages hold them, and each asks
// for the beginning of the next, whoever takes that.
//
// Decode reads each key and value once, and partial results are 1/50 of those bytes. Measured on
// two busy cores (EPYC Zen 5, 2026-11): 29 to 33 GB/s where a plain loop reads the same pages at 32
// to 35; one core alone 21, which is as long as it takes to read at 35 and compute at 45 one after
// the other, or 13 without asking ahead. Prompts: 240 to 310 GFLOP/s a core, of the 400 to 455 that
// dot products of bfloat16 alone have; the rest is softmax.
#include "attention_block.h"

#include <cstdlib>
#include <utility>

#include "parallel.h"
#include "quire.h"

namespace quire::QUIRE_ISA {
namespace {

constexpr int64_t kTileRows = 96;  // whole runs of kRows
constexpr int64_t kPieces = 256;  // of all work, about: enough for 64 threads

template <class T>
struct Array {
    explicit Array(int64_t count)
        : data(static_cast<T*>(std::aligned_alloc(64, (count * sizeof(T) + 63) / 64 * 64 + 64))) {}
    ~Array() { std::free(data); }
    Array(const Array&) = delete;
    T& operator[](int64_t i) const { return data[i]; }
    T* const data;
};

struct Batch {
    const void *q, *k_pages, *v_pages;
    void* out;
    const int32_t *query_lens, *seq_lens, *rows, *page_table;
    int64_t sequences, heads, kv_heads, head_dim, page_size, q_stride, page_stride, head_stride,
        table_width, window;
    Scoring scoring;

    int64_t group() const { return heads / kv_heads; }
    // Floats of `rows` rows' results: sums [rows, head_dim], then Weighed's two, each [rows] and
    // filled up to whole registers.
    int64_t size(int64_t rows) const { return rows * head_dim + 2 * padded(rows); }
    static int64_t padded(int64_t rows) { return (rows + kLanes - 1) / kLanes * kLanes; }
};

struct Tile {
    int64_t sequence, kv_head;
    int64_t token, queries;       // tokens [token, token + queries) of the step
    int64_t position;             // of the first of them
    int64_t first_block, blocks;  // that some query sees
    float* partials;              // [blocks, size] if it is cut, else null
    int64_t pieces_left;
};

struct Piece {
    int64_t tile, first_block, blocks;
};

// The keys of a block that a tile reads: [skip, end), of which it sees [low, high).
struct Span {
    int64_t first;  // position of key 0
    int64_t skip, low, high, end;

    Span(const Batch& b, const Tile& tile, int64_t block) : first(block * kBlock) {
        const int64_t seen = tile.position + tile.queries - first;  // by the last query
        const int64_t gone = b.window > 0 ? tile.position - b.window + 1 - first : 0;
        low = gone > 0 ? gone : 0;
        high = seen < kBlock ? seen : kBlock;
        skip = low / kTile * kTile;
        end = (high + kTile - 1) / kTile * kTile;
    }
};

// Adds results of `rows` rows to others.
void merge(const Batch& b, int64_t rows, const float* from, float* into) {
    const int64_t weighed = rows * b.head_dim, padded = Batch::padded(rows);
    for (int64_t first = 0; first < rows; first += kLanes) {
        const int64_t at = weighed + first;
        const Floats of = load(from + at), to = load(into + at);
        const Floats most = max(of, to), keep = exp2(to - most), add = exp2(of - most);
        store(into + at, most);
        store(into + at + padded,
              load(into + at + padded) * keep + load(from + at + padded) * add);
        for (int64_t r = first; r < rows && r < first + kLanes; ++r) {
            const Floats k = splat(keep[r - first]), a = splat(add[r - first]);
            for (int64_t d = r * b.head_dim; d < (r + 1) * b.head_dim; d += kLanes)
                store(into + d, load(into + d) * k + load(from + d) * a);
        }
    }
}

void clear(const Batch& b, int64_t rows, float* results) {
    std::memset(results, 0, b.size(rows) * sizeof(float));
    for (int64_t r = 0; r < Batch::padded(rows); ++r) results[rows * b.head_dim + r] = kLowest;
}

template <class Element>
class Worker {
    using Value = typename Element::Value;

  public:
    Worker(const Batch& batch, Tile* tiles)
        : b_(batch), tiles_(tiles), words_(b_.head_dim / Element::kPerWord) {
        const int64_t rows = tile_rows(b_), size = Batch::padded(b_.size(rows));
        // All of them multiples of a cache line.
        const int64_t columns = words_ * kVectors * sizeof(Words), floats = size * sizeof(float),
                      scores = rows * kBlock * sizeof(float),
                      weights = rows * kBlock * sizeof(Value), queries = rows * words_ * 4;
        auto* at = static_cast<uint8_t*>(
            scratch(columns + 2 * floats + scores + weights + queries));
        const auto take = [&](int64_t bytes) { return std::exchange(at, at + bytes); };
        columns_ = reinterpret_cast<Words*>(take(columns));
        block_ = reinterpret_cast<float*>(take(floats));
        result_ = reinterpret_cast<float*>(take(floats));
        scores_ = reinterpret_cast<float*>(take(scores));
        weights_ = reinterpret_cast<Value*>(take(weights));
        queries_ = reinterpret_cast<uint32_t*>(take(queries));
    }

    // Most rows of a tile: a KV head's query heads stay together.
    static int64_t tile_rows(const Batch& b) { return queries_of_tile(b) * b.group(); }
    static int64_t queries_of_tile(const Batch& b) {
        return kTileRows > b.group() ? kTileRows / b.group() : 1;
    }

    // `next`: what is likely to be read after it.
    void run(const Piece& piece, const Piece& next) {
        Tile& tile = tiles_[piece.tile];
        const int64_t rows = tile.queries * b_.group(), size = b_.size(rows);
        const int64_t end = piece.first_block + piece.blocks;
        take_queries(tile);
        if (tile.partials == nullptr) clear(b_, rows, result_);
        for (int64_t block = piece.first_block; block < end; ++block) {
            if (block + 1 < end)
                look_at(tile, block + 1);
            else
                look_at(tiles_[next.tile], next.first_block);
            if (tile.partials != nullptr) {
                attend(tile, block, tile.partials + (block - tile.first_block) * size);
            } else {
                attend(tile, block, block_);
                merge(b_, rows, block_, result_);
            }
        }
        if (tile.partials != nullptr) {
            if (__atomic_sub_fetch(&tile.pieces_left, 1, __ATOMIC_ACQ_REL) > 0) return;
            clear(b_, rows, result_);
            for (int64_t i = 0; i < tile.blocks; ++i)
                merge(b_, rows, tile.partials + i * size, result_);
        }
        put_result(tile);
    }

  private:
    // Row i * group + h of the tile is query i of the KV head's query head h.
    void take_queries(const Tile& tile) {
        const auto* from = static_cast<const Value*>(b_.q) + tile.token * b_.q_stride +
                           tile.kv_head * b_.group() * b_.head_dim;
        const int64_t bytes = b_.group() * b_.head_dim * sizeof(Value);
        auto* to = reinterpret_cast<char*>(queries_);
        for (int64_t i = 0; i < tile.queries; ++i)
            std::memcpy(to + i * bytes, from + i * b_.q_stride, bytes);
    }

    void put_result(const Tile& tile) {
        const float *row = result_, *sum = row + tile.queries * b_.group() * b_.head_dim +
                                                Batch::padded(tile.queries * b_.group());
        for (int64_t i = 0; i < tile.queries; ++i) {
            auto* out = static_cast<Value*>(b_.out) +
                        ((tile.token + i) * b_.heads + tile.kv_head * b_.group()) * b_.head_dim;
            for (int64_t h = 0; h < b_.group(); ++h, row += b_.head_dim, out += b_.head_dim) {
                const Floats share = 1.0f / splat(*sum++);
                for (int64_t d = 0; d < b_.head_dim; d += kLanes)
                    store(out + d, load(row + d) * share);
            }
        }
    }

    Rows<Value> keys(const Tile& tile, const int64_t* offsets) const {
        return {static_cast<const Value*>(b_.k_pages) + tile.kv_head * b_.head_stride, offsets};
    }

    Rows<Value> values(const Tile& tile, const int64_t* offsets) const {
        return {static_cast<const Value*>(b_.v_pages) + tile.kv_head * b_.head_stride, offsets};
    }

    // Where the keys [skip, end) are; for one that no query sees, where a visible one is.
    void locate(const Tile& tile, const Span& span, int64_t end, int64_t* offsets) const {
        const int32_t* table = b_.page_table + b_.rows[tile.sequence] * b_.table_width;
        const int64_t high = end < span.high ? end : span.high;
        int64_t key = span.low, column = (span.first + key) / b_.page_size,
                slot = (span.first + key) % b_.page_size;
        offsets -= span.skip;
        for (; key < high; ++column, slot = 0) {
            const int64_t page = table[column] * b_.page_stride;
            for (; slot < b_.page_size && key < high; ++slot, ++key)
                offsets[key] = page + slot * b_.head_dim;
        }
        for (; key < end; ++key) offsets[key] = offsets[key - 1];
        for (key = span.low; key > span.skip; --key) offsets[key - 1] = offsets[key];
    }

    // Finds the keys that are read after those of the block at hand.
    void look_at(const Tile& tile, int64_t block) {
        const Span span(b_, tile, block);
        locate(tile, span, span.skip + kTile, next_);
        next_keys_ = keys(tile, next_);
    }

    // Results of a tile's rows for a block.
    void attend(const Tile& tile, int64_t block, float* results) {
        const int64_t rows = tile.queries * b_.group();
        const Span span(b_, tile, block);
        const int64_t count = span.end - span.skip;
        locate(tile, span, span.end, offsets_);
        const Rows<Value> k = keys(tile, offsets_), v = values(tile, offsets_);
        for (int64_t key = 0; key < count; key += kTile) {
            turn_keys(k.from(key), key + kTile < count ? k.from(key + kTile) : v, words_, columns_);
            by_rows(rows, [&](auto r, int64_t row) {
                score<Element, r>(queries_ + row * words_, words_, columns_,
                                  scores_ + row * kBlock + key);
            });
        }
        float* const largest = results + rows * b_.head_dim;
        float* const sums = largest + Batch::padded(rows);
        for (int64_t row = 0; row < rows; ++row) {
            const int64_t own = tile.position + row / b_.group() - span.first - span.skip;
            const int64_t oldest = b_.window > 0 ? own - b_.window + 1 : 0;
            const Weighed weighed = weigh<Element>(scores_ + row * kBlock, count, oldest, own + 1,
                                                   b_.scoring, weights_ + row * kBlock);
            largest[row] = weighed.largest, sums[row] = weighed.sum;
        }
        by_rows(rows, [&](auto r, int64_t row) {
            const auto add = [&](auto vectors, int64_t dim) {
                add_values<Element, r, vectors>(v, next_keys_, row == 0, count, dim,
                                                weights_ + row * kBlock,
                                                results + row * b_.head_dim, b_.head_dim);
            };
            int64_t dim = 0;
            for (; dim + kTile <= b_.head_dim; dim += kTile)
                add(std::integral_constant<int, kVectors>{}, dim);
            for (; dim + 2 * kLanes <= b_.head_dim; dim += 2 * kLanes)
                add(std::integral_constant<int, 2>{}, dim);
            if (dim < b_.head_dim) add(std::integral_constant<int, 1>{}, dim);
        });
    }

    const Batch& b_;
    Tile* const tiles_;
    const int64_t words_;
    uint32_t* queries_;
    Words* columns_;
    float *scores_, *block_, *result_;
    Value* weights_;
    int64_t offsets_[kBlock], next_[kTile];
    Rows<Value> next_keys_;
};

int64_t div_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <class Element>
void attention(const Batch& b) {
    const int64_t most = Worker<Element>::queries_of_tile(b);
    int64_t num_tiles = 0;
    for (int64_t s = 0; s < b.sequences; ++s)
        num_tiles += div_up(b.query_lens[s], most) * b.kv_heads;
    Array<Tile> tiles(num_tiles);
    int64_t t = 0, token = 0, total_blocks = 0;
    for (int64_t s = 0; s < b.sequences; token += b.query_lens[s++]) {
        const int64_t length = b.query_lens[s], offset = b.seq_lens[s] - length;
        // The longest first, so that no thread begins one when the others have nothing left.
        for (int64_t first = (div_up(length, most) - 1) * most; first >= 0; first -= most)
            for (int64_t head = 0; head < b.kv_heads; ++head, ++t) {
                const int64_t queries = length - first < most ? length - first : most;
                const int64_t position = offset + first;
                const int64_t oldest = b.window > 0 ? position - b.window + 1 : 0;
                const int64_t block = oldest > 0 ? oldest / kBlock : 0;
                const int64_t blocks = div_up(position + queries, kBlock) - block;
                tiles[t] = {s, head, token + first, queries, position, block, blocks, nullptr, 0};
                total_blocks += blocks;
            }
    }
    const int64_t limit = 1 + total_blocks / kPieces;  // blocks of a piece
    int64_t num_pieces = 0, num_partials = 0;
    for (t = 0; t < num_tiles; ++t) {
        tiles[t].pieces_left = div_up(tiles[t].blocks, limit);
        num_pieces += tiles[t].pieces_left;
        if (tiles[t].pieces_left > 1)
            num_partials += tiles[t].blocks * b.size(tiles[t].queries * b.group());
    }
    Array<Piece> pieces(num_pieces);
    Array<float> partials(num_partials);
    float* partial = partials.data;
    int64_t p = 0;
    for (t = 0; t < num_tiles; t += b.kv_heads) {
        for (int64_t head = 0; head < b.kv_heads; ++head) {
            Tile& tile = tiles[t + head];
            if (tile.pieces_left == 1) continue;
            tile.partials = partial;
            partial += tile.blocks * b.size(tile.queries * b.group());
        }
        for (int64_t done = 0; done < tiles[t].blocks; done += limit) {
            const int64_t left = tiles[t].blocks - done, blocks = left < limit ? left : limit;
            for (int64_t head = 0; head < b.kv_heads; ++head)
                pieces[p++] = {t + head, tiles[t].first_block + done, blocks};
        }
    }
    parallel_for(num_pieces, 1, [&](int64_t begin, int64_t end) {
        Worker<Element> worker(b, tiles.data);
        for (int64_t i = begin; i < end; ++i)
            worker.run(pieces[i], pieces[i + 1 < num_pieces ? i + 1 : i]);
    });
}

}  // namespace
}  // namespace quire::QUIRE_ISA

void QUIRE_KERNEL(attention)(void* out, const void* q, const void* k_pages, const void* v_pages,
                             const int32_t* query_lens, const int32_t* seq_lens,
                             const int32_t* rows, const int32_t* page_table, int64_t sequences,
                             int64_t heads, int64_t kv_heads, int64_t head_dim, int64_t page_size,
                             int64_t q_stride, int64_t page_stride, int64_t head_stride,
                             int64_t table_width, float scale, int64_t window, float softcap,
                             int64_t bf16) {
    using namespace quire::QUIRE_ISA;
    const Batch batch{q, k_pages, v_pages, out, query_lens, seq_lens, rows, page_table, sequences,
                      heads, kv_heads, head_dim, page_size, q_stride, page_stride, head_stride,
                      table_width, window, {scale, softcap}};
    bf16 ? attention<Bf16>(batch) : attention<Fp32>(batch);
}
