// Attention for the sanitizers to watch, as check_kernels.cpp does it with the matmuls.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#define QUIRE_ISA ISA
#include "quire.h"

namespace {

struct Shape {
    int64_t heads, kv_heads, head_dim, page_size, window;
    float softcap;
};

float value(float x) { return x; }

float value(uint16_t h) {
    const uint32_t bits = uint32_t{h} << 16;
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

template <class T>
std::unique_ptr<T[]> normal(int64_t count) {
    static std::mt19937 noise(7);
    std::normal_distribution<float> draw;
    std::unique_ptr<T[]> made(new T[count]);
    for (int64_t i = 0; i < count; ++i) {
        const float x = draw(noise);
        char bytes[sizeof x];
        std::memcpy(bytes, &x, sizeof x);  // bfloat16 is the upper half of it
        std::memcpy(&made[i], bytes + sizeof x - sizeof(T), sizeof(T));
    }
    return made;
}

// Sequences of these lengths, the last few tokens of each as queries.
template <class T>
bool check(const Shape& s) {
    const std::vector<int32_t> seq_lens{1, 40, 300, 521}, query_lens{1, 40, 1, 37}, rows{2, 0, 3, 1};
    const int64_t width = (521 + s.page_size - 1) / s.page_size, pages = 4 * width;
    const int64_t head_stride = s.page_size * s.head_dim, page_stride = s.kv_heads * head_stride;
    std::vector<int32_t> table(pages);
    for (int64_t i = 0; i < pages; ++i) table[i] = static_cast<int32_t>(pages - 1 - i);
    const int64_t tokens = 79, size = s.heads * s.head_dim;
    const auto q = normal<T>(tokens * size);
    const auto k = normal<T>(pages * page_stride), v = normal<T>(pages * page_stride);
    const std::unique_ptr<T[]> out(new T[tokens * size]);
    QUIRE_KERNEL(attention)
    (out.get(), q.get(), k.get(), v.get(), query_lens.data(), seq_lens.data(), rows.data(),
     table.data(), 4, s.heads, s.kv_heads, s.head_dim, s.page_size, size, page_stride, head_stride,
     width, 0.2f, s.window, s.softcap, sizeof(T) == 2);

    int64_t token = 0;
    for (int64_t i = 0; i < 4; ++i)
        for (int64_t n = 0; n < query_lens[i]; ++n, ++token)
            for (int64_t head = 0; head < s.heads; ++head) {
                const int64_t last = seq_lens[i] - query_lens[i] + n;
                const int64_t first = s.window > 0 && last >= s.window ? last - s.window + 1 : 0;
                const T* query = q.get() + token * size + head * s.head_dim;
                double total = 0;
                std::vector<double> sums(s.head_dim);
                for (int64_t p = first; p <= last; ++p) {
                    const int64_t page = table[rows[i] * width + p / s.page_size];
                    const int64_t at = page * page_stride +
                                       head / (s.heads / s.kv_heads) * head_stride +
                                       p % s.page_size * s.head_dim;
                    double score = 0;
                    for (int64_t d = 0; d < s.head_dim; ++d)
                        score += value(query[d]) * value(k[at + d]);
                    score *= 0.2;
                    if (s.softcap > 0) score = s.softcap * std::tanh(score / s.softcap);
                    total += std::exp(score);
                    for (int64_t d = 0; d < s.head_dim; ++d)
                        sums[d] += std::exp(score) * value(v[at + d]);
                }
                for (int64_t d = 0; d < s.head_dim; ++d) {
                    const double got = value(out[token * size + head * s.head_dim + d]);
                    if (std::fabs(got - sums[d] / total) < (sizeof(T) == 2 ? 0.03 : 1e-4)) continue;
                    std::printf("attention, head_dim %ld, token %ld is off: %g, not %g\n",
                                long(s.head_dim), long(token), got, sums[d] / total);
                    return false;
                }
            }
    return true;
}

}  // namespace

bool check_attention() {
    for (const Shape& shape : {Shape{4, 2, 64, 16, 0, 0}, Shape{3, 1, 80, 5, 0, 2.0f},
                               Shape{2, 2, 96, 32, 100, 0}, Shape{16, 1, 32, 16, 1, 0}})
        if (!check<uint16_t>(shape)) return false;
    for (const Shape& shape : {Shape{2, 1, 16, 1, 0, 0}, Shape{4, 4, 48, 24, 300, 3.0f}})
        if (!check<float>(shape)) return false;
    return true;
}
