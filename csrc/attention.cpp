// Paged attention for any mix of query lengths: online softmax over blocks of keys.
//
// A tile is some queries of one sequence with the query heads of one KV head, up to kTileRows rows.
// Tiles are cut into pieces of some blocks each, which are what threads take. Each block gives a
// row a partial result of its own: a largest score, a sum of weights, a weighted sum of values.
// They are merged in the order of the blocks: by the piece if it is the whole tile, by the piece
// that finishes last if not. Hence a row's result does not depend on how the work was cut.
//
// Bytes: decode reads each key and value once, and partial results are 1/50 of them or less.
// Measured on one busy core (EPYC Zen 5, 2026-11), 32 query heads of 64 over 8 KV heads: 22 GB/s
// from the cache, 11 from memory, where a plain loop reads the same pages at 27 and long runs at
// 35. Arithmetic and waiting do not overlap yet.
#include "attention_block.h"

#include <cstdlib>

#include "parallel.h"
#include "quire.h"

namespace quire::QUIRE_ISA {
namespace {

constexpr int64_t kTileRows = 64;
constexpr int64_t kPieceBlocks = 4;  // at least, of a tile that is cut
constexpr int64_t kPieces = 256;     // of all work, about: enough for 64 threads

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
    int64_t stride() const { return head_dim + kLanes; }  // of partial results: sums, then Weighed
};

struct Tile {
    int64_t sequence, kv_head;
    int64_t token, queries;       // tokens [token, token + queries) of the step
    int64_t position;             // of the first of them
    int64_t first_block, blocks;  // that some query sees
    float* partials;              // [blocks, rows, stride] if it is cut, else null
    int64_t pieces_left;
};

struct Piece {
    int64_t tile, first_block, blocks;
};

// sums, then Weighed, of `rows` rows.
void merge_block(const Batch& b, int64_t rows, const float* from, float* into) {
    for (int64_t r = 0; r < rows; ++r, from += b.stride(), into += b.stride()) {
        const float* const of = from + b.head_dim;
        float* const to = into + b.head_dim;
        if (of[0] == -__builtin_inff()) continue;  // sees nothing of the block
        const Floats most = splat(of[0] > to[0] ? of[0] : to[0]);
        const Floats keep = exp(to[0] - most), add = exp(of[0] - most);
        for (int64_t d = 0; d < b.head_dim; d += kLanes)
            store(into + d, load(into + d) * keep + load(from + d) * add);
        to[1] = to[1] * keep[0] + of[1] * add[0];
        to[0] = most[0];
    }
}

void clear(const Batch& b, int64_t rows, float* results) {
    std::memset(results, 0, rows * b.stride() * sizeof(float));
    for (int64_t r = 0; r < rows; ++r) results[r * b.stride() + b.head_dim] = -__builtin_inff();
}

template <class Element>
class Worker {
    using Value = typename Element::Value;

  public:
    Worker(const Batch& batch, Tile* tiles)
        : b_(batch), tiles_(tiles), limit_(tile_rows(batch)),
          words_(b_.head_dim / Element::kPerWord), queries_(limit_ * words_),
          columns_(words_ * kVectors), scores_(limit_ * kBlock),
          weights_(limit_ * kBlock), block_(limit_ * b_.stride()), result_(limit_ * b_.stride()),
          zeros_(b_.head_dim) {
        std::memset(zeros_.data, 0, b_.head_dim * sizeof(Value));
    }

    // Most rows of a tile: a KV head's query heads stay together.
    static int64_t tile_rows(const Batch& b) { return queries_of_tile(b) * b.group(); }
    static int64_t queries_of_tile(const Batch& b) {
        return kTileRows > b.group() ? kTileRows / b.group() : 1;
    }

    void run(const Piece& piece) {
        Tile& tile = tiles_[piece.tile];
        const int64_t rows = tile.queries * b_.group();
        take_queries(tile);
        if (tile.partials == nullptr) {
            clear(b_, rows, result_.data);
            for (int64_t i = 0; i < piece.blocks; ++i) {
                attend(tile, piece.first_block + i, block_.data);
                merge_block(b_, rows, block_.data, result_.data);
            }
            return put_result(tile);
        }
        const int64_t size = rows * b_.stride();
        float* partial = tile.partials + (piece.first_block - tile.first_block) * size;
        for (int64_t i = 0; i < piece.blocks; ++i, partial += size)
            attend(tile, piece.first_block + i, partial);
        if (__atomic_sub_fetch(&tile.pieces_left, 1, __ATOMIC_ACQ_REL) > 0) return;
        clear(b_, rows, result_.data);
        for (int64_t i = 0; i < tile.blocks; ++i)
            merge_block(b_, rows, tile.partials + i * size, result_.data);
        put_result(tile);
    }

  private:
    // Row i * group + h of the tile is query i of the KV head's query head h.
    void take_queries(const Tile& tile) {
        const auto* from = static_cast<const Value*>(b_.q) + tile.token * b_.q_stride +
                           tile.kv_head * b_.group() * b_.head_dim;
        const int64_t bytes = b_.group() * b_.head_dim * sizeof(Value);
        auto* to = reinterpret_cast<char*>(queries_.data);
        for (int64_t i = 0; i < tile.queries; ++i)
            std::memcpy(to + i * bytes, from + i * b_.q_stride, bytes);
    }

