/* Carriers: the OS threads that run virtual threads, and the pool's life in the process.
 *
 * A carrier has a thread state of its own, as every OS thread has that touches Python: it
 * holds the heaps, the free lists, the reference-count queue and the attach state that the
 * stop-the-world protocol looks at.  It runs no Python code on it and takes no lock with it
 * that a virtual thread can hold; it would wait for a thread that needs a carrier.  What an
 * OS thread has to do between virtual threads (merge the reference counts of objects that
 * others have dropped) is done by a virtual thread that can run on this carrier only.
 *
 * Nothing is allocated and no OS thread exists before the first virtual thread.
 */

#ifndef _GNU_SOURCE
#  define _GNU_SOURCE 1
#endif
#include <sched.h>                  // sched_getaffinity()
#include <signal.h>                 // pthread_sigmask()
#include "Python.h"
#include "pycore_brc.h"
#include "pycore_ceval.h"
#include "pycore_gc.h"              // _PyGC_ImmortalizeDeferredObjects()
#include "pycore_initconfig.h"
#include "pycore_lock.h"
#include "pycore_pyerrors.h"        // _PyErr_FormatFromCause()
#include "pycore_pylifecycle.h"
#include "pycore_pystate.h"
#include "pycore_runtime.h"
#include "pycore_vthread_state.h"
#include "pycore_vthread_life.h"
#include "pycore_vthread_text.h"

// As the JDK's default; an OS thread that blocks costs memory, not time.
#define DEFAULT_MAX_CARRIERS 256

// How long the end of the process waits for carriers that are in the middle of something.
// Those that block in the kernel are left behind, as daemon threads are.
#define STOP_TIMEOUT_NS (200 * 1000 * 1000)

#ifdef CONT_HARD
// The hard build is nasty by default: each fourth thread that wakes moves, queues are tiny,
// wake-ups are spurious.  PYTHON_VIRTUAL_THREADS_CHAOS is another seed, or 0: not at all.
// With PYTHON_VIRTUAL_THREADS_MOVE all of them move, in any build.
#  define DEFAULT_CHAOS "1"
#endif

static struct {
    PyMutex mutex;                  // serialises starting and configuring
    int started;                    // atomic
    int closed;                     // atomic; no thread can be started any more
    bool all_virtual;               // set at start-up
    int parallelism;                // under mutex; 0: not configured, and not started
    int max_carriers;               // under mutex; 0: not configured
    PyInterpreterState *interp;
    sigset_t signals;               // the mask of the thread that started it
    unsigned long main;             // the thread that will finalize the process
    bool leaves;                    // in a child that another thread has forked
    int threads;                    // atomic, if it leaves: spawned, or LEFT
} pool;

// --- The pool of a child that ends by itself --------------------------------------------------
//
// A child that was not forked in the main thread finalizes nothing.  On stock it ends when its
// last OS thread does, daemons included, with status 0: that is libc's doing.  Carriers would
// stay for ever.  So there the pool is vacated whenever the last virtual thread has ended, and
// reopened for the next one; what it is that ends last needs no case of its own.
//
//      threads     n -> n + 1      enter: a thread is about to be spawned
//                  n -> n - 1      leave: it has ended
//                  0 -> LEFT       leave, by whoever has made it 0; who then vacates the pool
//                  LEFT -> 1       reenter, when the pool is open again
//
// Housekeepers count: one that is mounted then could hang, as at a stop, and its OS thread too.

#define LEFT (-1)

// Keeps the pool up until leave(); false if it has left.
static bool
enter(void)
{
    if (!pool.leaves) {
        return true;
    }
    int n = _Py_atomic_load_int(&pool.threads);
    while (n != LEFT) {
        if (_Py_atomic_compare_exchange_int(&pool.threads, &n, n + 1)) {
            return true;
        }
    }
    return false;
}

// The mutex is held.  Brings the pool back if it has left; detached, as carriers attach once
// more before they end.
static void
reenter(void)
{
    if (!enter()) {
        Py_BEGIN_ALLOW_THREADS
        cpool_reopen();
        Py_END_ALLOW_THREADS
        _Py_atomic_store_int(&pool.threads, 1);
    }
}

