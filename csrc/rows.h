// Rows of any length, a vector at a time.
#pragma once

#include "simd.h"

namespace quire::QUIRE_ISA {

struct Whole {
    template <class T>
    Floats load(const T* p, float = 0) const { return quire::QUIRE_ISA::load(p); }
    template <class T>
    void store(T* p, Floats v) const { quire::QUIRE_ISA::store(p, v); }
};

struct Part {
    int64_t count;

    template <class T>
    Floats load(const T* p, float rest = 0) const { return load_part(p, count, rest); }
    template <class T>
    void store(T* p, Floats v) const { store_part(p, v, count); }
};

// Calls f(i, access) for each vector of [0, size); `access` loads and stores what there is of it,
// and loads `rest` for what is beyond.
template <class F>
inline void each(int64_t size, const F& f) {
    int64_t i = 0;
    for (; i + kLanes <= size; i += kLanes) f(i, Whole{});
    if (i < size) f(i, Part{size - i});
}

// As it would be after a store.
template <class T>
inline Floats round_to(Floats v) {
    if constexpr (sizeof(T) == 2) return widen(narrow(v));
    return v;
}

inline float widen(float x) { return x; }

template <class T>
inline T narrowed(float x) {
    T stored[kLanes];
    store(stored, splat(x));
    return stored[0];
}

// Rows of `size` elements that are worth a thread's while: 32 KiB of bfloat16, 1 us or so.
inline int64_t grain(int64_t size) { return size < 16384 ? 16384 / (size > 0 ? size : 1) : 1; }

}  // namespace quire::QUIRE_ISA
