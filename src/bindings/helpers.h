/* SPDX-License-Identifier: GPL-2.0 */
#ifndef TUNTAP_RING_HELPERS_H
#define TUNTAP_RING_HELPERS_H

#include <linux/spinlock_types.h>
#include <linux/types.h>

/* The counters; src/stats.rs describes each and has its file name. */
enum tuntap_ring_counter {
	TUNTAP_RING_ENTRIES,
	TUNTAP_RING_WAKES,
	TUNTAP_RING_SUPPRESSED,
	TUNTAP_RING_REJECTED,
	TUNTAP_RING_RELEASED,
	TUNTAP_RING_RESIZED,
	/* Calls, by the logarithm to base 2 of the taken entries; the last counts longer ones, too. */
	TUNTAP_RING_BATCHES,
	TUNTAP_RING_LAST_BATCH = TUNTAP_RING_BATCHES + 8,
	TUNTAP_RING_COUNTERS,
};

struct net_device;
struct ptr_ring;

/* The state of a device of tun; the queue stopped for longest, and the time since its last packet. */
struct tuntap_ring_device {
	unsigned int namespace;
	int index;
	unsigned int queues;
	unsigned int stopped;
	unsigned int stopped_queue;
	unsigned int stopped_ms;
};

/* Called with a device of tun. */
typedef void (*tuntap_ring_device_t)(struct net_device *dev, void *data);

/* Called with the name of a device and the index of one of its queues. */
typedef void (*tuntap_ring_found_t)(const char *device, unsigned int queue, void *data);

#ifdef CONFIG_KCSAN
void tuntap_ring_helper_announce(const void *place, size_t size, bool write, bool marked);
void tuntap_ring_helper_smp_mb(void);
#endif
void tuntap_ring_helper_local_bh_disable(void);
void tuntap_ring_helper_local_bh_enable(void);
void tuntap_ring_helper_count(enum tuntap_ring_counter counter);
void tuntap_ring_helper_spin_lock(spinlock_t *lock);
void tuntap_ring_helper_spin_unlock(spinlock_t *lock);
void tuntap_ring_helper_count_and_unlock(unsigned long entries, spinlock_t *lock);
u64 tuntap_ring_helper_sum(enum tuntap_ring_counter counter);
void tuntap_ring_helper_list_stopped(tuntap_ring_found_t found, void *data);

int tuntap_ring_helper_follow_devices(void);
void tuntap_ring_helper_unfollow_devices(void);
void tuntap_ring_helper_describe(const struct net_device *dev,
				 struct tuntap_ring_device *device);
void tuntap_ring_helper_each_device(tuntap_ring_device_t found, void *data);

bool tuntap_ring_helper_has_backlog(const struct net_device *dev, unsigned long queue);
void **tuntap_ring_helper_new_slots(int count);
void **tuntap_ring_helper_swap_slots(struct ptr_ring *ring, void **slots, int count);
void tuntap_ring_helper_free_slots(void **slots);

void tuntap_ring_helper_scan_in(unsigned int ms);
void tuntap_ring_helper_scan_now(void);
void tuntap_ring_helper_stop_scans(void);
void tuntap_ring_helper_report_stall(const struct net_device *dev, unsigned int queue,
				     unsigned int stopped_ms);

/* In src/backpressure.rs. */
void tuntap_ring_device_changed(struct net_device *dev);
void tuntap_ring_device_gone(struct net_device *dev);
int tuntap_ring_set_backpressure(const char *text);
int tuntap_ring_get_backpressure(char *buffer);
void tuntap_ring_free_backpressure(void);
int tuntap_ring_set_stall_timeout(unsigned int ms);
unsigned int tuntap_ring_get_stall_timeout(void);
int tuntap_ring_set_autosize(bool on);
bool tuntap_ring_get_autosize(void);
unsigned int tuntap_ring_scan(u64 now);

#endif
