// SPDX-License-Identifier: GPL-2.0
/*
 * Measures the cost of an entry with more queues, in larger and smaller rings,
 * and with more senders, in one kernel and with interleaved settings.
 *
 *   this CPU, before each drain; or        -->  rings of the queues of a tap with
 *   threads on another CPU, meanwhile           IFF_BACKPRESSURE, which is up  -->
 *
 *   linux   ptr_ring_consume_batched() and tun_wake_queue(), as in vhost_net of Linux 7.3
 *   tuntap_ring    tun_ring_consume_batched()
 *
 * Each setting is measured, and again for each possible cause of a higher cost:
 * without the cause ("hot", "warm"), or with this cause alone ("few", "alike").
 *
 *   queues   all rings are filled, then drained in turn, 64 entries per call
 *     hot      each ring is filled right before it is drained: its slots are in the cache
 *     warm     each ring is also drained once right before: all its data is in the cache
 *   ring     the ring is filled, then drained
 *     hot      (above 1024) filled with 1024 entries, so its slots are in the cache
 *     few      (below 1024) a ring of 1024, with as many entries as the smaller ring
 *     alike    (below 1024) the same, with the batch of the smaller ring
 *   senders  threads on one other CPU fill one ring while it is drained
 *     full     the ring is drained only when it is full; the wait is not counted
 *     stay     the same; a sender runs until its time slice ends
 *
 * All samples are in debugfs, tuntap_ring_scale/samples. A line of a sample is
 *
 *   axis value variant consumer cycles entries calls slots
 *
 * The time stamp counter counts the cycles. "slots" is the number of slots that are
 * filled before they are drained. bench_entry() returns the entries, which are not
 * pointers.
 */

#include <linux/cpumask.h>
#include <linux/err.h>
#include <linux/kthread.h>
#include <linux/module.h>

#include "../common/bench.h"

#define BASE_RING	1024
#define MOST_SENDERS	8
#define SENT_LONGER	8	/* so the senders take turns within a sample */
#define LARGE_BATCH	16	/* ptr_ring's batch for rings from 32 slots on */

static unsigned int samples = 40;
module_param(samples, uint, 0444);
MODULE_PARM_DESC(samples, "Samples of each consumer in each setting");

static unsigned int entries = 65536;
module_param(entries, uint, 0444);
MODULE_PARM_DESC(entries, "Entries that a sample consumes, at least");

static struct bench_tap tap;
static void *out[BENCH_MOST_REQUESTED];
static struct task_struct *senders[MOST_SENDERS];

struct setting {
	const char *axis;
	int value;
	const char *variant;
	int queues;
	int ring;
	int chunk;	/* entries that fill a ring at a time */
	int batch;	/* of the ring; 0 for ptr_ring's batch */
	int senders;	/* number of threads on the other CPU */
	bool alone;	/* each queue is filled and drained separately */
	bool warm;	/* and also once before, without measuring */
	bool full;	/* the ring is drained only when it is full */
	bool stay;	/* a sender that finds the ring full does not yield */
};

/* The work of a sample. */
struct work {
	u64 cycles;
	unsigned long entries;
	unsigned long calls;
};

/* Consumes COUNT entries, or a few more, from NUMBER queues in turn. */
#define DEFINE_DRAIN(consumer)							\
static noinline void drain_##consumer(const struct bench_queue *queues,		\
				      int number, unsigned long count,		\
				      struct work *work)			\
{										\
	u64 start = bench_cycles();						\
	unsigned long entries = 0, calls = 0;					\
	int i = 0;								\
										\
	while (entries < count) {						\
		entries += bench_consume_##consumer(&queues[i], out,		\
						    BENCH_MOST_REQUESTED);		\
		calls++;							\
		if (++i == number)						\
			i = 0;							\
	}									\
	work->cycles += bench_cycles() - start - bench_clock_cost;		\
	work->entries += entries;						\
	work->calls += calls;							\
}

DEFINE_DRAIN(linux)
DEFINE_DRAIN(tuntap_ring)