// On a carrier, for which who reopens the pool waits, or under the mutex: else the pool could be
// open again when it is vacated here.
static void
leave(void)
{
    int none = 0;
    if (pool.leaves && _Py_atomic_add_int(&pool.threads, -1) == 1
        && _Py_atomic_compare_exchange_int(&pool.threads, &none, LEFT))
    {
        cpool_vacate();
    }
}

// --- Housekeeping -----------------------------------------------------------------------------

static void housekeep(void *arg);

// Makes the thread that will keep house next on this OS thread, attached: a detached carrier
// would not wait for a walk of the threads, which may look at the struct's last one.
static void
make_housekeeper(_PyOSThreadState *os)
{
    struct _PyVThread *vt = _PyVThread_Alloc();
    if (vt != NULL) {
        _PyVThread_Prepare(vt, pool.interp);
        vt->hidden = true;
        vt->task.flags |= CPOOL_TASK_STICKY;
        vt->run = housekeep;
        vt->run_arg = &vt->ts.base;
    }
    os->housekeeper = vt;
}

static void
housekeep(void *arg)
{
    PyThreadState *tstate = arg;
    PyEval_AcquireThread(tstate);
    // It was in no list when the limit was set.
    int limit = pool.interp->ceval.recursion_limit;
    tstate->py_recursion_remaining += limit - tstate->py_recursion_limit;
    tstate->py_recursion_limit = limit;
    make_housekeeper(_Py_OS(tstate));
    _Py_unset_eval_breaker_bit(tstate, _PY_EVAL_EXPLICIT_MERGE_BIT);
    _Py_brc_merge_refcounts(tstate);
    PyThreadState_Clear(tstate);
    _PyThreadState_DeleteCurrent(tstate);
}

static int
idle(struct cpool_carrier *c)
{
    _PyOSThreadState *os = cpool_carrier_get_data(c);
    uintptr_t breaker = _Py_atomic_load_uintptr_relaxed(&os->own->eval_breaker);
    struct _PyVThread *vt = os->housekeeper;
    if (!(breaker & _PY_EVAL_EXPLICIT_MERGE_BIT) || vt == NULL) {
        return 0;                   // without a thread the next collection merges
    }
    if (!enter()) {
        return 0;
    }
    os->housekeeper = NULL;
    _PyVThread_Publish(vt);
    if (cpool_spawn(&vt->task) < 0) {
        _PyVThread_Free(vt);
        leave();
        return 0;
    }
    return 1;
}

// --- What the pool calls ------------------------------------------------------------------------

static int
carrier_begin(struct cpool_carrier *c)
{
    if (_PyRuntimeState_GetFinalizing(&_PyRuntime) != NULL) {
        return -ECANCELED;
    }
    PyThreadState *own = _PyThreadState_New(pool.interp,
                                            _PyThreadState_WHENCE_THREADING);
    if (own == NULL) {
        return -ENOMEM;
    }
    _PyThreadState_Bind(own);
    // Attaching once makes it the GILState API's idea of this OS thread.
    PyEval_AcquireThread(own);
    make_housekeeper(_Py_OS(own));
    PyEval_ReleaseThread(own);
    _Py_OS(own)->carrier = c;
    cpool_carrier_set_data(c, _Py_OS(own));
    return 0;
}

static void
carrier_end(struct cpool_carrier *c)
{
    _PyOSThreadState *os = cpool_carrier_get_data(c);
    PyThreadState *own = os->own;
    // At the end of the process the states of all other threads are the main thread's.
    if (_PyThreadState_MustExit(own)) {
        return;
    }
    PyEval_AcquireThread(own);
    if (os->housekeeper != NULL) {
        _PyVThread_Free(os->housekeeper);
    }
    PyThreadState_Clear(own);
    _PyThreadState_DeleteCurrent(own);
}

static void
finished(struct cpool_carrier *c, struct cpool_task *t)
{
    _PyVThread_Free(_PyVThread_FromTask(t));
    leave();
}

