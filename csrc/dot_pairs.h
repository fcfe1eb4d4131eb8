// Sums of two products of bfloat16 in each lane.
#pragma once

#include "simd.h"

namespace quire::QUIRE_ISA {

struct Bfloat16 {
    using Sum = Floats;

#if defined(__AVX512BF16__)
    using Register = Words;

    static Register weight(Words w) { return w; }
    static Register value(Words x) { return x; }
    static Sum dot(Sum sum, Register w, Register x) {
        asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(w), "v"(x));
        return sum;
    }
#else
    struct Register {
        Floats even, odd;
    };

    static Register weight(Words w) { return {(Floats)(w << 16), (Floats)(w & 0xffff0000u)}; }
    static Register value(Words x) { return weight(x); }
    static Sum dot(Sum sum, Register w, Register x) {
        return sum + w.even * x.even + w.odd * x.odd;
    }
#endif
    static constexpr int64_t kHead = 0;

    static Sum start(uint32_t) { return Floats{}; }
    static Floats floats(Sum sum) { return sum; }
};

}  // namespace quire::QUIRE_ISA
