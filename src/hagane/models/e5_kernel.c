/* The encoder of multilingual-e5-small for x86-64 with AVX2, and its tokenizer.
 *
 * Why not a general runtime: the weights are 4 bits with one scale per 32 inputs. Eight pairs of such a weight and an
 * unsigned byte always fit into a signed 16-bit sum (8 * 2 * 8 * 255 = 32,640), so a block of 32 needs one widening
 * instead of eight, and the scale, as a whole number, rides on that widening. All sums are exact; about 1.6 times as
 * fast as a general runtime's int8 product on AVX2.
 *
 * T tokens of all texts of a call, H width, F feed-forward width, HD head width, L tokens of one text, LP = L rounded
 * up to 16. Activations are bytes with one scale and one zero per token: a text's vector never depends on its batch.
 * Weights stand as [N/16 columns][K/32 blocks][8][2][8 columns][4 inputs] signed bytes, scales (in units of the column's
 * own `unit`) as [N/16][K/32][16][2] int16; `sum` is each column's sum of weight times scale.
 */
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define H 384
#define F 1536
#define NH 12
#define HD 32
#define NL 12
#define ROUND64(n) (((n) + 63) & ~(size_t)63)

typedef struct { const int8_t *w; const int16_t *s; const float *sum, *unit, *b; } linear_t;
typedef struct { linear_t qkv, ao, fi, fo; const float *ag, *ab, *og, *ob; } layer_t;
typedef struct { const uint8_t *word; const float *pos, *eg, *eb; layer_t l[NL]; } model_t;

int e5_supported(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

/* ---- small vector functions ---- */
static inline float hsum(__m256 v) {
    __m128 a = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    a = _mm_add_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_add_ss(a, _mm_shuffle_ps(a, a, 1)));
}
static inline float hmax(__m256 v) {
    __m128 a = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    a = _mm_max_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_max_ss(a, _mm_shuffle_ps(a, a, 1)));
}
/* 2^t for t <= 126; far below zero it is zero. Relative error < 5e-5 */
static inline __m256 exp2_8(__m256 t) {
    t = _mm256_max_ps(t, _mm256_set1_ps(-126.f));
    __m256 r = _mm256_round_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), f = _mm256_sub_ps(t, r);
    __m256 p = _mm256_set1_ps(9.61812911e-3f);
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(5.55041087e-2f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(2.40226507e-1f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(6.93147181e-1f));
    p = _mm256_fmadd_ps(p, f, _mm256_set1_ps(1.f));
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(_mm256_cvtps_epi32(r), 23)));
}
/* x * sigmoid(1.5957691 (x + 0.044715 x^3)): the tanh form of GELU, within 5e-4 of the exact one */
static inline __m256 gelu8(__m256 x) {
    const __m256 a = _mm256_set1_ps(-2.302208198f * 0.044715f), b = _mm256_set1_ps(-2.302208198f);
    __m256 u = _mm256_mul_ps(x, _mm256_fmadd_ps(_mm256_mul_ps(x, x), a, b));
    u = _mm256_min_ps(u, _mm256_set1_ps(126.f));
    return _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1.f), exp2_8(u)));
}
static inline __m256i shorts(const float *x, __m256 s) { /* 16 floats, scaled, to int16 */
    __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), s));
    __m256i b = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8), s));
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xD8);
}

