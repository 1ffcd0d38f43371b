/* Threads, memory and time of POSIX and of Windows, and what processors have under different names. */

#ifndef CODEGEN_SYSTEM_H
#define CODEGEN_SYSTEM_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "export.h"

/* Spend a moment in a loop that waits. */
#if defined(__x86_64__)
#define PAUSE() __builtin_ia32_pause()
#else
#define PAUSE() __asm__ volatile("isb" ::: "memory") /* `yield` returns at once on most cores */
#endif

#define CACHE_LINE 64

#ifdef _WIN32

#define WIN32_LEAN_AND_MEAN
#include <malloc.h>
#include <windows.h>

typedef HANDLE Thread;
typedef SRWLOCK Mutex;
typedef CONDITION_VARIABLE Condition;
#define THREAD_FUNCTION(name, argument) static DWORD WINAPI name(void *argument)

static int start_thread(Thread *thread, LPTHREAD_START_ROUTINE function, void *argument) {
    *thread = CreateThread(NULL, 0, function, argument, 0, NULL);
    return *thread != NULL;
}
static void join_thread(Thread thread) {
    WaitForSingleObject(thread, INFINITE);
    CloseHandle(thread);
}
static void init_lock(Mutex *mutex, Condition *condition) {
    InitializeSRWLock(mutex);
    InitializeConditionVariable(condition);
}
static void destroy_lock(Mutex *mutex, Condition *condition) { (void)mutex, (void)condition; }
static void lock(Mutex *mutex) { AcquireSRWLockExclusive(mutex); }
static void unlock(Mutex *mutex) { ReleaseSRWLockExclusive(mutex); }
static void await(Condition *condition, Mutex *mutex) { SleepConditionVariableSRW(condition, mutex, INFINITE, 0); }
static void wake_all(Condition *condition) { WakeAllConditionVariable(condition); }

static void *allocate_aligned(size_t bytes) { return _aligned_malloc(bytes, CACHE_LINE); }
static void release(void *memory) { _aligned_free(memory); }

static int64_t nanoseconds(void) {
    LARGE_INTEGER now, rate;
    QueryPerformanceCounter(&now);
    QueryPerformanceFrequency(&rate);
    return (int64_t)((double)now.QuadPart * 1e9 / (double)rate.QuadPart);
}

#else

#include <pthread.h>
#include <time.h>

typedef pthread_t Thread;
typedef pthread_mutex_t Mutex;
typedef pthread_cond_t Condition;
#define THREAD_FUNCTION(name, argument) static void *name(void *argument)

static int start_thread(Thread *thread, void *(*function)(void *), void *argument) {
    return pthread_create(thread, NULL, function, argument) == 0;
}
static void join_thread(Thread thread) { pthread_join(thread, NULL); }
static void init_lock(Mutex *mutex, Condition *condition) {
    pthread_mutex_init(mutex, NULL);
    pthread_cond_init(condition, NULL);
}
static void destroy_lock(Mutex *mutex, Condition *condition) {
    pthread_mutex_destroy(mutex);
    pthread_cond_destroy(condition);
}
static void lock(Mutex *mutex) { pthread_mutex_lock(mutex); }
static void unlock(Mutex *mutex) { pthread_mutex_unlock(mutex); }
static void await(Condition *condition, Mutex *mutex) { pthread_cond_wait(condition, mutex); }
static void wake_all(Condition *condition) { pthread_cond_broadcast(condition); }

static void *allocate_aligned(size_t bytes) {
    void *memory = NULL;
    return posix_memalign(&memory, CACHE_LINE, bytes) ? NULL : memory;
}
static void release(void *memory) { free(memory); }

static int64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

#endif

/* Zeroed memory, aligned to a cache line, with a cache line more that may be read; NULL when there is not enough. */
static void *allocate_zeroed(size_t bytes) {
    void *memory = allocate_aligned(bytes + CACHE_LINE);
    return memory ? memset(memory, 0, bytes + CACHE_LINE) : NULL;
}

#endif
