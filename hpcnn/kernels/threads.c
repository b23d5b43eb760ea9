#define _DEFAULT_SOURCE 1 /* for madvise */
#include "threads.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#define MOST_THREADS 256
#define HUGE_PAGE ((size_t)2 << 20)
#define SPINS 20000 /* some 20 us: about as long as a thread takes to wake up */

#if defined(__x86_64__)
uint64_t enter_ieee(void) {
    unsigned before = _mm_getcsr();
    if (before != 0x1f80) _mm_setcsr(0x1f80);
    return before;
}
void leave_ieee(uint64_t before) {
    if ((unsigned)before != 0x1f80) _mm_setcsr((unsigned)before);
}
static void pause_briefly(void) { _mm_pause(); }
#elif defined(__aarch64__)
uint64_t enter_ieee(void) {
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    if (before) __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0));
    return before;
}
void leave_ieee(uint64_t before) {
    if (before) __asm__ volatile("msr fpcr, %0" : : "r"(before));
}
static void pause_briefly(void) { __asm__ volatile("yield"); }
#else
uint64_t enter_ieee(void) { return 0; }
void leave_ieee(uint64_t before) { (void)before; }
static void pause_briefly(void) {}
#endif

/* ---------------------------------------------------------------------------------------------------------- scratch */

struct scratch {
    void *memory;
    size_t size;
};

static void *enough(struct scratch *scratch, size_t size) {
    if (size > scratch->size) {
        free(scratch->memory);
        const size_t page = size < HUGE_PAGE ? 4096 : HUGE_PAGE;
        size = (size + page - 1) & ~(page - 1);
        scratch->memory = NULL;
        if (posix_memalign(&scratch->memory, page, size)) scratch->memory = NULL;
#ifdef MADV_HUGEPAGE
        if (scratch->memory && page == HUGE_PAGE) madvise(scratch->memory, size, MADV_HUGEPAGE);
#endif
        scratch->size = scratch->memory ? size : 0;
    }
    return scratch->memory;
}

static _Thread_local struct scratch own;
static pthread_key_t at_exit_key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void free_scratch(void *scratch) {
    free(((struct scratch *)scratch)->memory);
    ((struct scratch *)scratch)->memory = NULL;
    ((struct scratch *)scratch)->size = 0;
}

/* ------------------------------------------------------------------------------------------------------------- pool */

static struct {
    pthread_mutex_t one_at_a_time; /* the caller that the threads work for */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    int threads; /* the calling one included */
    _Atomic unsigned round;
    _Atomic int working;
    _Atomic int failed;
    _Atomic int stop;
    const struct job *job;
    pthread_t handle[MOST_THREADS];
} pool = {.one_at_a_time = PTHREAD_MUTEX_INITIALIZER, .lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER, .threads = 1};

static int do_range(const struct job *job, index_t begin, index_t end) {
    if (begin >= end) return 1;
    void *scratch = NULL;
    if (job->scratch) {
        pthread_setspecific(at_exit_key, &own);
        if ((scratch = enough(&own, job->scratch)) == NULL) return 0;
    }
    job->run(job->operation, begin, end, scratch);
    return 1;
}

static int do_share(const struct job *job, int thread) {
    index_t units = (job->tasks + job->unit - 1) / job->unit;
    index_t begin = units * thread / pool.threads * job->unit;
    index_t end = units * (thread + 1) / pool.threads * job->unit;
    return do_range(job, begin, end < job->tasks ? end : job->tasks);
}

static void *work(void *argument) {
    int thread = (int)(intptr_t)argument;
    unsigned seen = 0;
    enter_ieee();
    for (;;) {
        for (int spin = 0; spin < SPINS && atomic_load(&pool.round) == seen; spin++) pause_briefly();
        if (atomic_load(&pool.round) == seen) {
            pthread_mutex_lock(&pool.lock);
            while (atomic_load(&pool.round) == seen) pthread_cond_wait(&pool.wake, &pool.lock);
            pthread_mutex_unlock(&pool.lock);
        }
        seen++;
        if (atomic_load(&pool.stop)) return NULL;
        if (!do_share(pool.job, thread)) atomic_store(&pool.failed, 1);
        atomic_fetch_sub(&pool.working, 1);
    }
}

static void begin_round(void) {
    pthread_mutex_lock(&pool.lock);
    atomic_fetch_add(&pool.round, 1);
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.lock);
}

static void forget_threads(void) { /* a forked child has none of them */
    pthread_mutex_init(&pool.one_at_a_time, NULL);
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.wake, NULL);
    pool.threads = 1;
    atomic_store(&pool.round, 0);
    atomic_store(&pool.working, 0);
    atomic_store(&pool.stop, 0);
}

static void prepare(void) {
    pthread_key_create(&at_exit_key, free_scratch);
    pthread_atfork(NULL, NULL, forget_threads);
}

static void stop_threads(void) {
    if (pool.threads == 1) return;
    atomic_store(&pool.stop, 1);
    begin_round();
    for (int thread = 1; thread < pool.threads; thread++) pthread_join(pool.handle[thread], NULL);
    atomic_store(&pool.stop, 0);
    atomic_store(&pool.round, 0);
    pool.threads = 1;
}

int set_threads(int threads) {
    int started = 1;
    pthread_once(&once, prepare);
    if (threads > MOST_THREADS) threads = MOST_THREADS;
    pthread_mutex_lock(&pool.one_at_a_time);
    if (threads != pool.threads) {
        stop_threads();
        while (started < threads && !pthread_create(&pool.handle[started], NULL, work, (void *)(intptr_t)started)) started++;
        pool.threads = started; /* they read it only in a round */
    }
    pthread_mutex_unlock(&pool.one_at_a_time);
    return pool.threads == threads;
}

int thread_count(void) { return pool.threads; }

int do_alone(const struct job *job) {
    pthread_once(&once, prepare);
    return do_range(job, 0, job->tasks);
}

int do_together(const struct job *job) {
    if (pool.threads == 1 || job->tasks <= job->unit || pthread_mutex_trylock(&pool.one_at_a_time)) return do_alone(job);
    if (pool.threads == 1) { /* changed meanwhile */
        pthread_mutex_unlock(&pool.one_at_a_time);
        return do_alone(job);
    }
    pool.job = job;
    atomic_store(&pool.failed, 0);
    atomic_store(&pool.working, pool.threads - 1);
    begin_round();
    int done = do_share(job, 0);
    for (int spin = 0; atomic_load(&pool.working); spin++) {
        if (spin < SPINS) pause_briefly();
        else sched_yield();
    }
    done &= !atomic_load(&pool.failed);
    pthread_mutex_unlock(&pool.one_at_a_time);
    return done;
}
