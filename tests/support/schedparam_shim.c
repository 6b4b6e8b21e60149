/* Galera sets its threads' scheduling, and does not start where that is forbidden, as in some containers. It goes on
   where the system has no such function. */
#include <errno.h>
#include <pthread.h>

int pthread_setschedparam(pthread_t thread, int policy, const struct sched_param *param)
{
    (void)thread;
    (void)policy;
    (void)param;
    return ENOSYS;
}