static const struct {
	const char *name;
	void (*drain)(const struct bench_queue *queues, int number,
		      unsigned long count, struct work *work);
} consumers[] = {
	{ "linux", drain_linux },
	{ "tuntap_ring", drain_tuntap_ring },
};

static unsigned long fill(const struct bench_queue *queues, int number, int chunk)
{
	unsigned long filled = 0;
	int i, j;

	for (i = 0; i < number; i++)
		for (j = 0; j < chunk; j++) {
			if (ptr_ring_produce(queues[i].ring, bench_entry(filled)))
				break;
			filled++;
		}
	return filled;
}

/* Fills rings on this CPU and drains them, until enough entries are consumed. */
static void sample_filled(const struct setting *setting, int which, int first,
			  struct work *work)
{
	int number = setting->alone ? 1 : setting->queues;
	int turn = 0;

	while (work->entries < entries) {
		const struct bench_queue *queues = &tap.queues[first + turn];
		struct work untimed = {};

		if (setting->warm)
			consumers[which].drain(queues, number,
					       fill(queues, number, setting->chunk), &untimed);
		consumers[which].drain(queues, number,
				       fill(queues, number, setting->chunk), work);
		turn = (turn + number) % setting->queues;
	}
}

static int send(void *data)
{
	const struct setting *setting = data;

	while (!kthread_should_stop()) {
		if (ptr_ring_produce(tap.queues[0].ring, (void *)1) && !setting->stay)
			schedule();
		cond_resched();
	}
	return 0;
}

/* Drains the first queue's ring while threads on another CPU fill it. */
static void sample_sent(const struct setting *setting, int which, struct work *work)
{
	struct work untimed = {};
	int i;

	for (i = 0; i < setting->senders; i++)
		wake_up_process(senders[i]);
	/* Waits until the senders run. */
	consumers[which].drain(tap.queues, 1, 2 * BASE_RING, &untimed);
	if (!setting->full)
		consumers[which].drain(tap.queues, 1, SENT_LONGER * entries, work);
	while (setting->full && work->entries < entries) {
		while (!ptr_ring_full(tap.queues[0].ring))
			cpu_relax();
		consumers[which].drain(tap.queues, 1, 1, work);
	}
	for (i = 0; i < setting->senders; i++)
		kthread_stop(senders[i]);
	while (bench_consume_linux(tap.queues, out, BENCH_MOST_REQUESTED))
		;
}

static int create_senders(const struct setting *setting)
{
	int i, err;

	for (i = 0; i < setting->senders; i++) {
		senders[i] = kthread_create(send, (void *)setting, "bench-sender");
		if (IS_ERR(senders[i])) {
			err = PTR_ERR(senders[i]);
			while (i)
				kthread_stop(senders[--i]);
			return err;
		}
		kthread_bind(senders[i], cpumask_next(0, cpu_online_mask));
	}
	return 0;
}

/* Measures one sample. ROUND selects the queues. */
static int measure(const struct setting *setting, int which, int round)
{
	struct ptr_ring *ring = tap.queues[0].ring;
	int first = round * setting->queues % tap.count;
	struct work work = {};
	int err = 0, batch;

	if (ring->size != setting->ring)
		err = bench_resize(&tap, setting->ring);
	if (!err)
		err = create_senders(setting);
	if (err)
		return err;
	batch = ring->batch;
	if (setting->batch)
		ring->batch = setting->batch;
	if (setting->senders)
		sample_sent(setting, which, &work);
	else
		sample_filled(setting, which, first, &work);
	ring->batch = batch;
	bench_print("%s %d %s %s %llu %lu %lu %d\n", setting->axis, setting->value,
		    setting->variant, consumers[which].name, work.cycles, work.entries,
		    work.calls, setting->chunk * (setting->alone ? 1 : setting->queues));
	cond_resched();
	return 0;
}

static int measure_all(const struct setting *settings, int count)
{
	int i, j, k, err;

	for (i = 0; i < samples; i++)
		for (j = 0; j < count; j++)
			for (k = 0; k < ARRAY_SIZE(consumers); k++) {
				err = measure(&settings[(i + j) % count],
					      (i + k) % ARRAY_SIZE(consumers), i);
				if (err)
					return err;
			}
	return 0;
}