static void
preempt(struct cpool_carrier *c, struct cpool_task *t)
{
    struct _PyVThread *vt = _PyVThread_FromTask(t);
    _Py_set_eval_breaker_bit(&vt->ts.base, _PY_VTHREAD_YIELD_BIT);
}

// What is mounted sees the bit at its next check, as on any OS thread; without it nobody
// would, for as long as the carrier sleeps.
void
_PyCarrier_MergeQueued(_PyOSThreadState *os)
{
    // Partner: _PyOSThread_Mount(), which looks at the bits after it has stored this.
    if (_Py_atomic_load_ptr(&os->mounted) == NULL) {
        cpool_carrier_attend(os->carrier);
    }
}

static const struct cpool_host host = {
    .carrier_begin = carrier_begin,
    .carrier_end = carrier_end,
    .mount = _PyVThread_Mount,
    .unmount = _PyVThread_Unmount,
    .run = _PyVThread_RunTask,
    .finished = finished,
    .preempt = preempt,
    .idle = idle,
    .overdue = _PyVThread_Overdue,
};

// --- Configuration -----------------------------------------------------------------------------

// CPUs that this process may use: its affinity, and no more than the cgroup's quota.
static int
available_cpus(PyInterpreterState *interp)
{
    if (interp->config.cpu_count > 0) {
        return interp->config.cpu_count;
    }
    int n = 1;
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) == 0) {
        n = CPU_COUNT(&set);
    }
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (f != NULL) {
        long long quota, period;
        if (fscanf(f, "%lld %lld", &quota, &period) == 2 && quota > 0 && period > 0) {
            long long cpus = (quota + period - 1) / period;
            n = (int)Py_MIN((long long)n, cpus);
        }
        fclose(f);
    }
    return Py_MAX(n, 1);
}

static int
effective_parallelism(PyInterpreterState *interp)
{
    int n = pool.parallelism > 0 ? pool.parallelism : available_cpus(interp);
    return Py_MIN(n, CPOOL_MAX_SLOTS);
}

static int
effective_max_carriers(int parallelism)
{
    int n = pool.max_carriers > 0 ? pool.max_carriers : DEFAULT_MAX_CARRIERS;
    return Py_MAX(n, parallelism);
}

void
_PyCarrier_GetConfig(int *all_virtual, int *parallelism, int *max_carriers)
{
    PyMutex_Lock(&pool.mutex);
    PyInterpreterState *interp = _PyInterpreterState_GET();
    *all_virtual = pool.all_virtual && _Py_IsMainInterpreter(interp);
    *parallelism = effective_parallelism(interp);
    *max_carriers = effective_max_carriers(*parallelism);
    PyMutex_Unlock(&pool.mutex);
}

int
_PyCarrier_Configure(int parallelism, int max_carriers)
{
    PyInterpreterState *interp = _PyInterpreterState_GET();
    int res = 0;
    PyMutex_Lock(&pool.mutex);
    int p = parallelism > 0 ? parallelism : effective_parallelism(interp);
    int m = max_carriers > 0 ? max_carriers : effective_max_carriers(p);
    if (p > CPOOL_MAX_SLOTS) {
        PyErr_Format(PyExc_ValueError, "parallelism must be between 1 and %d, not %d",
                     CPOOL_MAX_SLOTS, p);
        res = -1;
    }
    else if (m < p) {
        PyErr_Format(PyExc_ValueError,
                     "max_carriers (%d) must not be less than parallelism (%d)", m, p);
        res = -1;
    }
    else {
        if (pool.started) {
            // Both: the default of max_carriers goes with parallelism.
            reenter();
            int err = cpool_configure(p, m);
            leave();
            if (err < 0) {
                errno = -err;
                PyErr_SetFromErrno(PyExc_OSError);
                res = -1;
            }
        }
        if (res == 0 && parallelism > 0) {
            pool.parallelism = parallelism;
        }
        if (res == 0 && max_carriers > 0) {
            pool.max_carriers = max_carriers;
        }
    }
    PyMutex_Unlock(&pool.mutex);
    return res;
}

static int
parse_parallelism(const wchar_t *s)
{
    wchar_t *end;
    if (*s < L'0' || *s > L'9') {
        return -1;
    }
    long n = wcstol(s, &end, 10);
    return *end != L'\0' || n > CPOOL_MAX_SLOTS ? -1 : (int)n;
}

