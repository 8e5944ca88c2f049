/* SPDX-License-Identifier: Apache-2.0
 *
 * The launcher of cuda/emu/emu.h: fibers, barriers, collectives, shared memory. */
#include "cuda/emu/emu.h"

#include "cuda/rt.cuh"

#include <chrono>
#include <mutex>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <vector>

#define STACK_BYTES (256u << 10)
#define GUARD_BYTES 256u
#define SHARED_MAX  (256u << 10)
#define POISON      0xCD

thread_local emu_place *emu_here;

namespace {

/* ---- switching stacks: callee-saved registers of the System V ABI; elsewhere ucontext would do the same ---- */
extern "C" void pare_emu_switch(void **save, void *load);
__asm__(".text\n.hidden pare_emu_switch\n.globl pare_emu_switch\npare_emu_switch:\n"
        "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
        "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
        "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n");

enum state { RUNNING, WAITING, ENDED };

struct group { /* asynchronous work of one commit */
    std::vector<std::function<void()>> work;
};
struct queue {
    std::vector<group> groups;
    group open;
};
struct fiber {
    emu_place place;
    void *sp;
    char *stack;
    state st;
    const char *where; /* what it waits for */
    queue async[2];
};
struct pending { /* a collective that is not complete */
    const char *kind;
    int first, lanes;
    uint32_t mask;
    int arrived, wanted;
    emu_lanes v;
    void (*fn)(emu_lanes *);
};
struct barrier {
    int arrived, wanted;
};
struct block {
    std::vector<fiber> fibers;
    std::vector<int> ready;
    std::vector<pending> waits;
    barrier bars[16];
    int n, live, current;
    void *sp; /* of the scheduler */
    const std::function<void()> *body;
    char *shared; /* GUARD, dynamic, GUARD, then static pieces each followed by a guard */
    size_t dynamic_bytes;
    struct piece {
        const void *key;
        char *p;
        size_t bytes;
    };
    std::vector<piece> pieces;
    size_t used;
    uint64_t rng;
    uint32_t late_warps, late_lanes; /* bits: they run when hardly another can */
    int redraw;                      /* steps until others are late */
    char error[256];
};
thread_local block *here;

uint64_t next_random(uint64_t *s) { /* splitmix64 */
    uint64_t z = (*s += 0x9E3779B97F4A7C15ull);
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return z ^ z >> 31;
}

void yield_fiber(const char *where) {
    fiber *f = &here->fibers[(size_t)here->current];
    f->st = WAITING;
    f->where = where;
    pare_emu_switch(&f->sp, here->sp);
}

void wake(int i) {
    here->fibers[(size_t)i].st = RUNNING;
    here->ready.push_back(i);
}

void release_barrier(int id) {
    for (int i = 0; i < here->n; i++) {
        fiber *f = &here->fibers[(size_t)i];
        if (f->st == WAITING && f->where == (const char *)&here->bars[id]) wake(i);
    }
    here->bars[id].arrived = 0;
}

/* Threads that have ended do not hold up the whole block's barrier. */
void check_barriers(void) {
    for (int id = 0; id < 16; id++) {
        barrier *b = &here->bars[id];
        int wanted = b->wanted ? b->wanted : here->live;
        if (b->arrived && b->arrived >= wanted) release_barrier(id);
    }
}

void fiber_main(void) {
    (*here->body)();
    block *b = here;
    fiber *f = &b->fibers[(size_t)b->current];
    f->st = ENDED;
    b->live--;
    check_barriers();
    pare_emu_switch(&f->sp, b->sp);
    abort();
}

char *stack_new(void) { /* lowest page unusable */
    void *p = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED || mprotect(p, 4096, PROT_NONE) != 0) {
        fprintf(stderr, "emulator: no memory for stacks\n");
        abort();
    }
    return (char *)p;
}

