/* A wall clock that jumps, for one process: preloaded, it adds an offset to the time of day and leaves every monotonic
 * clock alone. The offset, in microseconds, is the first eight bytes of the file WALL_CLOCK_FILE; whoever writes there
 * moves the clock at once, as an operator or a broken NTP server would.
 *
 * A wait until a time of day sees the jump as it does in the kernel: it is looked at again every few milliseconds, and
 * a wait whose time has come ends. In between it may end early without a reason, which POSIX allows.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define SLICE_NS 20000000L
#define SECOND_NS 1000000000L

static _Atomic int64_t nothing;
static _Atomic int64_t *offset = &nothing;
static int (*real_gettime)(clockid_t, struct timespec *);
static int (*real_cond)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
static int (*real_clockwait)(pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *);
static int (*real_sem)(sem_t *, const struct timespec *);

__attribute__((constructor)) static void begin(void) {
  real_gettime = dlsym(RTLD_NEXT, "clock_gettime");
  real_cond = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
  if (!real_cond) real_cond = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
  real_clockwait = dlsym(RTLD_NEXT, "pthread_cond_clockwait");
  real_sem = dlsym(RTLD_NEXT, "sem_timedwait");
  const char *path = getenv("WALL_CLOCK_FILE");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (file < 0) return;
  void *page = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
  close(file);
  if (page != MAP_FAILED) offset = page;
}

static struct timespec moved(struct timespec at, int64_t ns) {
  int64_t rest = at.tv_nsec + ns % SECOND_NS;
  at.tv_sec += ns / SECOND_NS + rest / SECOND_NS;
  rest %= SECOND_NS;
  if (rest < 0) rest += SECOND_NS, at.tv_sec--;
  at.tv_nsec = rest;
  return at;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
  if (!real_gettime) begin(); /* another library's constructor asks before ours has run */
  int result = real_gettime(clock, at);
  if (!result && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) *at = moved(*at, *offset * 1000);
  return result;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
  (void)zone;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  at->tv_sec = now.tv_sec, at->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *at) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (at) *at = now.tv_sec;
  return now.tv_sec;
}

int timespec_get(struct timespec *at, int base) {
  return base == TIME_UTC && !clock_gettime(CLOCK_REALTIME, at) ? base : 0;
}

/* The real time until which to wait now; 1 where the time has come by the clock as it is moved at present. */
static int slice(const struct timespec *until, struct timespec *real) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  int64_t left = (int64_t)(until->tv_sec - now.tv_sec);
  left = left > 1 ? SECOND_NS : left < -1 ? -SECOND_NS : left * SECOND_NS + until->tv_nsec - now.tv_nsec;
  if (left <= 0) return 1;
  real_gettime(CLOCK_REALTIME, real);
  *real = moved(*real, left < SLICE_NS ? left : SLICE_NS);
  return 0;
}

int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
  if (cond->__data.__wrefs & 2) return real_cond(cond, mutex, until); /* its clock is monotonic */
  struct timespec real;
  if (slice(until, &real)) real_gettime(CLOCK_REALTIME, &real); /* still gives the mutex away for a moment */
  int result = real_cond(cond, mutex, &real);
  struct timespec rest;
  return result == ETIMEDOUT && !slice(until, &rest) ? 0 : result;
}

int pthread_cond_clockwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex, clockid_t clock,
                           const struct timespec *restrict until) {
  return clock == CLOCK_REALTIME ? pthread_cond_timedwait(cond, mutex, until)
                                 : real_clockwait(cond, mutex, clock, until);
}

/* The same wait by its name in C11, which glibc does not make through the one above. */
int cnd_timedwait(cnd_t *restrict cond, mtx_t *restrict mutex, const struct timespec *restrict until) {
  switch (pthread_cond_timedwait((pthread_cond_t *)cond, (pthread_mutex_t *)mutex, until)) {
    case 0: return thrd_success;
    case ETIMEDOUT: return thrd_timedout;
    default: return thrd_error;
  }
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until) {
  struct timespec real;
  while (!slice(until, &real)) {
    if (!real_sem(semaphore, &real)) return 0;
    if (errno != ETIMEDOUT) return -1;
  }
  errno = ETIMEDOUT;
  return -1;
}