PyStatus
_PyVThread_Init(PyInterpreterState *interp)
{
    pool.closed = 0;
    if (_Py_IsMainInterpreter(interp)) {
        pool.main = PyThread_get_thread_ident();
    }
    const PyConfig *config = _PyInterpreterState_GetConfig(interp);
    // The environment first, so that the command line wins.
    const char *env = config->use_environment ? getenv("PYTHON_VIRTUAL_THREADS") : NULL;
    if (env != NULL && *env != '\0') {
        wchar_t *w = Py_DecodeLocale(env, NULL);
        int n = w == NULL ? -1 : parse_parallelism(w);
        PyMem_RawFree(w);
        if (n < 0) {
            return _PyStatus_ERR(
                "PYTHON_VIRTUAL_THREADS: 0 (off), 1 (on) or the number of carriers, "
                "2 to 1024, is expected");
        }
        pool.all_virtual = n > 0;
        pool.parallelism = n > 1 ? n : 0;
    }
    static const wchar_t name[] = L"virtual_threads";
    const size_t len = Py_ARRAY_LENGTH(name) - 1;
    for (Py_ssize_t i = 0; i < config->xoptions.length; i++) {
        const wchar_t *option = config->xoptions.items[i];
        if (wcscmp(option, L"virtual_threads_trace_pins") == 0) {
            _PyVThread_TracePins();
        }
        if (wcsncmp(option, name, len) != 0) {
            continue;
        }
        if (option[len] == L'\0') {
            pool.all_virtual = true;
            pool.parallelism = 0;
        }
        else if (option[len] == L'=') {
            int n = parse_parallelism(option + len + 1);
            if (n < 0) {
                return _PyStatus_ERR(
                    "-X virtual_threads=N: N must be 0 (off) or the number of carriers, "
                    "1 to 1024");
            }
            pool.all_virtual = n > 0;
            pool.parallelism = n;
        }
    }
    return _PyStatus_OK();
}

// --- Life -----------------------------------------------------------------------------------

static int
start_pool(PyInterpreterState *interp)
{
    // The first thread beside the main one makes some objects immortal, which stops the
    // world; a carrier is no place for that.
    if (_Py_atomic_load_int(&interp->gc.immortalize) == 0) {
        _PyGC_ImmortalizeDeferredObjects(interp);
    }
    _PyVThread_TextInit();
    pool.interp = interp;
    pthread_sigmask(SIG_SETMASK, NULL, &pool.signals);
    int parallelism = effective_parallelism(interp);
    const char *seed = interp->config.use_environment
                       ? getenv("PYTHON_VIRTUAL_THREADS_CHAOS") : NULL;
#ifdef CONT_HARD
    seed = seed != NULL ? seed : DEFAULT_CHAOS;
#endif
    const char *move = interp->config.use_environment
                       ? getenv("PYTHON_VIRTUAL_THREADS_MOVE") : NULL;
    struct cpool_config config = {
        .parallelism = parallelism,
        .max_carriers = effective_max_carriers(parallelism),
        .always_move = move != NULL && move[0] != '\0',
        .chaos_seed = seed != NULL ? (unsigned)strtoul(seed, NULL, 10) : 0,
    };
    int res = cpool_start(&host, &config);
    if (res < 0) {
        // What threading raises when the system refuses a thread, and what it has refused.
        errno = -res;
        PyErr_SetFromErrno(PyExc_OSError);
        _PyErr_FormatFromCause(PyExc_RuntimeError, "can't start new thread");
        return -1;
    }
    // From here on it does not follow the affinity mask.
    pool.parallelism = parallelism;
    _Py_atomic_store_int_release(&pool.started, 1);
    return 0;
}

