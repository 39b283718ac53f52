// SPDX-License-Identifier: GPL-2.0
/*
 * What a shell script cannot see or do by itself: the ring and the queues of a
 * tap that another process has open. Needs tuntap_ring_test.ko.
 *
 * usage: ring watch PID DEVICE		look at queues and rings, until SIGTERM
 *        ring interrupt PID DEVICE	the consumer, too, until ten interrupts counted
 *        ring stopped DEVICE QUEUE MS	wait until the queue is stopped
 *        ring running DEVICE QUEUE MS	wait until it is not
 *        ring stop DEVICE QUEUE	stop it, as its driver would
 *        ring redirect DEVICE TO	by XDP, until SIGTERM
 *
 * `watch`, `interrupt` and `redirect` print a line once they are at work. The
 * first two print another at their end, of JSON: how often they looked and found
 * a queue stopped, for how many milliseconds at most a queue was stopped beside a
 * dry ring, with that ring (if it has slots, and the link is up); and, if the kernel has fprobes, how often a consumer
 * woke the first queue, how often that was with the ring full, and in how many
 * interrupts of the consumer its producer stopped the queue.
 *
 * An interrupt is as one of the hardware could be: it comes when the consumer has
 * freed slots and not yet looked at the queue, and lasts until the producer has
 * filled the ring and stopped the queue, or for some milliseconds.
 *
 * Exit status: 1 if it cannot be done, or was not so within MS milliseconds.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "kselftest.h"
#include "util.h"

#define MOST_QUEUES	256

/* Two looks in a row may each meet a wake that is just under way. */
#define LOOKS_OF_A_STALL	10

struct watched_queue {
	struct end end;
	uint64_t dry_since;
	unsigned int dry_looks;
	int producer;
};

/* What ends it, from then on, only where it is asked for. */
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

/* The files that a process has of a device, in the order in which it opened them. */
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

/* Whether there is no entry for a consumer. */
static bool is_dry(const struct tuntap_ring_test_ring *ring)
{
	int consumed = ring->head - ring->tail;

	if (consumed < 0)
		consumed += ring->size;
	return ring->occupied == consumed;
}

/* A kernel without fprobes has no such wakes. */
static bool watch_wakes(struct end end, const char *device)
{
	struct tuntap_ring_test_watch arg = {
		.fd = end.fd,
		.kind = end.kind,
		.all_consumers = 1,
	};

	snprintf(arg.queue.device, sizeof(arg.queue.device), "%s", device);
	if (!ioctl(test_device(), TUNTAP_RING_TEST_WATCH, &arg))
		return true;
	if (errno != EOPNOTSUPP)
		fail("watch: %s", strerror(errno));
	return false;
}

#define INTERRUPT_MS		100
#define ENOUGH_INTERRUPTS	10

/*
 * Of the first queue's consumer, if one comes by in that time. Returns whether
 * its producer has stopped the queue meanwhile.
 */
static bool interrupt(const char *device)
{
	uint64_t end = now_ms() + INTERRUPT_MS;
	struct tuntap_ring_test_watched hold;
	bool is_filled = false;

	hold_next_consumer(test_device());
	do
		hold = watched(test_device());
	while (!hold.is_held && now_ms() < end);
	/* Not by a look at the ring, whose lock is held. */
	while (hold.is_held && !hold.was_stopped && !is_filled &&
	       now_ms() < end) {
		is_filled = is_stopped(device, 0);
		usleep(50);
	}
	release_consumer(test_device());
	return is_filled;
}

static int watch_device(const char *pid, const char *device, bool interrupts)
{
	static struct watched_queue queues[MOST_QUEUES];
	struct tuntap_ring_test_ring ring, driest = {};
	unsigned long looks = 0, stopped = 0, interrupted = 0;
	uint64_t longest = 0;
	unsigned int count;
	bool has_wakes;

	count = find_files(pid, device, queues);
	if (!count)
		fail("process %s has no file of %s", pid, device);
	has_wakes = watch_wakes(queues[0].end, device);
	puts("watching");
	fflush(stdout);

	for (; !is_ended() && interrupted < ENOUGH_INTERRUPTS; looks++) {
		for (unsigned int i = 0; i < count; i++) {
			struct watched_queue *queue = &queues[i];
			uint64_t now = now_ms();
			bool is_stuck;

			is_stuck = is_stopped(device, i);
			stopped += is_stuck;
			if (is_stuck) {
				ring = look_at_ring(queue->end);
				is_stuck = ring.size > 0 && is_dry(&ring) &&
					   is_up(device) &&
					   is_stopped(device, i);
			}
			if (!is_stuck || ring.producer != queue->producer)
				queue->dry_looks = 0;
			if (!is_stuck)
				continue;
			queue->producer = ring.producer;
			if (!queue->dry_looks++)
				queue->dry_since = now;
			if (queue->dry_looks >= LOOKS_OF_A_STALL &&
			    now - queue->dry_since > longest) {
				longest = now - queue->dry_since;
				driest = ring;
			}
		}
		if (interrupts)
			interrupted += interrupt(device);
		else
			usleep(1000);
	}

	printf("{\"looks\": %lu, \"stopped\": %lu, \"stalled_ms\": %llu, ",
	       looks, stopped, (unsigned long long)longest);
	printf("\"ring\": {\"size\": %d, \"batch\": %d, \"producer\": %d, \"head\": %d, \"tail\": %d, \"occupied\": %d}, ",
	       driest.size, driest.batch, driest.producer, driest.head,
	       driest.tail, driest.occupied);
	if (has_wakes) {
		struct tuntap_ring_test_watched wakes =
			watched(test_device());

		printf("\"wakes\": %u, \"wakes_while_full\": %u, \"interrupted\": %lu}\n",
		       wakes.wakes, wakes.wakes_while_full, interrupted);
	} else {
		puts("\"wakes\": null, \"wakes_while_full\": null}");
	}
	return 0;
}

static int wait_for_queue(const char *device, unsigned int queue, bool stopped,
			  uint64_t limit)
{
	uint64_t end = now_ms() + limit;

	while (is_stopped(device, queue) != stopped) {
		if (now_ms() >= end)
			return 1;
		usleep(200);
	}
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
	if (argc == 5 && !strcmp(what, "stopped"))
		return wait_for_queue(device, atoi(argv[3]), true,
				      atoi(argv[4]));
	if (argc == 5 && !strcmp(what, "running"))
		return wait_for_queue(device, atoi(argv[3]), false,
				      atoi(argv[4]));
	if (argc == 4 && !strcmp(what, "stop")) {
		stop_queue(device, atoi(argv[3]));
		return 0;
	}
	fail("usage: see the head of its source");
}
