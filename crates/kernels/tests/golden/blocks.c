// Writes blocks.txt: what ggml's reference encoders and decoders make of numbers that a formula gives, so that only
// the answers are stored. Refresh with a checkout of ggml that is built without fused multiplications (the default of
// its `ggml-base` on x86-64; elsewhere pass -ffp-contract=off), from this folder:
//
//     cc -I $GGML/include blocks.c $GGML_BUILD/src/libggml-base.a -lstdc++ -lm -lpthread -fopenmp -o blocks
//     ./blocks > blocks.txt
//
// Lines: format, what, then hexadecimal. `first` is the first block of kind 0; `encode` is a hash per kind of the
// bytes of its blocks; `decode` a hash per kind of the numbers decoded from them; `bytes` a hash of the numbers
// decoded from random bytes. Hashes are FNV-1a of 64 bits over the bytes, numbers as little-endian bits with every
// NaN as 7fc00000.

#include "ggml.h"
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 256, BLOCKS = 128, KINDS = 14 };

static uint64_t state;

// SplitMix64.
static uint64_t draw(void) {
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static float from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

// The sum of four uniform integers, about 0 and below 1 in magnitude; exact.
static float bell(void) {
    uint64_t z = draw();
    int sum = (int)(z & 0xffff) + (int)(z >> 16 & 0xffff) + (int)(z >> 32 & 0xffff) + (int)(z >> 48) - 131070;
    return (float)sum / 131072.0f;
}

// Each kind is an input that an encoder may get wrong; every operation is exact or a single rounding.
static void fill(int kind, float *x) {
    float shared = bell();
    for (int i = 0; i < WIDTH; i++) {
        float b = bell();
        uint32_t bits = (uint32_t)draw();
        switch (kind) {
        case 0: x[i] = b * 0.0625f; break;                                                // weights
        case 1: x[i] = bits % 97 == 0 ? b * 64.0f : b; break;                             // outliers
        case 2: x[i] = bits % 2 ? 0.0f : -0.0f; break;                                    // zeros of both signs
        case 3: x[i] = fabsf(b); break;                                                   // one side
        case 4: x[i] = -fabsf(b) - 0.125f; break;                                         // the other, off zero
        case 5: x[i] = (float)((int)(bits % 9) - 4) * 0.25f; break;                       // few values: ties
        case 6: x[i] = shared; break;                                                     // equal
        case 7: x[i] = bits % 8 ? 0.0f : b; break;                                        // sparse
        case 8: x[i] = from_bits(bits & 0x807fffff); break;                               // subnormal
        case 9: x[i] = from_bits((bits & 0x807fffff) | (100 + bits % 41) << 23); break;   // all magnitudes
        case 10: x[i] = from_bits((bits & 0x807fffff) | 0x7f000000); break;               // huge
        case 11: x[i] = i / 16 % 3 ? b * b * b : 0.0f; break;                             // zero groups, long tails
        case 12: x[i] = (float)(i - 128) * 0.03125f; break;                               // a ramp
        case 13: x[i] = from_bits((bits & 0x80ffffff) | 0x00800000); break;               // scales underflow
        }
    }
}

static uint64_t hash(uint64_t h, const void *data, size_t n) {
    const uint8_t *bytes = data;
    for (size_t i = 0; i < n; i++) h = (h ^ bytes[i]) * 0x100000001b3u;
    return h;
}

static uint64_t decoded(uint64_t h, enum ggml_type type, const void *block) {
    float y[WIDTH];
    ggml_get_type_traits(type)->to_float(block, y, WIDTH);
    for (int i = 0; i < WIDTH; i++) {
        uint32_t bits;
        memcpy(&bits, &y[i], 4);
        if (isnan(y[i])) bits = 0x7fc00000;
        h = hash(h, &bits, 4);
    }
    return h;
}

int main(void) {
    static const enum ggml_type types[] = {
        GGML_TYPE_F16,  GGML_TYPE_BF16, GGML_TYPE_Q4_0, GGML_TYPE_Q4_1, GGML_TYPE_Q5_0, GGML_TYPE_Q5_1,
        GGML_TYPE_Q8_0, GGML_TYPE_Q2_K, GGML_TYPE_Q3_K, GGML_TYPE_Q4_K, GGML_TYPE_Q5_K, GGML_TYPE_Q6_K,
    };
    static const char *names[] = {"f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k"};
    const uint64_t start = 0xcbf29ce484222325u;
    printf("# made by blocks.c with ggml %s (%s), compiler %s\n", ggml_version(), ggml_commit(), __VERSION__);
    for (int t = 0; t < 12; t++) {
        size_t size = ggml_row_size(types[t], WIDTH);
        uint8_t block[WIDTH * 4];
        uint64_t encode[KINDS], decode[KINDS], bytes = start;
        for (int kind = 0; kind < KINDS; kind++) {
            encode[kind] = decode[kind] = start;
            state = (uint64_t)kind;
            for (int n = 0; n < BLOCKS; n++) {
                float x[WIDTH];
                fill(kind, x);
                // The reference, since the function of rows flushes subnormals to zero on some machines.
                if (types[t] == GGML_TYPE_BF16) ggml_fp32_to_bf16_row_ref(x, (ggml_bf16_t *)block, WIDTH);
                else ggml_quantize_chunk(types[t], x, block, 0, 1, WIDTH, NULL);
                if (kind == 0 && n == 0) {
                    printf("%s first ", names[t]);
                    for (size_t i = 0; i < ggml_type_size(types[t]); i++) printf("%02x", block[i]);
                    printf("\n");
                }
                encode[kind] = hash(encode[kind], block, size);
                decode[kind] = decoded(decode[kind], types[t], block);
            }
        }
        state = KINDS;
        for (int n = 0; n < BLOCKS; n++) {
            for (size_t i = 0; i < size; i++) block[i] = (uint8_t)draw();
            bytes = decoded(bytes, types[t], block);
        }
        printf("%s encode", names[t]);
        for (int kind = 0; kind < KINDS; kind++) printf(" %016llx", (unsigned long long)encode[kind]);
        printf("\n%s decode", names[t]);
        for (int kind = 0; kind < KINDS; kind++) printf(" %016llx", (unsigned long long)decode[kind]);
        printf("\n%s bytes %016llx\n", names[t], (unsigned long long)bytes);
    }
    return 0;
}
