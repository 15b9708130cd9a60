/*
 * index_logits: scores of every cached token against each query token.
 *
 * Persistent: a block an SM, of 8 warps that score and 4 that load. The work is one list of
 * tiles, at most 64 tokens of one page each, row after row (a group of rows that share a
 * request counts as one with more work in a tile). The loading warps sum all lengths and
 * deal the list out in contiguous, even shares, one a scoring warp. A lane of them walks a
 * share and feeds its warp's ring of stages in shared memory by 1-D bulk copies. A scoring
 * warp keeps all heads of a query as f16 in registers, the A operand, and turns the keys to
 * f16 on the way to the matrix unit. e4m3 is exact in f16, products are exact, sums are f32.
 *
 * The fp8 matrix unit of Hopper (wgmma) is not for this op: its sums are short of bits (8e-4
 * measured, 1e-5 promised). mma.sync of e4m3 compiles to the same conversion and f16 product
 * on sm_90, but would turn the query to f16 again for each product.
 *
 * A score comes from one column of the products and a sum over heads in a fixed order, so
 * it has the same bits whatever else runs, and however the list is dealt out.
 *
 * sm_80 would need: cp.async of 16 bytes a lane by the scoring warps into the same ring in
 * place of the bulk copies and their mbarriers, no setmaxnreg, and e4m3 to f16 by integers:
 * (b & 0x7f) << 7 with the sign at bit 15 is the value times 2^-8, denormals included, and
 * 0x7f has to become a NaN by hand. sm_89 has the conversion.
 */
#include "kernels/cuda/fault.cuh"
#include "kernels/cuda/index_tiles.cuh"
#include "kernels/cuda/plan.cuh"

#include <refrain/ops.h>