void prepare(block *b, dim3 grid, dim3 dim, uint3 bid, size_t dynamic) {
    b->n = b->live = (int)(dim.x * dim.y * dim.z);
    while ((int)b->fibers.size() < b->n) {
        b->fibers.emplace_back();
        b->fibers.back().stack = stack_new();
    }
    if (!b->shared) b->shared = (char *)aligned_alloc(1024, SHARED_MAX + (64u << 10));
    b->ready.clear(), b->waits.clear(), b->pieces.clear();
    b->redraw = 0;
    memset(b->bars, 0, sizeof b->bars);
    memset(b->shared + 1024 - GUARD_BYTES, POISON, dynamic + 2 * GUARD_BYTES);
    b->dynamic_bytes = dynamic;
    b->used = 1024 + (dynamic + GUARD_BYTES + 1023) / 1024 * 1024;
    b->error[0] = 0;
    for (int i = 0; i < b->n; i++) {
        fiber *f = &b->fibers[(size_t)i];
        unsigned u = (unsigned)i;
        f->place = emu_place{{u % dim.x, u / dim.x % dim.y, u / dim.x / dim.y}, bid, dim, grid, u, 0};
        f->async[0] = f->async[1] = queue{};
        void **top =
            (void **)(f->stack + STACK_BYTES) - 3; /* the stack at a function's first instruction is 8 past 16 */
        *top-- = NULL;
        *top = (void *)fiber_main;
        f->sp = top - 6;
        memset(f->sp, 0, 6 * sizeof(void *));
        f->st = RUNNING;
        b->ready.push_back(i);
    }
}

bool intact(const char *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)p[i] != POISON) return false;
    return true;
}

void check_shared(block *b) {
    bool ok =
        intact(b->shared + 1024 - GUARD_BYTES, GUARD_BYTES) && intact(b->shared + 1024 + b->dynamic_bytes, GUARD_BYTES);
    for (const block::piece &p : b->pieces) ok = ok && intact(p.p + p.bytes, GUARD_BYTES);
    if (!ok) snprintf(b->error, sizeof b->error, "a write past the end of shared memory");
}

/* A thread that may go on, by chance. Fair dice would keep warps together, so that a missing barrier between distant
 * places never shows: for a while some warps, or some lanes of all warps, are made late. */
int pick(block *b) {
    if (b->redraw-- <= 0) {
        uint64_t r = next_random(&b->rng), s = next_random(&b->rng);
        b->late_warps = r & 1 ? (uint32_t)s : r & 2 ? 1u << (s & 31) % ((unsigned)(b->n + 31) / 32) : 0;
        b->late_lanes = r & 4 && !(r & 8) ? (uint32_t)(s >> 32) : 0;
        b->redraw = (int)(r >> 8 & 31) * b->n + 1;
    }
    size_t k = 0;
    for (int tries = 0; tries < 12; tries++) {
        k = next_random(&b->rng) % b->ready.size();
        int i = b->ready[k];
        if (!(b->late_warps >> i / 32 & 1) && !(b->late_lanes >> i % 32 & 1)) break;
    }
    int i = b->ready[k];
    b->ready[k] = b->ready.back();
    b->ready.pop_back();
    return i;
}

void run_block(block *b, const std::function<void()> *body) {
    here = b;
    b->body = body;
    while (!b->ready.empty() && !b->error[0]) {
        b->current = pick(b);
        emu_here = &b->fibers[(size_t)b->current].place;
        pare_emu_switch(&b->sp, b->fibers[(size_t)b->current].sp);
    }
    if (!b->error[0] && b->live) {
        int stuck = 0;
        while (b->fibers[(size_t)stuck].st != WAITING) stuck++;
        const char *w = b->fibers[(size_t)stuck].where;
        bool bar = w >= (const char *)b->bars && w < (const char *)(b->bars + 16);
        snprintf(b->error, sizeof b->error, "%d of %d threads wait for ever, thread %d at %s", b->live, b->n, stuck,
                 bar ? "a barrier that not all reach" : w);
    }
    if (!b->error[0]) check_shared(b);
}

std::mutex lock;
char first_error[512];
uint64_t launches;

uint64_t seed(void) {
    static const uint64_t s = getenv("PARE_EMU_SEED") ? strtoull(getenv("PARE_EMU_SEED"), NULL, 0) : 1;
    return s;
}

