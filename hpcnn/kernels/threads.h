/* Threads that a kernel's tasks are dealt to. No bit depends on their number. */
#ifndef HPCNN_THREADS_H
#define HPCNN_THREADS_H

#include "operations.h"

struct job {
    kernel_t run;
    const void *operation;
    index_t tasks;
    index_t unit; /* ranges begin at multiples of it */
    size_t scratch;
};

/* How many threads work from now on, the calling one included. Returns 0 if there is no memory or no thread. */
int set_threads(int threads);
int thread_count(void);
/* Do a job on the calling thread alone, or on all. Returns 0 if there is no memory for scratch. */
int do_alone(const struct job *job);
int do_together(const struct job *job);
/* IEEE 754's own way in this thread: to nearest, with gradual underflow. Returns what `leave` restores. */
uint64_t enter_ieee(void);
void leave_ieee(uint64_t before);

#endif
