// SPDX-License-Identifier: GPL-2.0
/*
 * Watches the rings and the queues of a tap that another process has open.
 * Requires tuntap_ring_test.ko.
 *
 * usage: ring watch PID DEVICE		watch queues and rings, until SIGTERM
 *        ring interrupt PID DEVICE	also interrupt the consumer, ten times
 *        ring stopped DEVICE QUEUE	wait until the queue is stopped
 *        ring is-stopped DEVICE QUEUE	check whether the queue is stopped
 *        ring quiet DEVICE		wait until no packet moves
 *        ring stop DEVICE QUEUE	stop the queue, as its driver would
 *        ring steer PID DEVICE		steer sender N of `flood` to queue N
 *        ring redirect DEVICE TO	redirect by XDP, until SIGTERM
 *
 * `watch`, `interrupt` and `redirect` print a line once they have started. The
 * first two print a line of JSON at their end: the number of checks and of
 * stopped queues seen, for how many milliseconds a queue was stalled, and its
 * ring; and for `interrupt` how often a consumer woke the first queue, how often
 * the ring was full then, and in how many interrupts of the consumer the
 * producer stopped the queue.
 *
 * A queue is stalled if it stays stopped beside an empty ring (that has slots,
 * while the link is up) although no task or interrupt is left that could wake
 * it. Time does not count: a consumer that is kept from the CPU wakes its queue
 * later. So several checks must see the same state, and in each check no other
 * task of the VM can run, and each CPU has completed its pending work. `watch`
 * ends with the first stall.
 *
 * `interrupt` simulates a hardware interrupt between freeing slots and the queue
 * check. It lasts until the producer has filled the ring and stopped the queue,
 * or for some milliseconds.
 *
 * Exit status: 1 if the command fails or the condition does not hold. A wait
 * fails after PATIENCE= seconds without progress.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "kselftest.h"
#include "util.h"

#define MOST_QUEUES	256

/* So many checks, while no other task of the VM runs, must see the same state. */
#define QUIET_CHECKS	20
#define PAUSE_US	2000

struct watched_queue {
	struct end end;
	uint64_t moved;
	uint64_t since;
	unsigned int quiet_checks;
};

/* These signals are blocked, and checked with is_ended(). */
static sigset_t end_signals;

static void end_by_signal(void)
{
	sigemptyset(&end_signals);
	sigaddset(&end_signals, SIGTERM);
	sigaddset(&end_signals, SIGINT);
	sigprocmask(SIG_BLOCK, &end_signals, NULL);
}

static bool is_ended(void)
{
	static const struct timespec now;

	return sigtimedwait(&end_signals, NULL, &now) > 0;
}

/* Whether descriptor FD of a process is a file of that device. */
static bool is_of_device(const char *pid, const char *fd, const char *device)
{
	char path[64], line[128], name[IFNAMSIZ];
	bool found = false;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%.16s/fdinfo/%.16s", pid, fd);
	file = fopen(path, "r");
	if (!file)
		return false;
	while (!found && fgets(line, sizeof(line), file))
		found = sscanf(line, "iff: %15s", name) == 1 &&
			!strcmp(name, device);
	fclose(file);
	return found;
}

static int compare(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* Finds the files of a device in a process, in the order of opening. */
static unsigned int find_files(const char *pid, const char *device,
			       struct watched_queue *queues)
{
	int pidfd = syscall(SYS_pidfd_open, atoi(pid), 0);
	int fds[MOST_QUEUES];
	unsigned int count = 0;
	struct dirent *entry;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%.16s/fdinfo", pid);
	dir = opendir(path);
	if (pidfd < 0 || !dir)
		fail("no process %s", pid);
	while ((entry = readdir(dir)) && count < MOST_QUEUES)
		if (is_of_device(pid, entry->d_name, device))
			fds[count++] = atoi(entry->d_name);
	closedir(dir);
	qsort(fds, count, sizeof(*fds), compare);
	for (unsigned int i = 0; i < count; i++) {
		queues[i].end.kind = TUNTAP_RING_TEST_TUN;
		queues[i].end.fd = syscall(SYS_pidfd_getfd, pidfd, fds[i], 0);
		if (queues[i].end.fd < 0)
			fail("pidfd_getfd: %s", strerror(errno));
	}
	close(pidfd);
	return count;
}

/*
 * Whether no other task can run, on any CPU. Before it runs this task, each CPU
 * completes pending timers, softirqs and interrupts from other CPUs.
 */
static bool is_quiescent(void)
{
	cpu_set_t all, one;
	int running;
	FILE *file;

	if (sched_getaffinity(0, sizeof(all), &all))
		fail("sched_getaffinity: %s", strerror(errno));
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &all))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		if (sched_setaffinity(0, sizeof(one), &one))
			fail("sched_setaffinity: %s", strerror(errno));
	}
	sched_setaffinity(0, sizeof(all), &all);
	file = fopen("/proc/loadavg", "r");
	if (!file || fscanf(file, "%*s %*s %*s %d/", &running) != 1)
		fail("/proc/loadavg: %s", strerror(errno));
	fclose(file);
	return running == 1;
}