/* ---- bytes: x = (q - zero) * scale ---- */
static void quantize_row(const float *x, uint8_t *q, int K, float *scale, float *zero) {
    __m256 lo = _mm256_setzero_ps(), hi = lo;
    for (int i = 0; i < K; i += 8) {
        __m256 v = _mm256_loadu_ps(x + i);
        lo = _mm256_min_ps(lo, v);
        hi = _mm256_max_ps(hi, v);
    }
    float top = hmax(hi), bottom = -hmax(_mm256_sub_ps(_mm256_setzero_ps(), lo)), s = (top - bottom) / 255.f;
    if (!(s > 1e-20f)) s = 1e-20f;
    float z = rintf(-bottom / s);
    const __m256 inv = _mm256_set1_ps(1.f / s), zz = _mm256_set1_ps(z);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    for (int i = 0; i < K; i += 32) {
        __m256i a = _mm256_cvtps_epi32(_mm256_fmadd_ps(_mm256_loadu_ps(x + i), inv, zz));
        __m256i b = _mm256_cvtps_epi32(_mm256_fmadd_ps(_mm256_loadu_ps(x + i + 8), inv, zz));
        __m256i c = _mm256_cvtps_epi32(_mm256_fmadd_ps(_mm256_loadu_ps(x + i + 16), inv, zz));
        __m256i d = _mm256_cvtps_epi32(_mm256_fmadd_ps(_mm256_loadu_ps(x + i + 24), inv, zz));
        __m256i p = _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
        _mm256_storeu_si256((__m256i *)(q + i), _mm256_permutevar8x32_epi32(p, order));
    }
    *scale = s;
    *zero = z;
}
static void quantize(const float *x, uint8_t *q, int T, int K, float *scale, float *zero) {
    for (int t = 0; t < T; t++) quantize_row(x + (size_t)t * K, q + (size_t)t * K, K, scale + t, zero + t);
}

/* ---- y = x W' + b, tiles of four tokens by sixteen columns ----
 * The empty asm keeps the compiler from re-ordering the sums, which would spill every register (2 times slower). */
#define KEEP(c) __asm__("" : "+x"(c));
#define BROADCAST(r, k) _mm256_set1_epi32(*(const int32_t *)(a##r + b + (k) * 4))
#define ADD16(c, p) c = _mm256_add_epi16(c, p); KEEP(c)
#define LOAD(k) w0 = _mm256_load_si256((const __m256i *)(w + (k) * 64)); w1 = _mm256_load_si256((const __m256i *)(w + (k) * 64 + 32));
#define FIRST(r) { __m256i x = BROADCAST(r, 0); c##r##0 = _mm256_maddubs_epi16(x, w0); c##r##1 = _mm256_maddubs_epi16(x, w1); }
#define NEXT(r, k) { __m256i x = BROADCAST(r, k); ADD16(c##r##0, _mm256_maddubs_epi16(x, w0)) ADD16(c##r##1, _mm256_maddubs_epi16(x, w1)) }
#define STEP4(k) { LOAD(k) NEXT(0, k) NEXT(1, k) NEXT(2, k) NEXT(3, k) }
#define STEP1(k) { LOAD(k) NEXT(0, k) }
#define FLUSH(r) f##r##0 = _mm256_add_epi32(f##r##0, _mm256_madd_epi16(c##r##0, s0)); f##r##1 = _mm256_add_epi32(f##r##1, _mm256_madd_epi16(c##r##1, s1));

