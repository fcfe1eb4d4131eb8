/* The C ABI of Quire's CPU kernels: raw pointers, int64 sizes and strides, no exceptions.
 *
 * A kernel is compiled once per instruction set and exported under the name of each, so
 * `quire_matmul_bf16` below stands for quire_matmul_bf16_avx2, quire_matmul_bf16_avx512 and so on;
 * quire_isas() lists those that this build has and this CPU runs. Strides count elements. bfloat16
 * travels as uint16_t. Kernels use the threads given to quire_set_threads, allocate nothing that
 * outlives the call, and never check what the caller has: shapes, alignment, aliasing. */
#ifndef QUIRE_H
#define QUIRE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define QUIRE_API __attribute__((visibility("default")))

/* Instruction sets usable here, best first, separated by spaces; empty if there is none. */
QUIRE_API const char* quire_isas(void);

/* Threads of every later call; not while a kernel runs. `gomp_parallel` is the function
 * GOMP_parallel of the OpenMP runtime whose threads are to be shared, or NULL: then a pool of the
 * library's own runs the kernels. */
QUIRE_API void quire_set_threads(int64_t count, void* gomp_parallel);

/* A linear layer as matmul_bf16, matmul_int8 or matmul_int4 below take it, by `format` 0, 1, 2. */
typedef struct {
    const uint32_t* data;
    const void* scale;
    const uint16_t* bias;
    int64_t format, outputs, inputs, group;
} QuireLinear;

/* Of rms_norm; weight NULL: there is none. */
typedef struct {
    const uint16_t* weight;
    float eps, offset;
} QuireNorm;

/* A decoder layer: x += after(attention(norm(x))), then x += after(down(act(gate) * up)) of the
 * other norm; `qkv` has rows q over k over v. The fields' names are those of the kernels below. */
typedef struct {
    QuireNorm attention_norm, attention_after_norm, mlp_norm, mlp_after_norm, q_norm, k_norm;
    QuireLinear qkv, out, gate_up, down;
    const float* rope;
    uint16_t *k_pages, *v_pages;
    int64_t heads, kv_heads, head_dim, rotary_dim, interleaved, window, activation;
    int64_t page_stride, head_stride;
    int64_t batch; /* which of the step's batches it reads its pages by */
    float scale, softcap;
} QuireLayer;

/* The sequences of a step, with the pages of one KV group. */
typedef struct {
    const int32_t *query_lens, *seq_lens, *rows, *page_table;
    const int64_t* slots;
    int64_t sequences, page_size, table_width;
} QuireBatch;

/* A decoder with the rows of a runner: what decodes a token of some of them. R rows; S is the most
 * lines of a step, and size of what is working memory. */
typedef struct {
    const QuireLayer* layers;
    QuireLinear embedding, head;
    QuireNorm final_norm;
    QuireBatch* batches;  /* of each KV group; what is in their arrays is working memory, but for
                             the page tables and for query_lens, which are 1 */
    int32_t* tokens;      /* [R, token_stride] */
    const int32_t *rows, *computed; /* [S]: the step's rows, and the positions of their tokens */
    int32_t* new_pages;             /* [groups, S], as of `stage`; -1 after the step */
    const float *temperature, *top_p, *min_p;   /* [R] */
    const int64_t *seed, *top_k;                /* [R] */
    int32_t* seq_lens; /* [S], as all below */
    int64_t *token_ids, *positions, *next_positions, *line_seed;
    int32_t* line_top_k;
    float *line_temperature, *line_top_p, *line_min_p;
    uint16_t *x, *delta, *residual, *inner, *wide; /* [S, ...], as in `layers` */
    uint16_t* logits; /* [S, vocabulary] */
    int64_t count, groups, hidden, token_stride, most_lines;
    float multiplier; /* of embeddings */
} QuireDecoder;

#ifdef QUIRE_ISA
#define QUIRE_PASTE2(name, isa) quire_##name##_##isa
#define QUIRE_PASTE(name, isa) QUIRE_PASTE2(name, isa)
#define QUIRE_KERNEL(name) QUIRE_PASTE(name, QUIRE_ISA)

