// Runs matmuls, attention, whole layers and decode steps on odd shapes, every buffer exactly as large
// as declared, for the sanitizers to watch. Matmuls and attention are compared with sums in double
// precision, what layers and steps make of some sequences with what they make of each. Exit status 1 names the first that is off.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#define QUIRE_ISA ISA
#include "quire.h"

bool check_attention();

namespace {

std::mt19937 noise(7);

template <class T>
struct Buffer {
    std::unique_ptr<T[]> data;
    int64_t size;

    explicit Buffer(int64_t count) : data(new T[count]), size(count) {}
    T* get() const { return data.get(); }
    T& operator[](int64_t i) const { return data[i]; }
};

float widen(uint16_t h) {
    const uint32_t bits = uint32_t{h} << 16;
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

Buffer<uint16_t> floats(int64_t count) {
    Buffer<uint16_t> made(count);
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < count; ++i) {
        const float x = normal(noise);
        uint32_t bits;
        std::memcpy(&bits, &x, sizeof bits);
        made[i] = static_cast<uint16_t>(bits >> 16);
    }
    return made;
}

// Compares y [rows, outputs] with x times weight(o, k); `allowed` in parts of the results' size.
template <class Weight>
bool near(const char* name, const Buffer<uint16_t>& x, const Buffer<uint16_t>& y, int64_t rows,
          int64_t outputs, int64_t inputs, double allowed, const Weight& weight) {
    double error = 0, size = 0;
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t o = 0; o < outputs; ++o) {
            double expected = 0;
            for (int64_t k = 0; k < inputs; ++k) {
                const double product = widen(x[r * inputs + k]) * weight(o, k);
                expected += product;
                size += product * product;  // a sum's size is that of its parts, unless they cancel
            }
            error += std::pow(widen(y[r * outputs + o]) - expected, 2);
        }
    if (error <= allowed * allowed * size) return true;
    std::printf("%s %ld x %ld x %ld is off by %g\n", name, long(rows), long(outputs), long(inputs),
                std::sqrt(error / size));
    return false;
}

constexpr int64_t kPanel = 32;

// Word `step` of an output in panels of `steps`.
uint32_t word(const Buffer<uint32_t>& panels, int64_t steps, int64_t output, int64_t step) {
    return panels[(output / kPanel * steps + step) * kPanel + output % kPanel];
}

bool check(int64_t rows, int64_t outputs, int64_t inputs) {
    const auto x = floats(rows * inputs), dense = floats(outputs * inputs);
    const int64_t count = (outputs + kPanel - 1) / kPanel;
    const Buffer<uint16_t> y(rows * outputs);

    int64_t steps = (inputs + 1) / 2;
    const Buffer<uint32_t> w(count * steps * kPanel);
    QUIRE_KERNEL(pack_bf16)(dense.get(), w.get(), outputs, inputs);
    for (int64_t o = 0; o < outputs; ++o)
        for (int64_t k = 0; k < inputs; ++k)
            if (uint16_t(word(w, steps, o, k / 2) >> k % 2 * 16) != dense[o * inputs + k])
                return std::printf("bf16 panels of %ld x %ld\n", long(outputs), long(inputs)), false;
    QUIRE_KERNEL(matmul_bf16)
    (x.get(), inputs, w.get(), nullptr, y.get(), outputs, rows, outputs, inputs, 0);
    if (!near("bf16", x, y, rows, outputs, inputs, 0.01,
              [&](int64_t o, int64_t k) { return widen(dense[o * inputs + k]); }))
        return false;

    if (outputs % 2 == 0)  // gate and up; what it makes the tests in Python know
        QUIRE_KERNEL(matmul_bf16)
        (x.get(), inputs, w.get(), nullptr, y.get(), outputs / 2, rows, outputs / 2, inputs, 1);

    steps = (inputs + 3) / 4;
    const Buffer<uint32_t> w8(count * steps * kPanel);
    const Buffer<float> scale(outputs);
    QUIRE_KERNEL(pack_int8)(dense.get(), w8.get(), scale.get(), outputs, inputs);
    QUIRE_KERNEL(matmul_int8)
    (x.get(), inputs, w8.get(), scale.get(), nullptr, y.get(), outputs, rows, outputs, inputs, 0);
    if (!near("int8", x, y, rows, outputs, inputs, 0.05, [&](int64_t o, int64_t k) {
            const uint32_t byte = word(w8, steps, o, k / 4) >> k % 4 * 8 & 255;
            return (int(byte) - 128) * scale[o];
        }))
        return false;

    for (const int64_t group : {32, 64, 128}) {
        const int64_t groups = (inputs + group - 1) / group;
        steps = groups * group / 8;
        const Buffer<uint32_t> w4(count * steps * kPanel);
        const Buffer<uint16_t> scales(count * groups * kPanel);
        std::memset(scales.get(), 0, scales.size * 2);
        QUIRE_KERNEL(pack_int4)(dense.get(), w4.get(), scales.get(), outputs, inputs, group);
        QUIRE_KERNEL(matmul_int4)
        (x.get(), inputs, w4.get(), scales.get(), nullptr, y.get(), outputs, rows, outputs, inputs,
         group, 0);
        if (!near("int4", x, y, rows, outputs, inputs, 0.05, [&](int64_t o, int64_t k) {
                const uint32_t half = word(w4, steps, o, k / 8) >> (k % 4 * 8 + k % 8 / 4 * 4) & 15;
                const int64_t at = (o / kPanel * groups + k / group) * kPanel + o % kPanel;
                return (int(half) - 8) * widen(scales[at]);
            }))
            return false;
    }
    return true;
}