static inline void tile4(const uint8_t *a0, int K, const int8_t *w, const int16_t *s, __m256i out[4][2]) {
    const uint8_t *a1 = a0 + K, *a2 = a1 + K, *a3 = a2 + K;
    __m256i f00, f01, f10, f11, f20, f21, f30, f31;
    f00 = f01 = f10 = f11 = f20 = f21 = f30 = f31 = _mm256_setzero_si256();
    for (int b = 0; b < K; b += 32, w += 512, s += 32) {
        __m256i c00, c01, c10, c11, c20, c21, c30, c31, w0, w1;
        LOAD(0) FIRST(0) FIRST(1) FIRST(2) FIRST(3)
        STEP4(1) STEP4(2) STEP4(3) STEP4(4) STEP4(5) STEP4(6) STEP4(7)
        const __m256i s0 = _mm256_load_si256((const __m256i *)s), s1 = _mm256_load_si256((const __m256i *)(s + 16));
        FLUSH(0) FLUSH(1) FLUSH(2) FLUSH(3)
    }
    out[0][0] = f00; out[0][1] = f01; out[1][0] = f10; out[1][1] = f11;
    out[2][0] = f20; out[2][1] = f21; out[3][0] = f30; out[3][1] = f31;
}
static inline void tile1(const uint8_t *a0, int K, const int8_t *w, const int16_t *s, __m256i out[4][2]) {
    __m256i f00 = _mm256_setzero_si256(), f01 = f00;
    for (int b = 0; b < K; b += 32, w += 512, s += 32) {
        __m256i c00, c01, w0, w1;
        LOAD(0) FIRST(0)
        STEP1(1) STEP1(2) STEP1(3) STEP1(4) STEP1(5) STEP1(6) STEP1(7)
        const __m256i s0 = _mm256_load_si256((const __m256i *)s), s1 = _mm256_load_si256((const __m256i *)(s + 16));
        FLUSH(0)
    }
    out[0][0] = f00; out[0][1] = f01;
}
static void linear(const uint8_t *a, const float *sa, const float *za, const linear_t *m, float *y, int T, int N, int K,
                   int gelu) {
    for (int n = 0; n < N; n += 16) {
        const int8_t *w = m->w + (size_t)n * K;
        const int16_t *s = m->s + (size_t)n * (K / 16);
        __m256i acc[4][2];
        /* the next columns' weights and scales, a few lines with each tile: the first tile then finds them near */
        const char *ahead = (const char *)(w + 16 * K), *ahead_s = (const char *)(s + K);
        const int lines = K / 4, step = T < 8 ? lines : (lines + T / 4 - 1) / (T / 4);
        int line = 0;
        for (int t = 0, R; t < T; t += R) {
            for (int i = 0; i < step && line < lines; i++, line++) {
                _mm_prefetch(ahead + line * 64, _MM_HINT_T0);
                if (line % 8 == 0) _mm_prefetch(ahead_s + line * 8, _MM_HINT_T0);
            }
            R = T - t < 4 ? 1 : 4;
            if (R == 4) tile4(a + (size_t)t * K, K, w, s, acc);
            else tile1(a + (size_t)t * K, K, w, s, acc);
            for (int g = 0; g < 2; g++) {
                const int o = n + g * 8;
                const __m256 sum = _mm256_load_ps(m->sum + o), unit = _mm256_load_ps(m->unit + o), b = _mm256_load_ps(m->b + o);
                for (int r = 0; r < R; r++) {
                    __m256 v = _mm256_fnmadd_ps(_mm256_set1_ps(za[t + r]), sum, _mm256_cvtepi32_ps(acc[r][g]));
                    v = _mm256_fmadd_ps(_mm256_mul_ps(v, unit), _mm256_set1_ps(sa[t + r]), b);
                    _mm256_storeu_ps(y + (size_t)(t + r) * N + o, gelu ? gelu8(v) : v);
                }
            }
        }
    }
}

/* x = norm(x + y) * g + b per token; y may be NULL */
static void norm(float *x, const float *y, const float *g, const float *b, int T) {
    for (int t = 0; t < T; t++) {
        float *r = x + (size_t)t * H;
        __m256 m = _mm256_setzero_ps(), q = m;
        for (int i = 0; i < H; i += 8) {
            __m256 v = _mm256_loadu_ps(r + i);
            if (y) v = _mm256_add_ps(v, _mm256_loadu_ps(y + (size_t)t * H + i));
            _mm256_storeu_ps(r + i, v);
            m = _mm256_add_ps(m, v);
        }
        const __m256 mean = _mm256_set1_ps(hsum(m) / H);
        for (int i = 0; i < H; i += 8) {
            __m256 d = _mm256_sub_ps(_mm256_loadu_ps(r + i), mean);
            q = _mm256_fmadd_ps(d, d, q);
        }
        const __m256 inv = _mm256_set1_ps(1.f / sqrtf(hsum(q) / H + 1e-12f));
        for (int i = 0; i < H; i += 8) {
            __m256 d = _mm256_mul_ps(_mm256_sub_ps(_mm256_loadu_ps(r + i), mean), inv);
            _mm256_storeu_ps(r + i, _mm256_fmadd_ps(d, _mm256_loadu_ps(g + i), _mm256_loadu_ps(b + i)));
        }
    }
}