/* Adds one to each of the n values at x: what the threads themselves cost. */
QUIRE_API void QUIRE_KERNEL(touch)(float* x, int64_t n);

/* dense [outputs, inputs] -> panels, the weights of the matmuls below (matmul.h): outputs filled up
 * to whole panels of 32, each of so many words along the inputs as hold 2 bfloat16, 4 int8 plus 128
 * or 8 int4 plus 8 (0-3 in the low halves of its bytes, 4-7 in the high ones). bfloat16 may be made
 * where dense is, if inputs are even. */
QUIRE_API void QUIRE_KERNEL(pack_bf16)(const uint16_t* dense, uint32_t* panels, int64_t outputs,
                                       int64_t inputs);

/* scale [outputs] */
QUIRE_API void QUIRE_KERNEL(pack_int8)(const uint16_t* dense, uint32_t* panels, float* scale,
                                       int64_t outputs, int64_t inputs);

/* In groups of `size` (32, 64 or 128) inputs, filled up with 0 to whole groups; scale [panels,
 * groups, 32] bfloat16, a panel's outputs side by side. */
QUIRE_API void QUIRE_KERNEL(pack_int4)(const uint16_t* dense, uint32_t* panels, uint16_t* scale,
                                       int64_t outputs, int64_t inputs, int64_t size);

/* y [rows, outputs] = x [rows, inputs] w [outputs, inputs]^T + bias [outputs] or NULL, w in panels.
 * With an `activation` (activation.h; 0 is none) w and bias have 2 * outputs rows, gate then up,
 * and y is act(gate) * up. */
QUIRE_API void QUIRE_KERNEL(matmul_bf16)(const uint16_t* x, int64_t x_stride, const uint32_t* w,
                                         const uint16_t* bias, uint16_t* y, int64_t y_stride,
                                         int64_t rows, int64_t outputs, int64_t inputs,
                                         int64_t activation);

/* The same with w int8 times scale [outputs] (or 2 * outputs), and x rounded to int8 row by row. */
QUIRE_API void QUIRE_KERNEL(matmul_int8)(const uint16_t* x, int64_t x_stride, const uint32_t* w,
                                         const float* scale, const uint16_t* bias, uint16_t* y,
                                         int64_t y_stride, int64_t rows, int64_t outputs,
                                         int64_t inputs, int64_t activation);

/* The same with w int4 in groups of `group` inputs times scale, as pack_int4 makes them. */
QUIRE_API void QUIRE_KERNEL(matmul_int4)(const uint16_t* x, int64_t x_stride, const uint32_t* w,
                                         const uint16_t* scale, const uint16_t* bias, uint16_t* y,
                                         int64_t y_stride, int64_t rows, int64_t outputs,
                                         int64_t inputs, int64_t group, int64_t activation);

/* Attention of T tokens of ragged sequences over pages. q [T, H, D], out [T, H, D] contiguous;
 * k_pages, v_pages [N, K, P, D] with given strides of pages and heads; query_lens, seq_lens, rows
 * [sequences] as in AttentionBatch, page_table [R, table_width]. All of bfloat16 if `bf16`, else
 * fp32. window 0: none; softcap 0: none. D is a multiple of 16, at least 32 if bfloat16. */
QUIRE_API void QUIRE_KERNEL(attention)(
    void* out, const void* q, const void* k_pages, const void* v_pages, const int32_t* query_lens,
    const int32_t* seq_lens, const int32_t* rows, const int32_t* page_table, int64_t sequences,
    int64_t heads, int64_t kv_heads, int64_t head_dim, int64_t page_size, int64_t q_stride,
    int64_t page_stride, int64_t head_stride, int64_t table_width, float scale, int64_t window,
    float softcap, int64_t bf16);

/* x [rows, size], rows `stride` apart, `weight` [size] -> out [rows, size], x / rms(x) *
 * (weight + offset). With a `residual` [rows, size] x + residual goes to `total` [rows, size] and
 * that is normalised; else both are NULL. All bfloat16 if `bf16`, else fp32; so below. */