    void put_result(const Tile& tile) {
        const float* row = result_.data;
        for (int64_t i = 0; i < tile.queries; ++i) {
            auto* out = static_cast<Value*>(b_.out) +
                        ((tile.token + i) * b_.heads + tile.kv_head * b_.group()) * b_.head_dim;
            for (int64_t h = 0; h < b_.group(); ++h, row += b_.stride(), out += b_.head_dim) {
                const Floats share = 1.0f / splat(row[b_.head_dim + 1]);
                for (int64_t d = 0; d < b_.head_dim; d += kLanes)
                    store(out + d, load(row + d) * share);
            }
        }
    }

    // Where the keys and values of `count` positions are, zeros for those in no page.
    void locate(const Tile& tile, int64_t first, int64_t low, int64_t high, int64_t count) {
        const int32_t* table = b_.page_table + b_.rows[tile.sequence] * b_.table_width;
        const auto* keys = static_cast<const Value*>(b_.k_pages) + tile.kv_head * b_.head_stride;
        const auto* values = static_cast<const Value*>(b_.v_pages) + tile.kv_head * b_.head_stride;
        int64_t i = 0;
        for (; i < low; ++i) k_rows_[i] = v_rows_[i] = zeros_.data;
        while (i < high) {
            const int64_t column = (first + i) / b_.page_size;
            int64_t slot = (first + i) % b_.page_size;
            const int64_t page = table[column] * b_.page_stride;
            for (; slot < b_.page_size && i < high; ++slot, ++i) {
                k_rows_[i] = keys + page + slot * b_.head_dim;
                v_rows_[i] = values + page + slot * b_.head_dim;
            }
        }
        for (; i < count; ++i) k_rows_[i] = v_rows_[i] = zeros_.data;
    }

    // A block's partial results of the tile's rows.
    void attend(const Tile& tile, int64_t block, float* partial) {
        const int64_t rows = tile.queries * b_.group(), first = block * kBlock;
        const int64_t end = tile.position + tile.queries - first;  // of what the last query sees
        const int64_t begin = b_.window > 0 ? tile.position - b_.window + 1 - first : 0;
        const int64_t high = end < kBlock ? end : kBlock, low = begin > 0 ? begin : 0;
        const int64_t skip = low / kTile * kTile;
        const int64_t count = (high + kTile - 1) / kTile * kTile;
        locate(tile, first, low, high, count);
        for (int64_t key = skip; key < count; key += kTile) {
            const int64_t next = key + kTile < count ? key + kTile : key;
            turn_keys(k_rows_ + key, k_rows_ + next, v_rows_ + key, words_, columns_.data);
            by_rows(rows, [&](auto r, int64_t row) {
                score<Element, r>(queries_.data + row * words_, words_, columns_.data,
                                  scores_.data + row * kBlock + key);
            });
        }
        for (int64_t row = 0; row < rows; ++row) {
            const int64_t position = tile.position + row / b_.group() - first;
            const int64_t oldest = b_.window > 0 ? position - b_.window + 1 : 0;
            const Weighed weighed =
                weigh(scores_.data + row * kBlock + skip, count - skip, oldest - skip,
                      position + 1 - skip, b_.scoring, weights_.data + row * kBlock + skip);
            float* const to = partial + row * b_.stride() + b_.head_dim;
            to[0] = weighed.largest, to[1] = weighed.sum;
        }
        by_rows(rows, [&](auto r, int64_t row) {
            const auto add = [&](auto vectors, int64_t dim) {
                add_values<Element, r, vectors>(v_rows_ + skip, count - skip, dim,
                                                weights_.data + row * kBlock + skip,
                                                partial + row * b_.stride(), b_.stride());
            };
            int64_t dim = 0;
            for (; dim + kTile <= b_.head_dim; dim += kTile)
                add(std::integral_constant<int, kVectors>{}, dim);
            for (; dim < b_.head_dim; dim += kLanes) add(std::integral_constant<int, 1>{}, dim);
        });
    }

    const Batch& b_;
    Tile* const tiles_;
    const int64_t limit_, words_;
    Array<uint32_t> queries_;
    Array<Words> columns_;
    Array<float> scores_;
    Array<Value> weights_;
    Array<float> block_, result_;
    Array<Value> zeros_;
    const Value *k_rows_[kBlock], *v_rows_[kBlock];
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
    const int64_t share = total_blocks / kPieces;
    const int64_t limit = share > kPieceBlocks ? share : kPieceBlocks;  // blocks of a piece
    int64_t num_pieces = 0, num_partials = 0;
    for (t = 0; t < num_tiles; ++t) {
        tiles[t].pieces_left = div_up(tiles[t].blocks, limit);
        num_pieces += tiles[t].pieces_left;
        if (tiles[t].pieces_left > 1)
            num_partials += tiles[t].blocks * tiles[t].queries * b.group();
    }
    Array<Piece> pieces(num_pieces);
    Array<float> partials(num_partials * b.stride());
    float* partial = partials.data;
    int64_t p = 0;
    for (t = 0; t < num_tiles; ++t) {
        Tile& tile = tiles[t];
        if (tile.pieces_left > 1) {
            tile.partials = partial;
            partial += tile.blocks * tile.queries * b.group() * b.stride();
        }
        for (int64_t done = 0; done < tile.blocks; done += limit) {
            const int64_t left = tile.blocks - done;
            pieces[p++] = {t, tile.first_block + done, left < limit ? left : limit};
        }
    }
    parallel_for(num_pieces, 1, [&](int64_t begin, int64_t end) {
        Worker<Element> worker(b, tiles.data);
        for (int64_t i = begin; i < end; ++i) worker.run(pieces[i]);
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