/* ---- attention of one text, in int16 with int32 sums (twice the speed of fp32, 13 bits and more) ---- */
static float peak(const float *x, int L) { /* largest magnitude of L rows of HD floats, 3H apart */
    __m256 m = _mm256_setzero_ps();
    for (int j = 0; j < L; j++)
        for (int e = 0; e < HD; e += 8) {
            __m256 v = _mm256_loadu_ps(x + (size_t)j * 3 * H + e);
            m = _mm256_max_ps(m, _mm256_max_ps(v, _mm256_sub_ps(_mm256_setzero_ps(), v)));
        }
    float p = hmax(m);
    return p > 1e-20f ? p : 1e-20f;
}
static void pack_keys(const float *q, const float *k, int L, float sq, float sk, int16_t *qi, int16_t *ki) {
    const int LP = (L + 15) & ~15; /* queries [L][HD], keys [LP/16][HD/2][16][2] */
    const __m256 q8 = _mm256_set1_ps(sq), k8 = _mm256_set1_ps(sk);
    memset(ki + (size_t)(LP - 16) * HD, 0, 16 * HD * sizeof *ki);
    for (int j = 0; j < L; j++) {
        const size_t o = (size_t)j * 3 * H;
        _mm256_store_si256((__m256i *)(qi + j * HD), shorts(q + o, q8));
        _mm256_store_si256((__m256i *)(qi + j * HD + 16), shorts(q + o + 16, q8));
        int32_t pair[16] __attribute__((aligned(32)));
        _mm256_store_si256((__m256i *)pair, shorts(k + o, k8));
        _mm256_store_si256((__m256i *)(pair + 8), shorts(k + o + 16, k8));
        for (int e = 0; e < 16; e++)
            memcpy(ki + (size_t)(j & ~15) * HD + e * 32 + (j & 15) * 2, pair + e, 4);
    }
}
static void pack_values(const float *v, int L, float sv, int16_t *vi) { /* [LP/2][HD][2] */
    const __m256 v8 = _mm256_set1_ps(sv);
    for (int j = 0; j < ((L + 15) & ~15); j += 2) {
        __m256i a0 = _mm256_setzero_si256(), a1 = a0, b0 = a0, b1 = a0;
        const float *row = v + (size_t)j * 3 * H;
        if (j < L) { a0 = shorts(row, v8); a1 = shorts(row + 16, v8); }
        if (j + 1 < L) { b0 = shorts(row + 3 * H, v8); b1 = shorts(row + 3 * H + 16, v8); }
        __m256i *d = (__m256i *)(vi + (size_t)j * HD);
        __m256i lo = _mm256_unpacklo_epi16(a0, b0), hi = _mm256_unpackhi_epi16(a0, b0);
        d[0] = _mm256_permute2x128_si256(lo, hi, 0x20);
        d[1] = _mm256_permute2x128_si256(lo, hi, 0x31);
        lo = _mm256_unpacklo_epi16(a1, b1), hi = _mm256_unpackhi_epi16(a1, b1);
        d[2] = _mm256_permute2x128_si256(lo, hi, 0x20);
        d[3] = _mm256_permute2x128_si256(lo, hi, 0x31);
    }
}
#define ADD32(c, p) c = _mm256_add_epi32(c, p); KEEP(c)
#define QK(r) z = _mm256_set1_epi32(*(const int32_t *)(q##r + 2 * e)); ADD32(c##r##0, _mm256_madd_epi16(z, k0)) ADD32(c##r##1, _mm256_madd_epi16(z, k1))
#define PUT(r) _mm256_store_ps(p + r * LP + j, _mm256_cvtepi32_ps(c##r##0)); _mm256_store_ps(p + r * LP + j + 8, _mm256_cvtepi32_ps(c##r##1));
static void scores4(const int16_t *const q[4], const int16_t *ki, int LP, float *p) {
    const int16_t *q0 = q[0], *q1 = q[1], *q2 = q[2], *q3 = q[3];
    for (int j = 0; j < LP; j += 16) {
        const __m256i *kk = (const __m256i *)(ki + (size_t)j * HD);
        __m256i c00, c01, c10, c11, c20, c21, c30, c31;
        c00 = c01 = c10 = c11 = c20 = c21 = c30 = c31 = _mm256_setzero_si256();
        for (int e = 0; e < 16; e++) {
            __m256i k0 = kk[2 * e], k1 = kk[2 * e + 1], z;
            QK(0) QK(1) QK(2) QK(3)
        }
        PUT(0) PUT(1) PUT(2) PUT(3)
    }
}
/* scores, `unit` each in base 2, to int16 shares; returns what one share is worth */
static float softmax(float *p, int16_t *share, int L, int LP, float unit) {
    for (int j = L; j < LP; j++) p[j] = -3e38f;
    __m256 m = _mm256_load_ps(p), s = _mm256_setzero_ps();
    for (int j = 8; j < LP; j += 8) m = _mm256_max_ps(m, _mm256_load_ps(p + j));
    const __m256 sc = _mm256_set1_ps(unit), top = _mm256_set1_ps(hmax(m) * unit);
    for (int j = 0; j < LP; j += 8) {
        __m256 e = exp2_8(_mm256_fmsub_ps(_mm256_load_ps(p + j), sc, top));
        s = _mm256_add_ps(s, e);
        _mm256_store_ps(p + j, e);
    }
    float sum = hsum(s), c = 65000.f / sum; /* 65,000 shares times 32,767 stay below 2^31 */
    if (c > 32767.f) c = 32767.f;
    for (int j = 0; j < LP; j += 16) _mm256_store_si256((__m256i *)(share + j), shorts(p + j, _mm256_set1_ps(c)));
    return 1.f / (sum * c);
}
#define PV(g) z = vv[g]; ADD32(o##g, _mm256_madd_epi16(a, z)) ADD32(u##g, _mm256_madd_epi16(b, z))
#define OUT(d, x, g, s) _mm256_storeu_ps(d + 8 * g, _mm256_mul_ps(_mm256_cvtepi32_ps(x##g), s));
static void weigh2(const int16_t *share, const int16_t *vi, int LP, const float worth[2], float *d0, float *d1) {
    __m256i o0, o1, o2, o3, u0, u1, u2, u3;
    o0 = o1 = o2 = o3 = u0 = u1 = u2 = u3 = _mm256_setzero_si256();
    const __m256i *vv = (const __m256i *)vi;
    for (int j = 0; j < LP; j += 2, vv += 4) {
        __m256i a = _mm256_set1_epi32(*(const int32_t *)(share + j));
        __m256i b = _mm256_set1_epi32(*(const int32_t *)(share + LP + j)), z;
        PV(0) PV(1) PV(2) PV(3)
    }
    __m256 s = _mm256_set1_ps(worth[0]);
    OUT(d0, o, 0, s) OUT(d0, o, 1, s) OUT(d0, o, 2, s) OUT(d0, o, 3, s)
    if (!d1) return;
    s = _mm256_set1_ps(worth[1]);
    OUT(d1, u, 0, s) OUT(d1, u, 1, s) OUT(d1, u, 2, s) OUT(d1, u, 3, s)
}
#define ATTEND_BYTES(LP) ((size_t)(LP) * (3 * HD * 2 + 4 * 4 + 4 * 2))
static void attend(const float *qkv, float *ctx, int L, char *mem) { /* rows of 3H to rows of H */
    const int LP = (L + 15) & ~15;
    int16_t *qi = (int16_t *)mem, *ki = qi + LP * HD, *vi = ki + LP * HD;
    float *p = (float *)(vi + LP * HD);
    int16_t *share = (int16_t *)(p + 4 * LP);
    for (int h = 0; h < NH; h++) {
        const float *q = qkv + h * HD, *k = q + H, *v = k + H;
        /* 8000: the sum of 32 products of two such numbers stays below 2^31 */
        const float sq = 8000.f / peak(q, L), sk = 8000.f / peak(k, L), sv = 32767.f / peak(v, L);
        pack_keys(q, k, L, sq, sk, qi, ki);
        pack_values(v, L, sv, vi);
        const float unit = 0.17677669529663687f * 1.4426950408889634f / (sq * sk); /* log2(e) / sqrt(HD) */
        for (int i = 0; i < L; i += 4) {
            const int R = L - i < 4 ? L - i : 4;
            const int16_t *rows[4];
            for (int r = 0; r < 4; r++) rows[r] = qi + (size_t)(i + (r < R ? r : 0)) * HD;
            scores4(rows, ki, LP, p);
            float worth[4];
            for (int r = 0; r < 4; r++) worth[r] = softmax(p + r * LP, share + r * LP, L, LP, unit) / sv;
            for (int r = 0; r < R; r += 2) {
                float *d = ctx + (size_t)(i + r) * H + h * HD;
                weigh2(share + r * LP, vi, LP, worth + r, d, r + 1 < R ? d + H : NULL);
            }
        }
    }
}