QUIRE_API void QUIRE_KERNEL(rms_norm)(const void* x, const void* residual, const void* weight,
                                      void* out, void* total, int64_t rows, int64_t size,
                                      int64_t stride, float eps, float offset, int64_t bf16);

/* x [rows, 2 * size], rows `stride` apart, gate then up -> out [rows, size], act(gate) * up. */
QUIRE_API void QUIRE_KERNEL(gated_act)(const void* x, void* out, int64_t rows, int64_t size,
                                       int64_t stride, int64_t activation, int64_t bf16);

/* Normalises the heads of q [T, H, D] and k [T, K, D] with weights [D] (NULL: not), rotates them by
 * table [L, rotary_dim] fp32 (NULL: not) at `positions` [T], q and k in place, and stores k and v
 * [T, K, D] in `slots` [T] of k_pages and v_pages [N, K, P, D]; -1 is stored nowhere. */
QUIRE_API void QUIRE_KERNEL(prepare_qkv)(
    void* q, void* k, const void* v, const void* q_weight, const void* k_weight,
    const float* table, const int64_t* positions, void* k_pages, void* v_pages,
    const int64_t* slots, int64_t tokens, int64_t heads, int64_t kv_heads, int64_t head_dim,
    int64_t page_size, int64_t q_stride, int64_t k_stride, int64_t v_stride, int64_t page_stride,
    int64_t head_stride, int64_t rotary_dim, int64_t interleaved, float eps, float offset,
    int64_t bf16);

/* `count` layers, one after the other, on x [tokens, hidden] in bfloat16. What leaves them is
 * delta + residual [tokens, hidden] each, not added up yet. `inner` and `wide` are working memory,
 * a row a token: of hidden or heads * head_dim values, whichever is more, and of as many as qkv or
 * gate_up gives. */
QUIRE_API void QUIRE_KERNEL(layers)(const QuireLayer* layers, int64_t count,
                                    const QuireBatch* batches, const int64_t* positions,
                                    const uint16_t* x, uint16_t* delta, uint16_t* residual,
                                    uint16_t* inner, uint16_t* wide, int64_t tokens,
                                    int64_t hidden);

/* Rows `ids` [count] of a weight -> to [count, inputs]. */
QUIRE_API void QUIRE_KERNEL(gather)(const QuireLinear* weight, const int64_t* ids, uint16_t* to,
                                    int64_t count);

/* A token for each row of logits [rows, size], rows `stride` apart, as kernels/sample says; the
 * other arrays are [rows]. */
QUIRE_API void QUIRE_KERNEL(sample)(const void* logits, const float* temperature,
                                    const int32_t* top_k, const float* top_p, const float* min_p,
                                    const int64_t* seed, const int64_t* positions, int64_t* tokens,
                                    int64_t rows, int64_t size, int64_t stride, int64_t bf16);

/* kernels/stage: for `lines` sequences of one query, at position seq_lens - 1 (0: padding), what
 * tokens and page_table hold for them; new_pages (-1: none) enter the table before. */
QUIRE_API void QUIRE_KERNEL(stage)(const int32_t* tokens, int32_t* page_table, const int32_t* rows,
                                   const int32_t* seq_lens, const int32_t* new_pages,
                                   int64_t* token_ids, int64_t* positions, int64_t* slots,
                                   int64_t lines, int64_t token_stride, int64_t table_stride,
                                   int64_t page_size);

/* `sampled`, or 0 for what is negative, to place seq_lens of its row. */
QUIRE_API void QUIRE_KERNEL(append)(int32_t* tokens, const int32_t* rows, const int64_t* seq_lens,
                                    const int64_t* sampled, int64_t lines, int64_t token_stride);

/* A whole decode step of `lines` sequences: stage, gather, layers, the norm and the head, whose
 * logits stay, sample and append. */
QUIRE_API void QUIRE_KERNEL(decode)(const QuireDecoder* decoder, int64_t* sampled, int64_t lines);

#endif /* QUIRE_ISA */

#ifdef __cplusplus
}
#endif
#endif
