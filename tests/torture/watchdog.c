// SPDX-License-Identifier: GPL-2.0
/*
 * Watches the rings of another process, and the queues above them.
 *
 *    watchdog DEVICE     commands on standard input, a line each:
 *
 *       watch PID FD...  process PID has these files open, queue 0's first
 *       hold             watch nothing until the next `watch`, as files move to
 *                        other queues
 *       nothing          watch nothing: there are no queues
 *       stop QUEUE       stop that queue, as its driver would
 *       pass             attach an XDP program that passes all packets
 *       no-pass          detach the XDP program
 *
 * Each command is answered with `ok` or `error TEXT` on standard output. A queue
 * that stays stopped beside an empty ring is reported on standard error, with
 * the state of the ring. Rings without slots, and devices whose link is down,
 * are ignored.
 *
 * Time does not count: a consumer that has emptied the ring and is kept from the
 * CPU may wake the queue much later. So the queue must stay stopped for PASSES
 * passes. A pass ends once every call of a producer or consumer that was in
 * progress at its beginning has returned:
 *
 *  - A consumer's call does not sleep, and is made by a thread of the process
 *    that has the files (which includes vhost's workers). So each of these
 *    threads must be seen asleep, or have slept meanwhile. For a thread that is
 *    always busy, with another queue, the number of preemptions counts instead.
 *  - A producer's call runs with bottom halves disabled, on any CPU. So an RCU
 *    grace period must pass.
 */

#include <dirent.h>
#include <errno.h>
#include <linux/bpf.h>
#include <linux/membarrier.h>
#include <net/if.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <fcntl.h>

#include "kselftest.h"
#include "../vm/tuntap_ring_test.h"

#define MAX_QUEUES	256
#define PERIOD_MS	50
#define PASSES		20
/* A single call is never preempted that often. */
#define PREEMPTIONS	10
#define MAX_THREADS	1024

/* A queue, and the file with its ring. */
struct watched {
	int remote_fd;	/* the descriptor in the other process */
	int fd;
	bool is_stuck;
	bool is_reported;
	uint64_t since;
	unsigned int since_pass;
	struct tuntap_ring_test_ring ring;
};

/* A thread of the other process, at the beginning of the pass. */
struct thread {
	int id;
	bool has_slept;
	unsigned long sleeps, preemptions;
};

static struct watched watched[MAX_QUEUES];
static unsigned int count;
static struct thread threads[MAX_THREADS];
static unsigned int thread_count, passes;
static const char *device;
static int test, pid, sock;
static int xdp = -1;
static bool is_held;

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ull + now.tv_nsec / 1000000;
}

static void answer(int err)
{
	if (err)
		printf("error %s\n", strerror(err));
	else
		puts("ok");
}

static void watch_nothing(void)
{
	unsigned int i;

	for (i = 0; i < count; i++)
		close(watched[i].fd);
	memset(watched, 0, sizeof(watched));
	count = 0;
}

/* Returns a descriptor for a file that another process has open. */
static int get_file(int process, int remote_fd)
{
	int pidfd = syscall(SYS_pidfd_open, process, 0);
	int fd;

	if (pidfd < 0)
		return -1;
	fd = syscall(SYS_pidfd_getfd, pidfd, remote_fd, 0);
	close(pidfd);
	return fd;
}

static int watch(char *words)
{
	struct watched before[MAX_QUEUES];
	char *word = strtok(words, " ");
	int process = word ? atoi(word) : 0;
	unsigned int i;

	/* The history of a queue stays valid as long as it has the same file. */
	memcpy(before, watched, sizeof(before));
	if (process != pid)
		memset(before, 0, sizeof(before));
	watch_nothing();
	pid = process;
	for (i = 0; i < MAX_QUEUES && (word = strtok(NULL, " ")); i++) {
		int remote_fd = atoi(word);

		if (before[i].remote_fd == remote_fd)
			watched[i] = before[i];
		watched[i].remote_fd = remote_fd;
		watched[i].fd = get_file(process, remote_fd);
		if (watched[i].fd < 0)
			return errno;
		count = i + 1;
	}
	return 0;
}

