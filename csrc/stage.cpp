// A decode step's integers from the tables of its rows, and its tokens back to them. Some lines of
// a step each: what counts is that it is one call, whose code is in the cache or is not.
#include "quire.h"

void QUIRE_KERNEL(stage)(const int32_t* tokens, int32_t* page_table, const int32_t* rows,
                         const int32_t* seq_lens, const int32_t* new_pages, int64_t* token_ids,
                         int64_t* positions, int64_t* slots, int64_t lines, int64_t token_stride,
                         int64_t table_stride, int64_t page_size) {
    for (int64_t i = 0; i < lines; ++i) {
        token_ids[i] = positions[i] = 0, slots[i] = -1;
        if (seq_lens[i] == 0) continue;
        const int64_t at = positions[i] = seq_lens[i] - 1;
        int32_t* const page = page_table + rows[i] * table_stride + at / page_size;
        if (new_pages[i] >= 0) *page = new_pages[i];
        slots[i] = *page * page_size + at % page_size;
        token_ids[i] = tokens[rows[i] * token_stride + at];
    }
}

void QUIRE_KERNEL(append)(int32_t* tokens, const int32_t* rows, const int64_t* seq_lens,
                          const int64_t* sampled, int64_t lines, int64_t token_stride) {
    for (int64_t i = 0; i < lines; ++i)
        if (seq_lens[i] > 0)
            tokens[rows[i] * token_stride + seq_lens[i]] =
                sampled[i] > 0 ? static_cast<int32_t>(sampled[i]) : 0;
}