// The parameters of a linear layer in one of the formats.
struct Linear {
    Buffer<uint16_t> dense, bias;
    Buffer<uint32_t> panels;
    Buffer<float> scale;
    Buffer<uint16_t> group_scale;
    QuireLinear given;

    Linear(int64_t format, int64_t rows, int64_t outputs, int64_t inputs)
        : dense(floats(rows * inputs)), bias(floats(rows)),
          panels(places(rows) * steps(format, inputs)), scale(rows),
          group_scale(places(rows) * groups(inputs)) {
        std::memset(group_scale.get(), 0, group_scale.size * 2);
        const void* const scales[] = {nullptr, scale.get(), group_scale.get()};
        if (format == 0) QUIRE_KERNEL(pack_bf16)(dense.get(), panels.get(), rows, inputs);
        if (format == 1)
            QUIRE_KERNEL(pack_int8)(dense.get(), panels.get(), scale.get(), rows, inputs);
        if (format == 2)
            QUIRE_KERNEL(pack_int4)
            (dense.get(), panels.get(), group_scale.get(), rows, inputs, kGroup);
        given = {panels.get(), scales[format], bias.get(), format, outputs, inputs, kGroup};
    }

    static constexpr int64_t kGroup = 32;
    static int64_t places(int64_t rows) { return (rows + kPanel - 1) / kPanel * kPanel; }
    static int64_t steps(int64_t format, int64_t inputs) {
        if (format == 0) return (inputs + 1) / 2;
        return format == 1 ? (inputs + 3) / 4 : groups(inputs) * kGroup / 8;
    }
    static int64_t groups(int64_t inputs) { return (inputs + kGroup - 1) / kGroup; }
};

struct Layer {
    static constexpr int64_t kHidden = 41, kHeads = 3, kDim = 48, kMlp = 37, kPositions = 64;
    static constexpr int64_t kPages = 6, kPage = 4;
    static constexpr int64_t kQkv = 3 * kHeads * kDim, kHead = kPage * kDim;

    Linear qkv, out, gate_up, down;
    Buffer<uint16_t> norm, head_norm, keys, values;
    Buffer<float> rope;

    explicit Layer(int64_t format)
        : qkv(format, kQkv, kQkv, kHidden), out(format, kHidden, kHidden, kHeads * kDim),
          gate_up(format, 2 * kMlp, kMlp, kHidden), down(format, kHidden, kHidden, kMlp),
          norm(floats(kHidden)), head_norm(floats(kDim)), keys(floats(kPages * kHeads * kHead)),
          values(floats(kPages * kHeads * kHead)), rope(kPositions * kDim) {
        for (int64_t i = 0; i < rope.size; ++i) rope[i] = std::sin(0.1f * static_cast<float>(i));
    }

