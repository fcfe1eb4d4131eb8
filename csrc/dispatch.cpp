// Which of the instruction sets in this build the CPU runs. CMake defines QUIRE_HAS_<set>.
#include "quire.h"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace {

#if defined(__x86_64__)
bool runs_avx2() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("f16c");
}

bool runs_avx512() {
    return runs_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

bool runs_avx512_bf16() {
    return runs_avx512() && __builtin_cpu_supports("avx512bf16") &&
           __builtin_cpu_supports("avx512vnni");
}
#elif defined(__aarch64__) && defined(__linux__)
bool runs_dotprod() { return (getauxval(AT_HWCAP) >> 20 & 1) != 0; }  // HWCAP_ASIMDDP
#elif defined(__aarch64__)
bool runs_dotprod() { return true; }  // every Apple silicon
#endif

}  // namespace

extern "C" const char* quire_isas(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
#if defined(QUIRE_HAS_avx512_bf16) && defined(QUIRE_HAS_avx512)
    if (runs_avx512_bf16()) return "avx512_bf16 avx512 avx2";
#elif defined(QUIRE_HAS_avx512_bf16)
    if (runs_avx512_bf16()) return "avx512_bf16";
#endif
#if defined(QUIRE_HAS_avx512)
    if (runs_avx512()) return "avx512 avx2";
#endif
    return runs_avx2() ? "avx2" : "";
#elif defined(__aarch64__)
#if defined(QUIRE_HAS_dotprod)
    if (runs_dotprod()) return "dotprod neon";
#endif
    return "neon";
#else
    return "";
#endif
}