namespace
{

/* ---- scores ----------------------------------------------------------------------- */

/* Four e4m3 as f16, two in a word, the low byte in the low half. NaN stays NaN. */
__device__ __forceinline__ void halves_of(uint32_t four, uint32_t *ret_low,
                                          uint32_t *ret_high)
{
    asm("{\n"
        ".reg .b16 low, high;\n"
        "mov.b32 {low, high}, %2;\n"
        "cvt.rn.f16x2.e4m3x2 %0, low;\n"
        "cvt.rn.f16x2.e4m3x2 %1, high;\n"
        "}\n"
        : "=r"(*ret_low), "=r"(*ret_high)
        : "r"(four));
}

__device__ __forceinline__ void multiply(float c[4], const uint32_t a[4], uint32_t b0,
                                         uint32_t b1)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* Token of 32 whose sum query.sum_of leaves in this lane. */
__device__ __forceinline__ uint32_t token_of_lane()
{
    uint32_t lane = threadIdx.x % 32;
    return lane / 8 * 8 + lane % 4 * 2 + lane / 4 % 2;
}

/* A query, as the A operands of MT x 8 products of 16 heads x 16 dimensions. Lane (g, t)
 * has dimensions 16t .. 16t + 15 and 64 more of heads g, g + 8, ...: four a step, and of a
 * key the same ones, so that their order among the steps does not matter. */
template <uint32_t MT> struct query
{
    uint32_t a[MT][8][4];
    float w[MT][2];

    __device__ __forceinline__ void load(const problem &p, int32_t t)
    {
        uint32_t lane = threadIdx.x % 32;
        const uint8_t *row = p.q8 + t * p.q8_row + 16 * (lane % 4);
        const float *weight = p.w8 + t * p.w8_row;
#pragma unroll
        for (uint32_t i = 0; i < MT; i++)
        {
#pragma unroll
            for (uint32_t half = 0; half < 2; half++)
            {
                int32_t h = (int32_t)(16 * i + 8 * half + lane / 4);
                uint4 q[2] = {};
                w[i][half] = 0;
                if (h < p.H)
                {
                    const uint8_t *head = row + h * p.q8_head;
                    q[0] = __ldg((const uint4 *)head);
                    q[1] = __ldg((const uint4 *)(head + 64));
                    w[i][half] = __ldg(weight + h);
                }
#pragma unroll
                for (uint32_t j = 0; j < 2; j++)
                {
                    const uint32_t word[4] = { q[j].x, q[j].y, q[j].z, q[j].w };
#pragma unroll
                    for (uint32_t k = 0; k < 4; k++)
                    {
                        uint32_t *to = a[i][4 * j + k];
                        halves_of(word[k], &to[half], &to[half + 2]);
                    }
                }
            }
        }
    }

    /* Weighted sums over this lane's heads for tokens 2t and 2t + 1 of eight, doubled:
     * x + |x| is twice relu(x), and NaN where x is. */
    __device__ __forceinline__ void eight(const uint8_t *key, float ret[2]) const
    {
        uint32_t lane = threadIdx.x % 32;
        const uint8_t *row = key + lane / 4 * DIM + 16 * (lane % 4);
        /* Odd rows in swapped order: eight lanes then read all banks. */
        bool odd = lane & 4;
        uint4 x = *(const uint4 *)(row + (odd ? 64 : 0));
        uint4 y = *(const uint4 *)(row + (odd ? 0 : 64));
        const uint32_t word[8] = { odd ? y.x : x.x, odd ? y.y : x.y, odd ? y.z : x.z,
                                   odd ? y.w : x.w, odd ? x.x : y.x, odd ? x.y : y.y,
                                   odd ? x.z : y.z, odd ? x.w : y.w };
        float c[MT][4] = {};
#pragma unroll
        for (uint32_t k = 0; k < 8; k++)
        {
            uint32_t b[2];
            halves_of(word[k], &b[0], &b[1]);
#pragma unroll
            for (uint32_t i = 0; i < MT; i++)
                multiply(c[i], a[i][k], b[0], b[1]);
        }
        ret[0] = ret[1] = 0;
#pragma unroll
        for (uint32_t i = 0; i < MT; i++)
        {
#pragma unroll
            for (uint32_t j = 0; j < 4; j++)
                ret[j % 2] = fmaf(w[i][j / 2], c[i][j] + fabsf(c[i][j]), ret[j % 2]);
        }
    }

    /* The doubled sum of token `token_of_lane()` of 32, one a lane. */
    __device__ __forceinline__ float sum_of(const uint8_t *key) const
    {
        uint32_t lane = threadIdx.x % 32;
        float sum[4][2]; /* of tokens 8n + 2t + c */
#pragma unroll
        for (uint32_t n = 0; n < 4; n++)
            eight(key + n * 8 * DIM, sum[n]);

        /* Eight lanes g have parts of each sum: at each step half of the sums goes to the
         * lane across, which keeps them. */
        float two[2][2];
        bool high = lane & 16;
#pragma unroll
        for (uint32_t n = 0; n < 2; n++)
        {
#pragma unroll
            for (uint32_t c = 0; c < 2; c++)
            {
                float kept = high ? sum[n + 2][c] : sum[n][c];
                float sent = high ? sum[n][c] : sum[n + 2][c];
                two[n][c] = kept + __shfl_xor_sync(ALL, sent, 16);
            }
        }
        float one[2];
        high = lane & 8;
#pragma unroll
        for (uint32_t c = 0; c < 2; c++)
        {
            float kept = high ? two[1][c] : two[0][c];
            float sent = high ? two[0][c] : two[1][c];
            one[c] = kept + __shfl_xor_sync(ALL, sent, 8);
        }
        high = lane & 4;
        float kept = high ? one[1] : one[0];
        float sent = high ? one[0] : one[1];
        return kept + __shfl_xor_sync(ALL, sent, 4);
    }
};

/* Scores -inf, and in check mode notes each row of no request and each page once. */
__device__ __forceinline__ void no_page(const problem &p, int32_t t, int32_t column,
                                        int32_t n)
{
    int32_t lane = (int32_t)(threadIdx.x % 32);
    for (int32_t i = lane; i < n; i += 32)
        p.logits[t * p.logits_row + column + i] = __uint_as_float(0xff800000u);
    if (!p.fault || lane != 0 || column % p.P != 0)
        return;
    int32_t r = __ldg(p.request + t);
    int32_t i = column / p.P;
    if (r < 0 || r >= p.R)
    {
        if (i == 0)
            rfn_fault_note_cuda(p.fault, p.name, p.request_name, t, 0, r);
        return;
    }
    rfn_fault_note_cuda(p.fault, p.name, p.table_name, t, i,
                        i < p.W ? p.table[r * p.table_row + i] : i);
}

template <uint32_t MT> struct scorer
{
    query<MT> q;
    uint32_t ring;
    bool began; /* all stages were given to the loader */

    /* The scores of n tokens from `column` on of row t. */
    __device__ __forceinline__ void score(const problem &p, const stage *from, int32_t t,
                                          int32_t column, int32_t n) const
    {
        float *to = p.logits + t * p.logits_row + column;
#pragma unroll 1
        for (int32_t i = 0; i < n; i += HALF)
        {
            float x = q.sum_of(from->key + i * (int32_t)DIM);
            int32_t token = i + (int32_t)token_of_lane();
            if (token < n)
                to[token] = 0.5f * x * from->scale[token];
            __syncwarp();
        }
    }

    __device__ __forceinline__ void release(shared_memory *m, cursor *at) const
    {
        if (threadIdx.x % 32 == 0)
            rfn_barrier_arrive(&m->empty[ring][at->k], 0);
        at->next();
    }

    /* Scores the ring's share of the chunk of rows that begins at `base`. For each row of a
     * group the query is loaded and one or two tiles are scored. */
    __device__ __forceinline__ void run(const problem &p, int32_t base, shared_memory *m,
                                        cursor *at)
    {
        tile what;
        int32_t loaded = -1;        /* row whose query is in q */
        int32_t t = m->first[ring]; /* row that comes next */
        uint32_t many = 0;          /* tiles of this group to score; 0: none yet */
        for (;;)
        {
            if (t != loaded && t >= 0)
                q.load(p, base + t);
            loaded = t;
            if (!began)
            {
                /* Only now: what is in flight before it holds up the query. */
                began = true;
                for (uint32_t k = 1; k < STAGES; k++)
                    if (threadIdx.x % 32 == 0)
                        rfn_barrier_arrive(&m->empty[ring][k], 0);
            }
            if (!many)
            {
                rfn_barrier_wait(&m->full[ring][at->k], at->parity);
                what = m->what[ring][at->k];
                many = 1;
                if (what.leader < 0)
                    break;
                if (what.rows > 1)
                {
                    cursor next = *at;
                    next.next();
                    rfn_barrier_wait(&m->full[ring][next.k], next.parity);
                    many += m->what[ring][next.k].leader == what.leader;
                }
                t = what.leader;
                while (m->length[t] <= what.column)
                    t++;
                if (t != loaded)
                    continue;
            }

            uint32_t k = at->k;
#pragma unroll 1
            for (uint32_t i = 0; i < many; i++)
            {
                int2 place = *(const int2 *)&m->what[ring][k].column;
                int32_t n = min(abs(place.y), m->length[t] - place.x);
                if (n > 0 && place.y < 0)
                    no_page(p, base + t, place.x, n);
                else if (n > 0)
                    score(p, &m->ring[ring][k], base + t, place.x, n);
                k = k + 1 == STAGES ? 0 : k + 1;
            }

            int32_t end = what.leader + what.rows;
            do
                t++;
            while (t < end && m->length[t] <= what.column);
            if (t < end)
                continue;
            t = loaded;
            __syncwarp();
#pragma unroll 1
            for (; many; many--)
                release(m, at);
        }
        __syncwarp();
        release(m, at);
    }
};

template <uint32_t MT>
__global__ void __launch_bounds__(THREADS, 1)
    index_logits_kernel(const uint8_t *q8, const float *w8, const uint8_t *pool,
                        const int32_t *table, const int32_t *request, const int32_t *lens,
                        const int32_t *live, float *logits, int64_t q8_row,
                        int64_t q8_head, int64_t w8_row, int64_t page_bytes,
                        int64_t table_row, int64_t logits_row, int64_t T, int64_t S,
                        int64_t R, int64_t W, int64_t pages, int32_t H, int32_t P,
                        int32_t tokens, int32_t parts, int32_t share,
                        struct rfn_fault *fault, const char *name, const char *table_name,
                        const char *request_name)
{
    extern __shared__ __align__(128) unsigned char bytes[];
    shared_memory *m = (shared_memory *)bytes;
    int64_t alive = live ? *live : T;
    const problem p = { q8,
                        w8,
                        pool,
                        table,
                        request,
                        lens,
                        logits,
                        q8_row,
                        q8_head,
                        w8_row,
                        page_bytes,
                        table_row,
                        logits_row,
                        pages,
                        R,
                        W,
                        S,
                        (int32_t)T,
                        (int32_t)(alive < T ? alive : T),
                        H,
                        P,
                        tokens,
                        parts,
                        share,
                        fault,
                        name,
                        table_name,
                        request_name };
    uint32_t warp = threadIdx.x / 32;
    uint32_t lane = threadIdx.x % 32;
    if (warp < WARPS && lane == 0)
    {
#pragma unroll
        for (uint32_t k = 0; k < STAGES; k++)
        {
            rfn_barrier_init(&m->full[warp][k], 1);
            rfn_barrier_init(&m->empty[warp][k], 1);
        }
        rfn_barrier_arrive(&m->empty[warp][0], 0);
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    }
    __syncthreads();

    /* 168 registers a thread at the start: too few for a query and the products. */
    cursor at = { 0, 0 };
    if (warp < WARPS)
    {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
        scorer<MT> s;
        s.ring = warp;
        s.began = false;
#pragma unroll 1
        for (int32_t base = 0; base < p.rows; base += CHUNK)
        {
            __syncthreads(); /* m->first is known */
            s.run(p, base, m, &at);
            __syncthreads();
        }
    }
    else
    {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
#pragma unroll 1
        for (int32_t base = 0; base < p.rows; base += CHUNK)
        {
            int32_t rows = min(p.rows - base, (int32_t)CHUNK);
            uint32_t all = sum_work(p, base, rows, m);
            loader l;
            l.budget = 0;
            uint32_t ring = ring_of_loader();
            if (ring < WARPS)
            {
                /* Neighbours in the list are on different SMs: few tiles meet many. */
                uint32_t shares = gridDim.x * WARPS;
                uint32_t i = ring * gridDim.x + blockIdx.x;
                uint32_t each = all / shares;
                uint32_t more = all - each * shares;
                l.begin(p, m, rows, i * each + min(i, more), each + (i < more));
                m->first[ring] = l.budget > 0 ? l.leader : -1;
            }
            __syncthreads();
            run_loader(p, m, l, &at);
            __syncthreads();
        }
    }
}

} // namespace

