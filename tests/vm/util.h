/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Functions for the tests: namespaces, tun and tap files, numbered frames, and
 * the ioctls of tuntap_ring_test.h. A failure in a function ends the test.
 */
#ifndef TUNTAP_RING_TEST_UTIL_H
#define TUNTAP_RING_TEST_UTIL_H

#include <linux/if.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "kselftest.h"
#include "tuntap_ring_test.h"

/*
 * A slow machine is not a failure, so a test has no time limit: each wait ends
 * once there is no progress. This limit only ends a test that hangs.
 */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT	3600

uint64_t now_ms(void);

/* A wait for progress, see WAIT_UNTIL(). */
struct wait {
	uint64_t state;
	uint64_t moved_ms;
	unsigned int rounds;	/* since the last progress */
};

/*
 * Pauses a wait that has seen a state. Returns whether to go on: a wait fails
 * once the state has been the same for PATIENCE= seconds (default: 300).
 */
bool wait_on(struct wait *wait, uint64_t state);

/*
 * Polls until CONDITION holds, and returns whether it does. Gives up only when
 * STATE, a number that changes with any progress, has not changed for long.
 */
#define WAIT_UNTIL_OR_STALL(condition, state)			\
({								\
	struct wait __wait = {};				\
	bool __is_true;						\
								\
	while (!(__is_true = (condition)) &&			\
	       wait_on(&__wait, state))				\
		;						\
	__is_true;						\
})

/* Polls until CONDITION holds, for a step that only a slow machine delays. */
#define WAIT_UNTIL(condition) WAIT_UNTIL_OR_STALL(condition, 0)

/* Returns THINNED=, or 1: tests run one in so many of similar cases. */
int thinned(void);

/* Ends the test as failed, and prints the reason. */
void __noreturn __printf(1, 2) fail(const char *format, ...);

/* Runs a shell command, which must succeed. */
void __printf(1, 2) run(const char *format, ...);

/*
 * Enters new network and mount namespaces, with a matching /sys; without IPv6,
 * so that the kernel sends no packets on its own.
 */
void enter_namespaces(void);

/* Opens /dev/net/tun, without a device. */
int tun_open(void);

/* Attaches an open tun file to a device; creates the device if needed. */
void tun_attach(int fd, const char *device, int flags);

/* Opens and attaches, and sets the device up, with a ring of so many slots. */
int tun_create(const char *device, int flags, unsigned int size);

/* Detaches the file from its queue, or attaches it again. */
void tun_set_queue(int fd, bool attach);

/* Steers packets to the queue that a socket filter returns. */
struct bpf_insn;
void tun_steer(int fd, const struct bpf_insn *program, size_t length);

/* Steers packets to the queue that their mark names. */
void tun_steer_by_mark(int fd);

/* Opens the character device of a macvtap or ipvtap. */
int tap_open(const char *device);

void set_up(const char *device, bool up);
bool is_up(const char *device);
void set_txqueuelen(const char *device, unsigned int length);
int index_of(const char *device);

/* Reads a file in /sys/class/net/DEVICE/statistics. */
uint64_t statistic(const char *device, const char *name);

/* Reads a counter of tuntap_ring in debugfs. */
uint64_t counter(const char *name);

/* Loads an XDP program on DEVICE that redirects all packets to another device. */
void xdp_redirect(const char *device, const char *to);

/*
 * A packet socket that sends through the device's qdisc, and a UDP frame whose
 * last 8 bytes are its number.
 */
struct sender {
	int fd;
	uint8_t frame[50];
};

void sender_open(struct sender *sender, const char *device);
void sender_close(struct sender *sender);
void sender_set_destination(struct sender *sender, const char *device);
void sender_set_address(struct sender *sender, uint32_t address);
void sender_set_flow(struct sender *sender, uint16_t port);
void sender_set_mark(struct sender *sender, uint32_t mark);

/* Sends one frame; drops are not an error. */
bool send_frame(struct sender *sender, uint64_t number);

/* Sends COUNT frames, numbered from FIRST on. */
void send_frames(struct sender *sender, uint64_t first, unsigned int count);

/* A ring's file: its driver, and the export that serves it. */
struct end {
	int fd;
	enum tuntap_ring_test_kind kind;
};

/* /dev/tuntap-ring-test */
int test_device(void);

/* Returns the result of the export; describes up to ROOM entries. */
int consume(struct end end, int n, struct tuntap_ring_test_entry *entries,
	    unsigned int room);

/* Consumes, then unconsumes the last entries. */
int consume_and_unconsume(struct end end, int n, unsigned int unconsume,
			  struct tuntap_ring_test_entry *entries,
			  unsigned int room);

/* Whether the entries are frames of this test, numbered consecutively. */
bool are_frames(const struct tuntap_ring_test_entry *entries, unsigned int n,
		uint64_t first);

struct tuntap_ring_test_ring read_ring(struct end end);

bool is_stopped(const char *device, unsigned int queue);

/*
 * Whether a queue was left stopped beside an empty ring, so that traffic has
 * ended. For the only consumer of a ring, between its calls.
 */
bool is_left_stopped(struct end end, const char *device, unsigned int queue);

unsigned int num_tx_queues(const char *device);
void stop_queue(const char *device, unsigned int queue);

/* Watches the wakes of a queue; returns a new file of /dev/tuntap-ring-test. */
int watch(struct end end, const char *device, unsigned int queue);
struct tuntap_ring_test_watched watched(int fd);
void hold_next_consumer(int fd);
void release_consumer(int fd);

#endif