static int stop(unsigned int index)
{
	struct tuntap_ring_test_queue queue = { .index = index };

	snprintf(queue.device, sizeof(queue.device), "%s", device);
	return ioctl(test, TUNTAP_RING_TEST_STOP, &queue) ? errno : 0;
}

/* The program is detached when the descriptor is closed or the device removed. */
static int attach_xdp(void)
{
	static const struct bpf_insn pass[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .imm = XDP_PASS },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr load = {
		.prog_type = BPF_PROG_TYPE_XDP,
		.expected_attach_type = BPF_XDP,
		.insns = (uintptr_t)pass,
		.insn_cnt = ARRAY_SIZE(pass),
		.license = (uintptr_t)"GPL",
	};
	union bpf_attr link = {
		.link_create.target_ifindex = if_nametoindex(device),
		.link_create.attach_type = BPF_XDP,
	};
	int prog = syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof(load));
	int err = 0;

	if (prog < 0)
		return errno;
	link.link_create.prog_fd = prog;
	xdp = syscall(SYS_bpf, BPF_LINK_CREATE, &link, sizeof(link));
	if (xdp < 0)
		err = errno;
	close(prog);
	return err;
}

static int detach_xdp(void)
{
	int err = 0;

	if (xdp < 0)
		err = ENOENT;
	else
		close(xdp);
	xdp = -1;
	return err;
}

static void obey(char *line)
{
	unsigned int index;
	char end;

	if (!strncmp(line, "watch ", 6)) {
		is_held = false;
		answer(watch(line + 6));
	} else if (!strcmp(line, "hold")) {
		is_held = true;
		answer(0);
	} else if (!strcmp(line, "nothing")) {
		watch_nothing();
		answer(0);
	} else if (sscanf(line, "stop %u%c", &index, &end) == 1) {
		answer(stop(index));
	} else if (!strcmp(line, "pass")) {
		answer(attach_xdp());
	} else if (!strcmp(line, "no-pass")) {
		answer(detach_xdp());
	} else {
		answer(EINVAL);
	}
	fflush(stdout);
}

static bool is_up(void)
{
	struct ifreq request = {};

	snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", device);
	return !ioctl(sock, SIOCGIFFLAGS, &request) &&
	       (request.ifr_flags & IFF_UP);
}

/* Reads a thread's state, and its numbers of sleeps and preemptions. */
static bool read_thread(struct thread *thread, char *state)
{
	char path[64], line[256];
	int found = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/status", pid, thread->id);
	file = fopen(path, "r");
	if (!file)
		return false;
	while (fgets(line, sizeof(line), file)) {
		found += sscanf(line, "State: %c", state) == 1;
		found += sscanf(line, "voluntary_ctxt_switches: %lu",
				&thread->sleeps) == 1;
		found += sscanf(line, "nonvoluntary_ctxt_switches: %lu",
				&thread->preemptions) == 1;
	}
	fclose(file);
	return found == 3;
}

static const struct thread *find_thread(int id)
{
	unsigned int i;

	for (i = 0; i < thread_count; i++)
		if (threads[i].id == id)
			return &threads[i];
	return NULL;
}