void launch_now(const char *name, dim3 grid, dim3 dim, size_t dynamic, const std::function<void()> &body) {
    long n = (long)grid.x * grid.y * grid.z;
    if (!n || dim.x * dim.y * dim.z == 0 || dim.x * dim.y * dim.z > 1024 || dynamic > 227u << 10 || grid.y > 65535 ||
        grid.z > 65535) {
        snprintf(first_error, sizeof first_error,
                 "%s: launch of %ld blocks of %u threads with %zu bytes is not possible", name, n,
                 dim.x * dim.y * dim.z, dynamic);
        return;
    }
    uint64_t base = seed() * 0x2545F4914F6CDD1Dull + ++launches * 0x9E3779B97F4A7C15ull;
#pragma omp parallel for schedule(dynamic, 1) if (n > 1)
    for (long i = 0; i < n; i++) {
        static thread_local block b;
        if (first_error[0]) continue;
        unsigned u = (unsigned)i;
        prepare(&b, grid, dim, uint3{u % grid.x, u / grid.x % grid.y, u / grid.x / grid.y}, dynamic);
        b.rng = base ^ (uint64_t)i * 0xD1B54A32D192ED03ull;
        run_block(&b, &body);
        if (!b.error[0]) continue;
        std::lock_guard<std::mutex> g(lock);
        if (!first_error[0])
            snprintf(first_error, sizeof first_error, "%s: %s (block %ld, PARE_EMU_SEED=%llu)", name, b.error, i,
                     (unsigned long long)seed());
    }
}

} // namespace

void emu_fail(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(here->error, sizeof here->error, fmt, ap);
    va_end(ap);
    void *unused;
    pare_emu_switch(&unused, here->sp);
    abort();
}

bool emu_coin(void) { return next_random(&here->rng) & 1; }
void *emu_dynamic_shared(void) { return here->shared + 1024; }

void *emu_static_shared(const void *key, size_t bytes) {
    for (const block::piece &p : here->pieces)
        if (p.key == key) return p.p;
    size_t room = (bytes + GUARD_BYTES + 127) / 128 * 128;
    if (here->used + room > SHARED_MAX + (64u << 10) || bytes > 48u << 10)
        emu_fail("%zu bytes of static shared memory", bytes);
    memset(here->shared + here->used, POISON, room);
    here->pieces.push_back({key, here->shared + here->used, bytes});
    here->used += room;
    return here->pieces.back().p;
}

void emu_barrier(int id, int threads) {
    barrier *b = &here->bars[id];
    b->wanted = threads;
    b->arrived++;
    int wanted = threads ? threads : here->live;
    if (b->arrived < wanted) {
        yield_fiber((const char *)b);
        return;
    }
    release_barrier(id);
    wake(here->current); /* the last one goes on at a random time, too */
    fiber *f = &here->fibers[(size_t)here->current];
    pare_emu_switch(&f->sp, here->sp);
}

void emu_collect(int lanes, uint32_t mask, const char *kind, const void *in, void *out, void (*fn)(emu_lanes *v)) {
    int first = here->current / lanes * lanes, lane = here->current - first;
    if (lanes == 32 && !(mask >> lane & 1)) emu_fail("%s by lane %d, which is not in the mask 0x%x", kind, lane, mask);
    size_t k = 0;
    while (k < here->waits.size() &&
           (here->waits[k].first != first || here->waits[k].kind != kind || here->waits[k].fn != fn ||
            here->waits[k].mask != mask || here->waits[k].v.out[lane] || here->waits[k].v.in[lane]))
        k++;
    if (k == here->waits.size()) {
        pending p = {};
        p.kind = kind, p.first = first, p.lanes = lanes, p.mask = mask, p.fn = fn;
        p.v.n = lanes;
        p.wanted = lanes == 32 ? __builtin_popcount(mask) : lanes;
        here->waits.push_back(p);
    }
    pending *p = &here->waits[k];
    p->v.in[lane] = in, p->v.out[lane] = out;
    if (++p->arrived < p->wanted) {
        yield_fiber(kind);
        return;
    }
    emu_lanes v = p->v;
    here->waits.erase(here->waits.begin() + (long)k);
    fn(&v);
    for (int i = 0; i < lanes; i++)
        if (v.in[i] && first + i != here->current) wake(first + i);
}

/* ---- asynchronous work ---- */

void emu_async(std::function<void()> work, int q) {
    queue *a = &here->fibers[(size_t)here->current].async[q];
    if (!emu_coin()) {
        a->open.work.push_back(std::move(work));
        return;
    }
    if (q == 1) { /* what was issued before comes first; the groups stay, empty */
        for (group &g : a->groups) {
            for (auto &w : g.work) w();
            g.work.clear();
        }
        for (auto &w : a->open.work) w();
        a->open.work.clear();
    }
    work();
}
void emu_async_commit(int q) {
    queue *a = &here->fibers[(size_t)here->current].async[q];
    a->groups.push_back(std::move(a->open));
    a->open = group{};
}
void emu_async_wait(int q, int left) {
    queue *a = &here->fibers[(size_t)here->current].async[q];
    while ((int)a->groups.size() > left) {
        for (auto &w : a->groups.front().work) w();
        a->groups.erase(a->groups.begin());
    }
}