/* Whether the ring has no entry for a consumer. */
static bool is_empty(const struct tuntap_ring_test_ring *ring)
{
	int consumed = ring->head - ring->tail;

	if (consumed < 0)
		consumed += ring->size;
	return ring->occupied == consumed;
}

static void watch_wakes(struct end end, const char *device)
{
	struct tuntap_ring_test_watch arg = {
		.fd = end.fd,
		.kind = end.kind,
		.all_consumers = 1,
	};

	snprintf(arg.queue.device, sizeof(arg.queue.device), "%s", device);
	if (ioctl(test_device(), TUNTAP_RING_TEST_WATCH, &arg))
		fail("watch: %s", strerror(errno));
}

/* Limits for waiting for a consumer, and then for its producer. */
#define CONSUMER_MS		100
#define PRODUCER_MS		1000
#define ENOUGH_INTERRUPTS	10

/* The CPUs of this program and (set by the caller) the senders, and of the consumers. */
#define OUR_CPU			0
#define THEIR_CPU		1

static void move_to(pid_t thread, int cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	if (sched_setaffinity(thread, sizeof(cpus), &cpus))
		fail("sched_setaffinity %d: %s", thread, strerror(errno));
}

/*
 * An interrupted consumer keeps its CPU: this program, which ends the interrupt,
 * and the senders, which fill the ring, must run on another CPU.
 */
static void part_from_consumers(const char *pid)
{
	struct dirent *entry;
	char path[64];
	DIR *dir;

	if (sysconf(_SC_NPROCESSORS_ONLN) <= THEIR_CPU)
		fail("one CPU: an interrupted consumer leaves none for its producer");
	snprintf(path, sizeof(path), "/proc/%.16s/task", pid);
	dir = opendir(path);
	if (!dir)
		fail("no process %s", pid);
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			move_to(atoi(entry->d_name), THEIR_CPU);
	closedir(dir);
	move_to(0, OUR_CPU);
}

/*
 * Interrupts the consumer of the first queue, if there is a call in that time.
 * Returns whether the producer has stopped the queue during the interrupt.
 */
static bool interrupt(const char *device)
{
	uint64_t end = now_ms() + CONSUMER_MS;
	struct tuntap_ring_test_watched hold;
	bool is_filled = false;

	hold_next_consumer(test_device());
	do
		hold = watched(test_device());
	while (!hold.is_held && now_ms() < end);
	end = now_ms() + PRODUCER_MS;
	/* Does not read the ring: its lock is held. */
	while (hold.is_held && !hold.was_stopped && !is_filled &&
	       now_ms() < end) {
		is_filled = is_stopped(device, 0);
		usleep(50);
	}
	release_consumer(test_device());
	return is_filled;
}

/* Returns the number of packets that have left a device's rings or were dropped. */
static uint64_t moved(const char *device)
{
	return statistic(device, "tx_packets") +
	       statistic(device, "tx_dropped");
}

/* Whether a queue is stopped beside an empty ring; also returns that ring. */
static bool is_stuck(struct end end, const char *device, unsigned int queue,
		     struct tuntap_ring_test_ring *ring)
{
	if (!is_stopped(device, queue))
		return false;
	*ring = read_ring(end);
	return ring->size > 0 && is_empty(ring) && is_up(device) &&
	       is_stopped(device, queue);
}

/* Returns for how long a queue has been stalled, or 0; also returns its ring. */
static uint64_t stalled_ms(struct watched_queue *queue, const char *device,
			   unsigned int index,
			   struct tuntap_ring_test_ring *ring)
{
	uint64_t now = moved(device);
	bool is_quiet;

	if (!is_stuck(queue->end, device, index, ring)) {
		queue->quiet_checks = 0;
		return 0;
	}
	is_quiet = is_quiescent();
	if (!is_stuck(queue->end, device, index, ring) ||
	    moved(device) != now || queue->moved != now) {
		queue->moved = now;
		queue->quiet_checks = 0;
		queue->since = now_ms();
		return 0;
	}
	queue->quiet_checks += is_quiet;
	return queue->quiet_checks < QUIET_CHECKS ? 0 : now_ms() - queue->since;
}