    QuireLayer given(int64_t window) const {
        const QuireNorm norms{norm.get(), 1e-5f, 1.0f}, heads{head_norm.get(), 1e-5f, 0.0f};
        return {norms, norms, norms, norms, heads, heads, qkv.given, out.given, gate_up.given,
                down.given, rope.get(), keys.get(), values.get(), kHeads, kHeads, kDim, kDim, 0,
                window, 1, kHeads * kHead, kHead, 0, 0.2f, 0.0f};
    }
};

// What `layers` make of the sequences [first, end) of a step of two: 5 and 2 tokens, the second
// behind 7 others. Its pages are 0, 1 and 2, the first's 3 and 4; the keys of both are written anew.
std::vector<uint16_t> run_layers(const std::vector<QuireLayer>& layers, const Buffer<uint16_t>& x,
                                 int first, int end) {
    const int32_t query_lens[] = {5, 2}, seq_lens[] = {5, 9}, rows[] = {1, 0};
    const int32_t table[] = {0, 1, 2, 3, 4, -1};
    const int64_t positions[] = {0, 1, 2, 3, 4, 7, 8}, slots[] = {12, 13, 14, 15, 16, 7, 8};
    const int64_t skipped = first == 0 ? 0 : 5, tokens = (end == 2 ? 7 : 5) - skipped;
    const int64_t size = tokens * Layer::kHidden;
    const QuireBatch batch{query_lens + first, seq_lens + first, rows + first, table,
                           slots + skipped, end - first, Layer::kPage, 3};
    Buffer<uint16_t> delta(size), residual(size), inner(tokens * Layer::kHeads * Layer::kDim),
        wide(tokens * Layer::kQkv);
    QUIRE_KERNEL(layers)
    (layers.data(), static_cast<int64_t>(layers.size()), &batch, positions + skipped,
     x.get() + skipped * Layer::kHidden, delta.get(), residual.get(), inner.get(), wide.get(), tokens,
     Layer::kHidden);
    std::vector<uint16_t> made(delta.get(), delta.get() + size);
    made.insert(made.end(), residual.get(), residual.get() + size);
    return made;
}

bool check_layers(int64_t format, int64_t window) {
    const Layer one(format), other(format);
    const std::vector<QuireLayer> layers{one.given(0), other.given(window)};
    const auto x = floats(7 * Layer::kHidden);
    const auto both = run_layers(layers, x, 0, 2);
    const auto first = run_layers(layers, x, 0, 1), second = run_layers(layers, x, 1, 2);
    const int64_t split = 5 * Layer::kHidden, rest = 2 * Layer::kHidden;
    const auto equal = [&](const std::vector<uint16_t>& alone, int64_t from, int64_t count) {
        for (int64_t part = 0; part < 2; ++part)  // delta, residual
            for (int64_t i = 0; i < count; ++i) {
                const uint16_t value = alone[part * count + i];
                if (value != both[part * (split + rest) + from + i]) return false;
                if (!std::isfinite(widen(value))) return false;
            }
        return true;
    };
    if (equal(first, 0, split) && equal(second, split, rest)) return true;
    std::printf("layers of format %ld give a sequence other values in company\n", long(format));
    return false;
}

