// Decoder layers in one call: the kernels of the other files, one after the other, with the threads
// at hand from the first to the last.
#include <cstring>

#include "linear.h"
#include "parallel.h"

namespace quire::QUIRE_ISA {
namespace {

// What a layer works on. The residual stream is delta + residual.
struct Stream {
    uint16_t *delta, *residual, *inner, *wide;
    const int64_t* positions;
    int64_t tokens, hidden;
};

// Adds the stream up and leaves the sublayer's input in `inner`.
void enter(const QuireNorm& norm, const Stream& s) {
    QUIRE_KERNEL(rms_norm)(s.delta, s.residual, norm.weight, s.inner, s.residual, s.tokens,
                           s.hidden, s.hidden, norm.eps, norm.offset, 1);
}

// Of the sublayer's output.
void leave(const QuireNorm& norm, const Stream& s) {
    if (norm.weight != nullptr)
        QUIRE_KERNEL(rms_norm)(s.delta, nullptr, norm.weight, s.delta, nullptr, s.tokens, s.hidden,
                               s.hidden, norm.eps, norm.offset, 1);
}

void attend(const QuireLayer& layer, const QuireBatch& batch, const Stream& s) {
    const int64_t stride = layer.qkv.outputs;
    uint16_t* const q = s.wide;
    uint16_t* const k = q + layer.heads * layer.head_dim;
    uint16_t* const v = k + layer.kv_heads * layer.head_dim;
    multiply(layer.qkv, s.inner, s.wide, s.tokens);
    QUIRE_KERNEL(prepare_qkv)(q, k, v, layer.q_norm.weight, layer.k_norm.weight, layer.rope,
                              s.positions, layer.k_pages, layer.v_pages, batch.slots, s.tokens,
                              layer.heads, layer.kv_heads, layer.head_dim, batch.page_size, stride,
                              stride, stride, layer.page_stride, layer.head_stride,
                              layer.rotary_dim, layer.interleaved, layer.q_norm.eps,
                              layer.q_norm.offset, 1);
    QUIRE_KERNEL(attention)(s.inner, q, layer.k_pages, layer.v_pages, batch.query_lens,
                            batch.seq_lens, batch.rows, batch.page_table, batch.sequences,
                            layer.heads, layer.kv_heads, layer.head_dim, batch.page_size, stride,
                            layer.page_stride, layer.head_stride, batch.table_width, layer.scale,
                            layer.window, layer.softcap, 1);
    multiply(layer.out, s.inner, s.delta, s.tokens);
}

void run(const QuireLayer& layer, const QuireBatch& batch, const Stream& s) {
    attend(layer, batch, s);
    leave(layer.attention_after_norm, s);
    enter(layer.mlp_norm, s);
    multiply(layer.gate_up, s.inner, s.wide, s.tokens, layer.activation);
    multiply(layer.down, s.wide, s.delta, s.tokens);
    leave(layer.mlp_after_norm, s);
}

}  // namespace
}  // namespace quire::QUIRE_ISA

void QUIRE_KERNEL(layers)(const QuireLayer* layers, int64_t count, const QuireBatch* batches,
                          const int64_t* positions, const uint16_t* x, uint16_t* delta,
                          uint16_t* residual, uint16_t* inner, uint16_t* wide, int64_t tokens,
                          int64_t hidden) {
    using namespace quire::QUIRE_ISA;
    const Stream stream{delta, residual, inner, wide, positions, tokens, hidden};
    quire::with_team([&] {
        const QuireNorm& first = layers[0].attention_norm;  // x is the whole stream
        QUIRE_KERNEL(rms_norm)(x, nullptr, first.weight, inner, nullptr, tokens, hidden, hidden,
                               first.eps, first.offset, 1);
        std::memcpy(residual, x, tokens * hidden * sizeof *x);
        for (int64_t i = 0; i < count; ++i) {
            if (i > 0) enter(layers[i].attention_norm, stream);
            run(layers[i], batches[layers[i].batch], stream);
        }
    });
}