/* Whether every thread has slept or ended in this pass. */
static bool all_have_slept(void)
{
	struct thread now[MAX_THREADS];
	unsigned int i, length = 0;
	bool all = true;
	struct dirent *entry;
	char path[64], state;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	tasks = opendir(path);
	while (tasks && (entry = readdir(tasks)) && length < MAX_THREADS) {
		struct thread *thread = &now[length];
		const struct thread *before;

		*thread = (struct thread){ .id = atoi(entry->d_name) };
		if (thread->id <= 0 || !read_thread(thread, &state))
			continue;
		before = find_thread(thread->id);
		thread->has_slept = state != 'R';
		if (before) {
			thread->has_slept |=
				before->has_slept ||
				thread->sleeps > before->sleeps ||
				thread->preemptions >=
					before->preemptions + PREEMPTIONS;
			thread->sleeps = before->sleeps;
			thread->preemptions = before->preemptions;
		}
		all &= thread->has_slept;
		length++;
	}
	if (tasks)
		closedir(tasks);
	memcpy(threads, now, length * sizeof(now[0]));
	thread_count = length;
	for (i = 0; all && i < length; i++) {
		threads[i].has_slept = false;
		read_thread(&threads[i], &state);
	}
	return all;
}

/* Checks whether a pass has ended. */
static void pass(void)
{
	if (!all_have_slept())
		return;
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0)) {
		perror("watchdog: membarrier");
		exit(1);
	}
	passes++;
}

static void check_queue(struct watched *w, unsigned int index)
{
	struct tuntap_ring_test_ring ring = { .fd = w->fd };
	struct tuntap_ring_test_queue queue = { .index = index };
	bool is_stuck;

	snprintf(queue.device, sizeof(queue.device), "%s", device);
	if (ioctl(test, TUNTAP_RING_TEST_QUEUE, &queue) ||
	    ioctl(test, TUNTAP_RING_TEST_RING, &ring)) {
		w->is_stuck = false;
		return;
	}
	ring.fd = 0;
	/* Whether the ring has slots, and the slot at the head is empty. */
	is_stuck = queue.is_stopped && ring.size > 0 &&
		   ring.head == ring.producer && ring.has_room;
	if (!is_stuck || !w->is_stuck || memcmp(&ring, &w->ring, sizeof(ring))) {
		w->is_stuck = is_stuck;
		w->is_reported = false;
		w->since = now_ms();
		w->since_pass = passes;
		w->ring = ring;
		return;
	}
	/* The pass in progress does not count. */
	if (w->is_reported || passes - w->since_pass <= PASSES)
		return;
	w->is_reported = true;
	fprintf(stderr,
		"queue %u is stopped beside an empty ring, for %u ms: process %d, file %d, size %d, batch %d, producer %d, head %d, tail %d, occupied %d, has room %u\n",
		index, (unsigned int)(now_ms() - w->since), pid, w->remote_fd,
		ring.size, ring.batch, ring.producer, ring.head, ring.tail,
		ring.occupied, ring.has_room);
}

int main(int argc, char **argv)
{
	struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };
	char line[4096];
	size_t length = 0;
	bool is_pass_due;
	unsigned int i;

	if (argc != 2) {
		fputs("usage: watchdog DEVICE\n", stderr);
		return 2;
	}
	device = argv[1];
	test = open("/dev/tuntap-ring-test", O_RDWR);
	sock = socket(AF_INET, SOCK_DGRAM, 0);
	if (test < 0 || sock < 0) {
		perror("watchdog: /dev/tuntap-ring-test");
		return 1;
	}
	for (;;) {
		if (poll(&input, 1, PERIOD_MS) > 0) {
			char *end;
			ssize_t got = read(STDIN_FILENO, line + length,
					   sizeof(line) - 1 - length);

			if (got <= 0)
				return 0;
			length += got;
			line[length] = '\0';
			while ((end = strchr(line, '\n'))) {
				*end = '\0';
				obey(line);
				length -= end + 1 - line;
				memmove(line, end + 1, length + 1);
			}
			if (length == sizeof(line) - 1)
				return 1;
			continue;
		}
		if (is_held)
			continue;
		if (count && !is_up()) {
			for (i = 0; i < count; i++)
				watched[i].is_stuck = false;
			continue;
		}
		is_pass_due = false;
		for (i = 0; i < count; i++) {
			check_queue(&watched[i], i);
			is_pass_due |= watched[i].is_stuck;
		}
		if (is_pass_due)
			pass();
	}
}