/* ---- launches, at once or recorded ---- */

typedef std::vector<std::function<void()>> recording;
static recording *recording_now;

void emu_launch(const char *name, dim3 grid, dim3 block_dim, size_t shared_bytes, std::function<void()> body) {
    auto go = [=] { launch_now(name, grid, block_dim, shared_bytes, body); };
    if (recording_now) recording_now->push_back(go);
    else go();
}

/* ---- cuda/rt.cuh ---- */

const char *rt_describe(int i, char *why, size_t why_bytes) {
    return i == 0 ? "GPU emulated on the host, for tests" : NULL;
}
bool rt_open(rt_device *dev, char *why, size_t why_bytes) {
    const char *arch = getenv("PARE_EMU_ARCH");
    int n = arch ? atoi(arch) : 90;
    *dev = rt_device{n, 4, (n < 80 ? 64u : n == 80 ? 163u : n < 90 ? 99u : 227u) << 10, NULL, 0};
    return true;
}
void rt_close(rt_device *dev) {}
void rt_use(const rt_device *dev) {}

/* Guard bytes behind every allocation; a header keeps its size. */
void *rt_malloc(rt_device *dev, size_t bytes) {
    char *p = (char *)aligned_alloc(256, (bytes + 256 + GUARD_BYTES + 255) / 256 * 256);
    if (!p) return NULL;
    memcpy(p, &bytes, sizeof bytes);
    memset(p + 256, POISON, bytes + GUARD_BYTES);
    return p + 256;
}
void rt_free(rt_device *dev, void *q) {
    char *p = (char *)q - 256;
    size_t bytes;
    memcpy(&bytes, p, sizeof bytes);
    if (!intact(p + 256 + bytes, GUARD_BYTES) && !first_error[0])
        snprintf(first_error, sizeof first_error, "a write past the end of an allocation of %zu bytes", bytes);
    free(p);
}
bool rt_upload(rt_device *dev, void *dst, const void *src, size_t bytes) {
    memcpy(dst, src, bytes);
    return true;
}
bool rt_download(rt_device *dev, void *dst, const void *src, size_t bytes) {
    memcpy(dst, src, bytes);
    return !first_error[0];
}
bool rt_copy(rt_device *dev, void *dst, const void *src, size_t bytes) {
    auto go = [=] { memmove(dst, src, bytes); };
    if (recording_now) recording_now->push_back(go);
    else go();
    return true;
}
bool rt_zero(rt_device *dev, void *dst, size_t bytes) {
    auto go = [=] { memset(dst, 0, bytes); };
    if (recording_now) recording_now->push_back(go);
    else go();
    return true;
}
bool rt_sync(rt_device *dev, char *why, size_t why_bytes) {
    std::lock_guard<std::mutex> g(lock);
    if (!first_error[0]) return true;
    snprintf(why, why_bytes, "%s", first_error);
    first_error[0] = 0;
    return false;
}
bool rt_check(rt_device *dev, char *why, size_t why_bytes) {
    return first_error[0] ? rt_sync(dev, why, why_bytes) : true;
}
void rt_memory(rt_device *dev, size_t *free_bytes, size_t *total_bytes) {
    *free_bytes = *total_bytes = (size_t)8 << 30;
}
bool rt_record_begin(rt_device *dev) {
    recording_now = new recording;
    return true;
}
bool rt_recording(rt_device *dev) { return recording_now != NULL; }
void *rt_record_end(rt_device *dev) {
    recording *r = recording_now;
    recording_now = NULL;
    return r;
}
bool rt_replay(rt_device *dev, void *rec) {
    for (auto &go : *(recording *)rec) go();
    return true;
}
void rt_recording_free(rt_device *dev, void *rec) { delete (recording *)rec; }

static std::chrono::steady_clock::time_point timer;
bool rt_time_start(rt_device *dev) {
    timer = std::chrono::steady_clock::now();
    return true;
}
double rt_time_stop(rt_device *dev) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - timer).count();
}