// The tokens that lines [first, end) of a step of three get, and the logits of the first: rows 2, 0
// and 1 stand at positions 6, 3 and 8, the last at the start of a page that is entered in this step.
std::vector<int64_t> run_decode(int64_t format, int first, int end) {
    constexpr int64_t kVocabulary = 67, kRows = 3, kLength = 12, kWidth = 3;
    noise.seed(11);
    const Layer one(format), other(format);
    const QuireLayer layers[] = {one.given(0), other.given(3)};
    const Linear table(format, kVocabulary, kVocabulary, Layer::kHidden);
    const auto norm = floats(Layer::kHidden);
    const int64_t lines = end - first;
    const int32_t all_rows[] = {2, 0, 1}, stands[] = {6, 3, 8}, all_pages[] = {-1, -1, 5};
    Buffer<int32_t> tokens(kRows * kLength), page_table(kRows * kWidth), ones(lines), rows(lines),
        computed(lines), lens(lines), new_pages(lines), top_ks(lines);
    for (int64_t i = 0; i < tokens.size; ++i) tokens[i] = static_cast<int32_t>(i % kVocabulary);
    const int32_t held[] = {0, -1, -1, 1, 2, -1, 3, 4, -1};
    std::memcpy(page_table.get(), held, sizeof held);
    for (int64_t i = 0; i < lines; ++i) {
        ones[i] = 1, rows[i] = all_rows[first + i], computed[i] = stands[first + i];
        new_pages[i] = all_pages[first + i];
    }
    const float temperature[] = {0.0f, 1.0f, 0.7f}, top_p[] = {1.0f, 0.9f, 1.0f}, min_p[kRows] = {};
    const int64_t seed[] = {5, 6, 7}, top_k[] = {0, 0, 9};
    const Buffer<int64_t> ids(lines), positions(lines), next(lines), seeds(lines), slots(lines),
        sampled(lines);
    const Buffer<float> temperatures(lines), top_ps(lines), min_ps(lines);
    const int64_t hidden = lines * Layer::kHidden;
    const Buffer<uint16_t> x(hidden), delta(hidden), residual(hidden),
        inner(lines * Layer::kHeads * Layer::kDim), wide(lines * Layer::kQkv),
        logits(lines * kVocabulary);
    QuireBatch batch{ones.get(), lens.get(), rows.get(), page_table.get(), slots.get(), 0,
                     Layer::kPage, kWidth};
    const QuireDecoder decoder{
        layers, table.given, table.given, {norm.get(), 1e-5f, 0.0f}, &batch, tokens.get(),
        rows.get(), computed.get(), new_pages.get(), temperature, top_p, min_p, seed, top_k,
        lens.get(), ids.get(),
        positions.get(), next.get(), seeds.get(), top_ks.get(), temperatures.get(), top_ps.get(),
        min_ps.get(), x.get(), delta.get(), residual.get(), inner.get(), wide.get(), logits.get(), 2,
        1, Layer::kHidden, kLength, lines, 1.5f};
    QUIRE_KERNEL(decode)(&decoder, sampled.get(), lines);
    std::vector<int64_t> made;
    for (int64_t i = 0; i < lines; ++i) {
        made.push_back(sampled[i]);
        made.push_back(tokens[rows[i] * kLength + lens[i]]);
        for (int64_t v = 0; v < kVocabulary; ++v) made.push_back(logits[i * kVocabulary + v]);
    }
    return made;
}

bool check_decode(int64_t format) {
    const auto all = run_decode(format, 0, 3);
    std::vector<int64_t> alone;
    for (int line = 0; line < 3; ++line)
        for (const int64_t value : run_decode(format, line, line + 1)) alone.push_back(value);
    bool kept = true;
    for (size_t line = 0; line < 3; ++line) {
        const size_t at = line * all.size() / 3;
        kept = kept && all[at] >= 0 && all[at] == all[at + 1];
    }
    if (kept && all == alone) return true;
    std::printf("decoding in format %ld gives other tokens in company\n", long(format));
    return false;
}

// As OpenMP's: so the kernels are given threads that they must keep at hand themselves.
void parallel(void (*task)(void*), void* context, unsigned threads, unsigned) {
    std::vector<std::thread> others;
    for (unsigned i = 1; i < threads; ++i) others.emplace_back(task, context);
    task(context);
    for (auto& thread : others) thread.join();
}

}  // namespace

int main() {
    if (std::strstr(quire_isas(), QUIRE_NAME) == nullptr) return 0;  // not on this CPU
    for (const bool pool : {false, true}) {
        quire_set_threads(pool ? 3 : 1, nullptr);
        if (!check_attention()) return 1;
        for (const int64_t rows : {1, 2, 3, 7, 13, 97})
            for (const auto& [outputs, inputs] :
                 {std::pair<int64_t, int64_t>{1, 2}, {5, 33}, {70, 130}, {33, 1000}, {40, 2100}})
                if (rows * outputs * inputs < 2000000 && !check(rows, outputs, inputs)) return 1;
    }
    for (void* const team : {static_cast<void*>(nullptr), reinterpret_cast<void*>(&parallel)})
        for (const int64_t threads : {1, 3}) {
            quire_set_threads(threads, team);
            for (const int64_t format : {0, 1, 2})
                if (!check_decode(format)) return 1;
            for (const int64_t format : {0, 1, 2})
                for (const int64_t window : {0, 3})
                    if (!check_layers(format, window)) return 1;
        }
    return 0;
}