/* Moves the heads of the rings apart, so the rings do not all use the same set of the cache. */
static int spread(void)
{
	int i, place;

	for (i = 0; i < tap.count; i++)
		for (place = 0; place < i * 5 % (BASE_RING / LARGE_BATCH); place++) {
			fill(&tap.queues[i], 1, LARGE_BATCH);
			if (bench_consume_tuntap_ring(&tap.queues[i], out, LARGE_BATCH) != LARGE_BATCH)
				return -EIO;
		}
	return 0;
}

static int measure_queues(void)
{
	static const int values[] = { 1, 2, 4, 16, 64, 256 };
	struct setting settings[3 * ARRAY_SIZE(values)];
	int i, count = 0, err;

	for (i = 0; i < ARRAY_SIZE(values); i++) {
		struct setting base = {
			.axis = "queues",
			.value = values[i],
			.queues = values[i],
			.variant = "as-is",
			.ring = BASE_RING,
			.chunk = clamp((int)entries / values[i], 1, BASE_RING),
		};

		settings[count++] = base;
		base.alone = true;
		base.chunk = BENCH_MOST_REQUESTED;
		base.variant = "hot";
		settings[count++] = base;
		base.warm = true;
		base.variant = "warm";
		settings[count++] = base;
	}
	err = bench_open_tap(&tap, BENCH_MOST_QUEUES);
	if (!err)
		err = bench_resize(&tap, BASE_RING);
	if (!err)
		err = spread();
	if (!err)
		err = measure_all(settings, count);
	bench_close_tap(&tap);
	return err;
}

static int measure_rings(void)
{
	static const int values[] = { 1, 2, 4, 16, 64, 256, 1024, 4096, 16384, 65536 };
	struct setting settings[3 * ARRAY_SIZE(values)];
	int i, count = 0;

	for (i = 0; i < ARRAY_SIZE(values); i++) {
		struct setting base = {
			.axis = "ring",
			.value = values[i],
			.queues = 1,
			.variant = "as-is",
			.ring = values[i],
			.chunk = values[i],
		};

		settings[count++] = base;
		if (values[i] > BASE_RING) {
			base.chunk = BASE_RING;
			base.variant = "hot";
			settings[count++] = base;
		} else if (values[i] < BASE_RING) {
			base.ring = BASE_RING;
			base.variant = "few";
			settings[count++] = base;
			base.batch = values[i] < 2 * LARGE_BATCH ? 1 : LARGE_BATCH;
			base.variant = "alike";
			settings[count++] = base;
		}
	}
	return measure_all(settings, count);
}

static int measure_senders(void)
{
	static const int values[] = { 1, 2, 4, MOST_SENDERS };
	struct setting settings[3 * ARRAY_SIZE(values)];
	int i, count = 0;

	for (i = 0; i < ARRAY_SIZE(values); i++) {
		struct setting base = {
			.axis = "senders",
			.value = values[i],
			.queues = 1,
			.variant = "as-is",
			.ring = BASE_RING,
			.chunk = BASE_RING,
			.senders = values[i],
		};

		settings[count++] = base;
		base.full = true;
		base.variant = "full";
		settings[count++] = base;
		base.stay = true;
		base.variant = "stay";
		settings[count++] = base;
	}
	return measure_all(settings, count);
}

static int measure_scale(void)
{
	int err = measure_queues();

	if (err)
		return err;
	err = bench_open_tap(&tap, 1);
	if (!err)
		err = measure_rings();
	if (!err)
		err = measure_senders();
	bench_close_tap(&tap);
	return err;
}

static int __init scale_init(void)
{
	return bench_init(measure_scale);
}

static void __exit scale_exit(void)
{
	bench_exit();
}

module_init(scale_init);
module_exit(scale_exit);
MODULE_AUTHOR("The tuntap-ring developers");
MODULE_DESCRIPTION("Benchmark of ring consumers in many settings");
MODULE_LICENSE("GPL");