/* ---- the whole pass ---- */
static void look_up(const model_t *m, const int32_t *ids, int L, float *x) { /* 4-bit word rows + position + type */
    for (int t = 0; t < L; t++) {
        const uint8_t *w = m->word + (size_t)ids[t] * (H / 32) * 18;
        const float *p = m->pos + (size_t)t * H;
        for (int b = 0; b < H / 32; b++, w += 18, x += 32, p += 32) {
            uint16_t half;
            memcpy(&half, w, 2);
            const float s = _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(half)));
            for (int j = 0; j < 16; j++) {
                x[j] = (float)((w[2 + j] & 15) - 8) * s + p[j];
                x[j + 16] = (float)((w[2 + j] >> 4) - 8) * s + p[j + 16];
            }
        }
    }
}
/* n texts, the tokens of text i at ids[off[i]..off[i+1]); out: n unit rows of H. Returns 1 if memory is short. */
int e5_forward(const model_t *m, const int32_t *ids, const int32_t *off, int n, float *out) {
    const int T = off[n];
    int longest = 0;
    for (int i = 0; i < n; i++) longest = off[i + 1] - off[i] > longest ? off[i + 1] - off[i] : longest;
    const size_t bx = ROUND64((size_t)T * H * 4), bf = ROUND64((size_t)T * F * 4), bq = ROUND64((size_t)T * F),
                 bs = ROUND64((size_t)T * 4), ba = ROUND64(ATTEND_BYTES((longest + 15) & ~15));
    char *mem = aligned_alloc(64, 2 * bx + bf + bq + 2 * bs + ba);
    if (!mem) return 1;
    float *x = (float *)mem, *y = (float *)(mem + bx), *wide = (float *)(mem + 2 * bx);
    uint8_t *q = (uint8_t *)(mem + 2 * bx + bf);
    float *scale = (float *)(q + bq), *zero = (float *)((char *)scale + bs);
    char *scratch = (char *)zero + bs;
    for (int i = 0; i < n; i++) look_up(m, ids + off[i], off[i + 1] - off[i], x + (size_t)off[i] * H);
    norm(x, NULL, m->eg, m->eb, T);
    for (const layer_t *l = m->l; l < m->l + NL; l++) {
        quantize(x, q, T, H, scale, zero);
        linear(q, scale, zero, &l->qkv, wide, T, 3 * H, H, 0);
        for (int i = 0; i < n; i++)
            attend(wide + (size_t)off[i] * 3 * H, y + (size_t)off[i] * H, off[i + 1] - off[i], scratch);
        quantize(y, q, T, H, scale, zero);
        linear(q, scale, zero, &l->ao, y, T, H, H, 0);
        norm(x, y, l->ag, l->ab, T);
        quantize(x, q, T, H, scale, zero);
        linear(q, scale, zero, &l->fi, wide, T, F, H, 1);
        quantize(wide, q, T, F, scale, zero);
        linear(q, scale, zero, &l->fo, y, T, H, F, 0);
        norm(x, y, l->og, l->ob, T);
    }
    for (int i = 0; i < n; i++) {
        float *o = out + (size_t)i * H;
        double s = 1e-24;
        memset(o, 0, H * sizeof *o);
        for (int t = off[i]; t < off[i + 1]; t++)
            for (int j = 0; j < H; j++) o[j] += x[(size_t)t * H + j];
        for (int j = 0; j < H; j++) s += (double)o[j] * o[j];
        for (int j = 0; j < H; j++) o[j] = (float)(o[j] / sqrt(s));
    }
    free(mem);
    return 0;
}

