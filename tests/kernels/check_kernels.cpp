// Runs the matmuls on odd shapes, every buffer exactly as large as declared, for the sanitizers to
// watch; compares with sums in double precision. Exit status 1 names the first that is off.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>

#define QUIRE_ISA ISA
#include "quire.h"

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

template <class T>
Buffer<T> bytes(int64_t count) {
    Buffer<T> made(count);
    for (int64_t i = 0; i < count; ++i) made[i] = static_cast<T>(noise() % 255 - 127);
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

bool check(int64_t rows, int64_t outputs, int64_t inputs) {
    const auto x = floats(rows * inputs), w = floats(outputs * inputs);
    Buffer<uint16_t> y(rows * outputs);
    QUIRE_KERNEL(matmul_bf16)
    (x.get(), inputs, w.get(), nullptr, y.get(), outputs, rows, outputs, inputs, 0);
    if (!near("bf16", x, y, rows, outputs, inputs, 0.01,
              [&](int64_t o, int64_t k) { return widen(w[o * inputs + k]); }))
        return false;

    const auto w8 = bytes<int8_t>(outputs * inputs);
    Buffer<float> scale(outputs);
    for (int64_t o = 0; o < outputs; ++o) scale[o] = 0.01f * (o + 1);
    QUIRE_KERNEL(matmul_int8)
    (x.get(), inputs, w8.get(), scale.get(), nullptr, y.get(), outputs, rows, outputs, inputs, 0);
    if (!near("int8", x, y, rows, outputs, inputs, 0.05,
              [&](int64_t o, int64_t k) { return w8[o * inputs + k] * scale[o]; }))
        return false;

    for (const int64_t group : {32, 64, 128}) {
        const int64_t groups = (inputs + group - 1) / group, size = groups * group / 2;
        const auto w4 = bytes<uint8_t>(outputs * size);
        const auto scales = floats(outputs * groups);
        QUIRE_KERNEL(matmul_int4)
        (x.get(), inputs, w4.get(), scales.get(), nullptr, y.get(), outputs, rows, outputs, inputs,
         group, 0);
        if (!near("int4", x, y, rows, outputs, inputs, 0.05, [&](int64_t o, int64_t k) {
                const int byte = w4[o * size + k / 2];
                return ((k % 2 ? byte >> 4 : byte & 15) - 8) * widen(scales[o * groups + k / group]);
            }))
            return false;
    }
    return true;
}

}  // namespace

int main() {
    if (std::strstr(quire_isas(), QUIRE_NAME) == nullptr) return 0;  // not on this CPU
    for (const bool pool : {false, true}) {
        quire_set_threads(pool ? 3 : 1, nullptr);
        for (const int64_t rows : {1, 2, 3, 7, 13, 97})
            for (const auto& [outputs, inputs] :
                 {std::pair<int64_t, int64_t>{1, 2}, {5, 33}, {70, 130}, {33, 1000}, {40, 2100}})
                if (rows * outputs * inputs < 2000000 && !check(rows, outputs, inputs)) return 1;
    }
    return 0;
}
