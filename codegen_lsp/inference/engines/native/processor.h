/* Whether processor and system support the instructions that this library was compiled for. */

#ifndef CODEGEN_PROCESSOR_H
#define CODEGEN_PROCESSOR_H

#if defined(__x86_64__)

#include <cpuid.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

static int supported(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
#ifndef __AVX2__
    return (c & bit_SSE4_1) != 0;
#else
    if (!(c & bit_OSXSAVE) || !(c & bit_FMA) || !(c & bit_F16C)) return 0;
    unsigned low, high;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low & 6) != 6) return 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & (1u << 5))) return 0;
#ifdef __AVX512F__
    if ((low & 0xe6) != 0xe6) return 0;
    if (!(b & (1u << 16)) || !(b & (1u << 17)) || !(b & (1u << 30)) || !(b & (1u << 31)) || !(c & (1u << 11))) return 0;
#elif defined(__AVXVNNI__)
    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a & (1u << 4))) return 0;
#endif
    return 1;
#endif
}

/* Whether the matrix unit (AMX) exists and the system lets this process use it. */
static int has_tiles(void) {
#if defined(__AMX_INT8__) && defined(__linux__)
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & (1u << 24)) || !(d & (1u << 25))) return 0;
    return syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* the tiles' data */) == 0;
#else
    return 0;
#endif
}

#else /* 64-bit ARM, of which NEON is a part */

#if defined(__ARM_FEATURE_DOTPROD) && defined(__linux__)
#include <sys/auxv.h>
static int supported(void) { return (getauxval(AT_HWCAP) & (1ul << 20 /* HWCAP_ASIMDDP */)) != 0; }
#else
static int supported(void) { return 1; } /* all of Apple's have dot products */
#endif
static int has_tiles(void) { return 0; }

#endif
#endif