/* ---- tokenizer: the best path through the unigram pieces, character by character ---- */
typedef struct {
    const uint8_t *blob; const uint32_t *off; const float *score; int32_t *table; /* piece + 1, 0 empty */
    int32_t n, mask, longest, unknown; float unknown_score;
} vocabulary_t;
#define HASH0 1469598103934665603ULL
#define HASH(h, c) (((h) ^ (c)) * 1099511628211ULL)

void e5_index(const vocabulary_t *v) { /* fills v->table, which is zero and has mask + 1 places */
    for (int32_t i = 0; i < v->n; i++) {
        uint64_t h = HASH0;
        for (uint32_t j = v->off[i]; j < v->off[i + 1]; j++) h = HASH(h, v->blob[j]);
        uint32_t at = (uint32_t)(h & v->mask);
        if (v->off[i] == v->off[i + 1]) continue;
        while (v->table[at]) at = (at + 1) & v->mask;
        v->table[at] = i + 1;
    }
}
static int32_t find(const vocabulary_t *v, uint64_t h, const uint8_t *s, uint32_t len) {
    for (uint32_t at = (uint32_t)(h & v->mask); v->table[at]; at = (at + 1) & v->mask) {
        const int32_t i = v->table[at] - 1;
        if (v->off[i + 1] - v->off[i] == len && !memcmp(v->blob + v->off[i], s, len)) return i;
    }
    return -1;
}
/* normalised UTF-8 of n bytes to at most `room` piece ids; returns how many there are in all, or -1 */
int e5_tokens(const vocabulary_t *v, const uint8_t *s, int n, int32_t *out, int room) {
    float *best = malloc((size_t)(n + 1) * sizeof *best);
    int32_t *piece = malloc((size_t)(n + 1) * 2 * sizeof *piece), *from = piece + n + 1;
    if (!best || !piece) { free(best); free(piece); return -1; }
    for (int i = 0; i <= n; i++) best[i] = -1e30f;
    best[0] = 0;
    for (int i = 0; i < n; i++) {
        if (best[i] <= -1e29f) continue;
        uint64_t h = HASH0;
        int one = 1; /* bytes of the character here */
        while (i + one < n && (s[i + one] & 0xC0) == 0x80) one++;
        for (int e = i; e < n && e - i < v->longest;) {
            do { h = HASH(h, s[e]); e++; } while (e < n && (s[e] & 0xC0) == 0x80);
            const int32_t id = find(v, h, s + i, (uint32_t)(e - i));
            if (id >= 0 && id != v->unknown && best[i] + v->score[id] > best[e]) {
                best[e] = best[i] + v->score[id];
                piece[e] = id;
                from[e] = i;
            }
        }
        if (best[i] + v->unknown_score > best[i + one]) {
            best[i + one] = best[i] + v->unknown_score;
            piece[i + one] = v->unknown;
            from[i + one] = i;
        }
    }
    int count = 0, at;
    for (at = n; at > 0; at = from[at]) count++;
    for (at = n; at > 0; at = from[at])
        if (--count < room) out[count] = piece[at];
    for (at = n; at > 0; at = from[at]) count++;
    free(best);
    free(piece);
    return count;
}