int
_PyCarrier_EnsurePool(PyInterpreterState *interp)
{
    if (!_Py_IsMainInterpreter(interp)) {
        PyErr_SetString(PyExc_RuntimeError,
                        "virtual threads are not supported in subinterpreters");
        return -1;
    }
    if (_Py_atomic_load_int_relaxed(&pool.closed)) {
        PyErr_SetString(PyExc_PythonFinalizationError,
                        "can't create new thread at interpreter shutdown");
        return -1;
    }
    if (_Py_atomic_load_int_acquire(&pool.started)) {
        return 0;
    }
    int res = 0;
    PyMutex_Lock(&pool.mutex);
    if (!pool.started) {
        res = start_pool(interp);
    }
    PyMutex_Unlock(&pool.mutex);
    return res;
}

int
_PyCarrier_Spawn(struct _PyVThread *vt)
{
    if (!enter()) {
        PyMutex_Lock(&pool.mutex);
        reenter();
        PyMutex_Unlock(&pool.mutex);
    }
    if (cpool_spawn(&vt->task) == 0) {
        return 0;
    }
    PyMutex_Lock(&pool.mutex);
    leave();
    PyMutex_Unlock(&pool.mutex);
    // As threading says it when the OS has no thread to give.
    PyErr_SetString(PyExc_RuntimeError, "can't start new thread");
    return -1;
}

// A thread that is started from now on, by an atexit function or a daemon, might never run:
// nobody waits for it.
void
_PyVThread_Close(PyInterpreterState *interp)
{
    if (_Py_IsMainInterpreter(interp)) {
        _Py_atomic_store_int(&pool.closed, 1);
    }
}

// After this no virtual thread runs.  Those that are parked never run again; what they hold
// is left to the end of the process, as with daemon threads.
void
_PyVThread_Finalize(PyInterpreterState *interp)
{
    if (!pool.started || !_Py_IsMainInterpreter(interp)) {
        return;
    }
    Py_BEGIN_ALLOW_THREADS
    (void)cpool_stop(cpool_now() + STOP_TIMEOUT_NS);
    Py_END_ALLOW_THREADS
}

// --- Signals ----------------------------------------------------------------------------------

// Is this the carrier on which a virtual thread has forked, in the child?  It has taken over
// the mask there, and what is done to that since is the program's wish.
static _Py_thread_local bool has_own_mask;

// Does this OS thread block all signals?  The pool is asked for the carrier, and not the thread
// state: that can be a subinterpreter's.
static bool
is_masked(void)
{
    return cpool_current_carrier() != NULL && !has_own_mask;
}

const sigset_t *
_PyVThread_ChildSignals(const sigset_t *mask)
{
    return is_masked() ? &pool.signals : mask;
}

void
_PyVThread_BeginInherit(sigset_t *saved)
{
    if (is_masked()) {
        pthread_sigmask(SIG_SETMASK, &pool.signals, saved);
    }
}

void
_PyVThread_EndInherit(const sigset_t *saved)
{
    if (is_masked()) {
        pthread_sigmask(SIG_SETMASK, saved, NULL);
    }
}

int
_PyVThread_Raise(int signum)
{
    return is_masked() ? kill(getpid(), signum) : raise(signum);
}

void
_PyVThread_AfterForkChild(PyThreadState *tstate)
{
    // The thread itself, where it has forked in a continuation that it runs.
    struct cpool_task *task = cpool_current();
    struct _PyVThread *survivor = task != NULL ? _PyVThread_FromTask(task) : NULL;
    pool.mutex = (PyMutex){0};
    _PyOSThread_Own(tstate)->native_thread_id = PyThread_get_thread_native_id();
    if (pool.started) {
        const sigset_t *mask = _PyVThread_ChildSignals(NULL);
        if (mask != NULL) {
            pthread_sigmask(SIG_SETMASK, mask, NULL);
            has_own_mask = true;
        }
        cpool_after_fork_child();
    }
    else {
        cont_after_fork_child();    // continuations need no pool
    }
    _PyVThread_SlabAfterFork(survivor);
    if (survivor != NULL) {
        // It is the child's main thread, for which signals are: one that comes ends the system
        // call in which an OS thread blocks, but wakes no parked thread.
        survivor->is_main = true;
    }
    pool.leaves = PyThread_get_thread_ident() != pool.main;
    if (pool.threads != LEFT) {
        pool.threads = survivor != NULL;
    }
}