static int watch_device(const char *pid, const char *device, bool interrupts)
{
	static struct watched_queue queues[MOST_QUEUES];
	struct tuntap_ring_test_ring ring = {};
	unsigned long checks = 0, stopped = 0, interrupted = 0;
	uint64_t stalled = 0;
	unsigned int count;

	count = find_files(pid, device, queues);
	if (!count)
		fail("process %s has no file of %s", pid, device);
	if (interrupts) {
		part_from_consumers(pid);
		watch_wakes(queues[0].end, device);
	}
	puts("watching");
	fflush(stdout);

	for (; !is_ended() && !stalled && interrupted < ENOUGH_INTERRUPTS;
	     checks++) {
		for (unsigned int i = 0; i < count && !stalled; i++) {
			stopped += is_stopped(device, i);
			stalled = stalled_ms(&queues[i], device, i, &ring);
		}
		if (interrupts)
			interrupted += interrupt(device);
		else
			usleep(PAUSE_US);
	}

	printf("{\"looks\": %lu, \"stopped\": %lu, \"stalled_ms\": %llu",
	       checks, stopped, (unsigned long long)stalled);
	if (stalled)
		printf(", \"ring\": {\"size\": %d, \"batch\": %d, \"producer\": %d, \"head\": %d, \"tail\": %d, \"occupied\": %d}",
		       ring.size, ring.batch, ring.producer, ring.head,
		       ring.tail, ring.occupied);
	if (interrupts) {
		struct tuntap_ring_test_watched wakes =
			watched(test_device());

		printf(", \"wakes\": %u, \"wakes_while_full\": %u, \"interrupted\": %lu",
		       wakes.wakes, wakes.wakes_while_full, interrupted);
	}
	puts("}");
	return 0;
}

static int wait_until_stopped(const char *device, unsigned int queue)
{
	if (WAIT_UNTIL_OR_STALL(is_stopped(device, queue), moved(device)))
		return 0;
	printf("# queue %u of %s is not stopped\n", queue, device);
	return 1;
}

static int wait_until_quiet(const char *device)
{
	struct wait wait = {};
	unsigned int checks = 0;
	uint64_t before = 0, now;

	while (checks < QUIET_CHECKS) {
		usleep(PAUSE_US);
		checks += is_quiescent();
		now = moved(device);
		if (now != before)
			checks = 0;
		before = now;
		if (!wait_on(&wait, now + checks))
			return 1;
	}
	return 0;
}

/* Steers by the sender's number, which `flood` writes into each packet. */
static int steer(const char *pid, const char *device)
{
	static const struct bpf_insn program[] = {
		{
			.code = BPF_ALU64 | BPF_MOV | BPF_X,
			.dst_reg = BPF_REG_6,
			.src_reg = BPF_REG_1,
		},
		{
			.code = BPF_LD | BPF_ABS | BPF_H,
			.imm = 14 + 20 + 8 + 16,
		},
		{ .code = BPF_JMP | BPF_EXIT },
	};
	static struct watched_queue queues[MOST_QUEUES];

	if (!find_files(pid, device, queues))
		fail("process %s has no file of %s", pid, device);
	tun_steer(queues[0].end.fd, program, ARRAY_SIZE(program));
	return 0;
}

static int redirect(const char *device, const char *to)
{
	xdp_redirect(device, to);
	puts("redirecting");
	fflush(stdout);
	sigwaitinfo(&end_signals, NULL);
	return 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[1] : "";
	const char *device = argv[2];

	if (argc == 4)
		end_by_signal();
	if (argc == 4 && !strcmp(what, "watch"))
		return watch_device(argv[2], argv[3], false);
	if (argc == 4 && !strcmp(what, "interrupt"))
		return watch_device(argv[2], argv[3], true);
	if (argc == 4 && !strcmp(what, "redirect"))
		return redirect(device, argv[3]);
	if (argc == 4 && !strcmp(what, "steer"))
		return steer(argv[2], argv[3]);
	if (argc == 4 && !strcmp(what, "stopped"))
		return wait_until_stopped(device, atoi(argv[3]));
	if (argc == 4 && !strcmp(what, "is-stopped"))
		return !is_stopped(device, atoi(argv[3]));
	if (argc == 3 && !strcmp(what, "quiet"))
		return wait_until_quiet(device);
	if (argc == 4 && !strcmp(what, "stop")) {
		stop_queue(device, atoi(argv[3]));
		return 0;
	}
	fail("usage: see the head of its source");
}