extern "C" {

extern const void *const rfn_index_logits_cuda_kernels[];
const void *const rfn_index_logits_cuda_kernels[] = {
    (const void *)index_logits_kernel<1>, (const void *)index_logits_kernel<2>,
    (const void *)index_logits_kernel<4>, NULL
};

enum rfn_status rfn_index_logits_cuda(const void *args, const struct rfn_plan_env *env,
                                      struct rfn_launch *ret)
{
    const struct rfn_index_logits_args *a = (const struct rfn_index_logits_args *)args;
    int64_t T = a->q8.shape[0], H = a->q8.shape[1], S = a->logits.shape[1];
    int64_t R = a->table.shape[0], P = a->pool.page_tokens;
    ret->nodes = 0;
    if (T == 0 || S == 0)
        return RFN_OK;
    if (env->sm_arch < 90)
        return rfn_error(RFN_UNSUPPORTED,
                         "index_logits: needs the bulk copies of sm_90, the GPU is sm_%d",
                         env->sm_arch);
    if (env->shared_bytes_max < (int32_t)sizeof(shared_memory))
        return rfn_error(
            RFN_UNSUPPORTED,
            "index_logits: needs %d bytes of shared memory a block, the GPU has %d",
            (int)sizeof(shared_memory), env->shared_bytes_max);

    /* One block an SM, fewer where there cannot be a tile for each. Small tiles where all
     * of them find a warp. */
    int64_t shares = (int64_t)env->sm_count * WARPS;
    int64_t tokens = T * ((S + HALF - 1) / HALF) <= shares ? HALF : TOKENS;
    int64_t parts = (P + tokens - 1) / tokens;
    int64_t tiles = T * (S / P + 1) * parts; /* T * S floats fit in a GPU: no overflow */
    if (tiles > INT32_MAX)
        return rfn_error(RFN_UNSUPPORTED,
                         "index_logits: %lld rows of %lld columns in pages of %lld are "
                         "more than 2^31 tiles",
                         (long long)T, (long long)S, (long long)P);
    uint32_t grid = (uint32_t)(tiles < env->sm_count ? tiles : env->sm_count);
    const void *kernel = rfn_index_logits_cuda_kernels[H <= 16 ? 0 : H <= 32 ? 1 : 2];
    struct rfn_launch_node *n = rfn_plan_node(ret, "index_logits", kernel, grid, THREADS);
    n->shared_bytes = sizeof(shared_memory);
    bool check = env->fault != NULL;
    int64_t page_bytes =
        a->pool.page_stride_bytes ? a->pool.page_stride_bytes : P * (int64_t)(DIM + 4);
    rfn_plan_param(n, "q8", RFN_PARAM_READ, a->q8.data);
    rfn_plan_param(n, "w8", RFN_PARAM_READ, a->w8.data);
    rfn_plan_param(n, "pool", RFN_PARAM_READ, a->pool.data);
    rfn_plan_param(n, "table", RFN_PARAM_READ, a->table.data);
    rfn_plan_param(n, "request", RFN_PARAM_READ, a->request.data);
    rfn_plan_param(n, "lens", RFN_PARAM_READ, a->lens.data);
    rfn_plan_param(n, "live", RFN_PARAM_READ, a->live.data);
    rfn_plan_param(n, "logits", RFN_PARAM_WRITE, a->logits.data);
    rfn_plan_param(n, "q8.row", RFN_PARAM_CONST, a->q8.stride[0]);
    rfn_plan_param(n, "q8.head", RFN_PARAM_CONST, a->q8.stride[1]);
    rfn_plan_param(n, "w8.row", RFN_PARAM_CONST, a->w8.stride[0]);
    rfn_plan_param(n, "page_bytes", RFN_PARAM_CONST, page_bytes);
    rfn_plan_param(n, "table.row", RFN_PARAM_CONST, a->table.stride[0]);
    rfn_plan_param(n, "logits.row", RFN_PARAM_CONST, a->logits.stride[0]);
    rfn_plan_param(n, "T", RFN_PARAM_CONST, T);
    rfn_plan_param(n, "S", RFN_PARAM_CONST, S);
    rfn_plan_param(n, "R", RFN_PARAM_CONST, R);
    rfn_plan_param(n, "W", RFN_PARAM_CONST, a->table.shape[1]);
    rfn_plan_param(n, "pages", RFN_PARAM_CONST, a->pool.pages);
    rfn_plan_param(n, "H", RFN_PARAM_CONST, (int32_t)H);
    rfn_plan_param(n, "page_tokens", RFN_PARAM_CONST, (int32_t)P);
    rfn_plan_param(n, "tokens", RFN_PARAM_CONST, (int32_t)tokens);
    rfn_plan_param(n, "parts", RFN_PARAM_CONST, (int32_t)parts);
    rfn_plan_param(n, "share", RFN_PARAM_CONST, (int32_t)(T > R));
    rfn_plan_param(n, "fault", RFN_PARAM_CONST, check ? env->fault : NULL);
    rfn_plan_param(n, "fault.op", RFN_PARAM_CONST, check ? "index_logits" : NULL);
    rfn_plan_param(n, "fault.table", RFN_PARAM_CONST, check ? "table" : NULL);
    rfn_plan_param(n, "fault.request", RFN_PARAM_CONST, check ? "request" : NULL);
    return RFN_OK;
}
}
