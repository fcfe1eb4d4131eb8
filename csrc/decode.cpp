// A whole decode step in one call: between the kernels there is nothing but them, and the threads are
// called together once. What Python spends between two calls is the more the less a cache still
// holds of its code, and a step has passed all weights through the caches.
#include "linear.h"
#include "parallel.h"
#include "rows.h"

namespace quire::QUIRE_ISA {
namespace {

void stage(const QuireDecoder& d, int64_t lines) {
    for (int64_t i = 0; i < lines; ++i) d.seq_lens[i] = d.computed[i] + 1;
    for (int64_t group = 0; group < d.groups; ++group) {
        QuireBatch& batch = d.batches[group];
        int32_t* const new_pages = d.new_pages + group * d.most_lines;
        batch.sequences = lines;
        QUIRE_KERNEL(stage)(d.tokens, const_cast<int32_t*>(batch.page_table), d.rows, d.seq_lens,
                            new_pages, d.token_ids, d.positions, const_cast<int64_t*>(batch.slots),
                            lines, d.token_stride, batch.table_width, batch.page_size);
        for (int64_t i = 0; i < lines; ++i) new_pages[i] = -1;
    }
}

void embed(const QuireDecoder& d, int64_t lines) {
    QUIRE_KERNEL(gather)(&d.embedding, d.token_ids, d.x, lines);
    if (d.multiplier != 1)
        each(lines * d.hidden, [&](int64_t i, auto access) {
            access.store(d.x + i, access.load(d.x + i) * d.multiplier);
        });
}

void sample(const QuireDecoder& d, int64_t* sampled, int64_t lines) {
    for (int64_t i = 0; i < lines; ++i) {
        const int64_t row = d.rows[i];
        d.line_temperature[i] = d.temperature[row];
        d.line_top_p[i] = d.top_p[row], d.line_min_p[i] = d.min_p[row];
        d.line_seed[i] = d.seed[row], d.line_top_k[i] = static_cast<int32_t>(d.top_k[row]);
        d.next_positions[i] = d.seq_lens[i];
    }
    QUIRE_KERNEL(sample)(d.logits, d.line_temperature, d.line_top_k, d.line_top_p, d.line_min_p,
                         d.line_seed, d.next_positions, sampled, lines, d.head.outputs,
                         d.head.outputs, 1);
}

}  // namespace
}  // namespace quire::QUIRE_ISA

void QUIRE_KERNEL(decode)(const QuireDecoder* decoder, int64_t* sampled, int64_t lines) {
    using namespace quire::QUIRE_ISA;
    const QuireDecoder& d = *decoder;
    quire::with_team([&] {
        stage(d, lines);
        embed(d, lines);
        QUIRE_KERNEL(layers)(d.layers, d.count, d.batches, d.positions, d.x, d.delta, d.residual,
                             d.inner, d.wide, lines, d.hidden);
        QUIRE_KERNEL(rms_norm)(d.delta, d.residual, d.final_norm.weight, d.x, d.residual, lines,
                               d.hidden, d.hidden, d.final_norm.eps, d.final_norm.offset, 1);
        multiply(d.head, d.x, d.logits, lines);
        sample(d, sampled, lines);
        QUIRE_KERNEL(append)(d.tokens, d.rows, d.next_positions, sampled, lines, d.token_stride);
    });
}
