// SPDX-License-Identifier: GPL-2.0
/* See util.h. */

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <net/if.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "util.h"

/* A wait yields so often before it sleeps, longer each time, up to 12.8 ms. */
#define YIELDS		100
#define SHORTEST_US	100
#define DOUBLINGS	7

uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ULL + now.tv_nsec / 1000000;
}

/* Returns the value of an environment variable if it is a number above 0. */
static int number_from(const char *name, int otherwise)
{
	const char *value = getenv(name);

	return value && atoi(value) > 0 ? atoi(value) : otherwise;
}

bool wait_on(struct wait *wait, uint64_t state)
{
	uint64_t now = now_ms(), patience_ms = 1000ULL * number_from("PATIENCE", 300);

	if (!wait->rounds || state != wait->state) {
		wait->state = state;
		wait->moved_ms = now;
		wait->rounds = 0;
	} else if (now - wait->moved_ms >= patience_ms) {
		printf("# nothing moved for %d s, at %llu\n", (int)(patience_ms / 1000),
		       (unsigned long long)state);
		return false;
	}
	if (wait->rounds++ < YIELDS)
		sched_yield();
	else
		usleep(SHORTEST_US << (wait->rounds < YIELDS + DOUBLINGS ?
				       wait->rounds - YIELDS : DOUBLINGS));
	return true;
}

int thinned(void)
{
	return number_from("THINNED", 1);
}

void fail(const char *format, ...)
{
	va_list args;

	printf("# ");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
	_exit(1);
}

#define fail_errno(what) fail("%s: %s", what, strerror(errno))

void run(const char *format, ...)
{
	char command[512];
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	if (length >= (int)sizeof(command))
		fail("command too long: %s", command);
	if (system(command))
		fail("failed: %s", command);
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		fail_errno(path);
	close(fd);
}

static uint64_t read_number(const char *path)
{
	unsigned long long number;
	FILE *file = fopen(path, "r");

	if (!file || fscanf(file, "%llu", &number) != 1)
		fail_errno(path);
	fclose(file);
	return number;
}

void enter_namespaces(void)
{
	static const char *const no_ipv6[] = {
		"/proc/sys/net/ipv6/conf/all/disable_ipv6",
		"/proc/sys/net/ipv6/conf/default/disable_ipv6",
	};

	if (unshare(CLONE_NEWNET | CLONE_NEWNS))
		fail_errno("unshare");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("sysfs", "/sys", "sysfs", 0, NULL))
		fail_errno("/sys");
	if (mount("debugfs", "/sys/kernel/debug", "debugfs", 0, NULL))
		fail_errno("/sys/kernel/debug");
	for (size_t i = 0; i < ARRAY_SIZE(no_ipv6); i++)
		if (!access(no_ipv6[i], F_OK))
			write_file(no_ipv6[i], "1");
}

int tun_open(void)
{
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		fail_errno("/dev/net/tun");
	return fd;
}

static void name_device(struct ifreq *request, const char *device)
{
	memset(request, 0, sizeof(*request));
	snprintf(request->ifr_name, sizeof(request->ifr_name), "%s", device);
}

void tun_attach(int fd, const char *device, int flags)
{
	struct ifreq request;

	name_device(&request, device);
	request.ifr_flags = flags;
	if (ioctl(fd, TUNSETIFF, &request))
		fail_errno("TUNSETIFF");
}

int tun_create(const char *device, int flags, unsigned int size)
{
	int fd = tun_open();

	tun_attach(fd, device, flags);
	set_txqueuelen(device, size);
	set_up(device, true);
	return fd;
}

void tun_set_queue(int fd, bool attach)
{
	struct ifreq request = {
		.ifr_flags = attach ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE,
	};

	if (ioctl(fd, TUNSETQUEUE, &request))
		fail_errno("TUNSETQUEUE");
}

static int load_program(enum bpf_prog_type type, const struct bpf_insn *program,
			size_t length)
{
	union bpf_attr attr = {
		.prog_type = type,
		.insns = (uintptr_t)program,
		.insn_cnt = length,
		.license = (uintptr_t)"GPL",
	};
	int fd = syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));

	if (fd < 0)
		fail_errno("BPF_PROG_LOAD");
	return fd;
}

void tun_steer(int fd, const struct bpf_insn *program, size_t length)
{
	int steering = load_program(BPF_PROG_TYPE_SOCKET_FILTER, program,
				    length);

	if (ioctl(fd, TUNSETSTEERINGEBPF, &steering))
		fail_errno("TUNSETSTEERINGEBPF");
	close(steering);
}

void tun_steer_by_mark(int fd)
{
	static const struct bpf_insn program[] = {
		{
			.code = BPF_LDX | BPF_W | BPF_MEM,
			.dst_reg = BPF_REG_0,
			.src_reg = BPF_REG_1,
			.off = offsetof(struct __sk_buff, mark),
		},
		{ .code = BPF_JMP | BPF_EXIT },
	};

	tun_steer(fd, program, ARRAY_SIZE(program));
}

void xdp_redirect(const char *device, const char *to)
{
	const struct bpf_insn program[] = {
		{
			.code = BPF_ALU64 | BPF_MOV | BPF_K,
			.dst_reg = BPF_REG_1,
			.imm = index_of(to),
		},
		{
			.code = BPF_ALU64 | BPF_MOV | BPF_K,
			.dst_reg = BPF_REG_2,
		},
		{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_redirect },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr attr = {
		.link_create = {
			.prog_fd = load_program(BPF_PROG_TYPE_XDP, program,
						ARRAY_SIZE(program)),
			.target_ifindex = index_of(device),
			.attach_type = BPF_XDP,
		},
	};

	/* The link goes when the test exits. */
	if (syscall(SYS_bpf, BPF_LINK_CREATE, &attr, sizeof(attr)) < 0)
		fail_errno("BPF_LINK_CREATE");
}

int tap_open(const char *device)
{
	unsigned int major, minor;
	char path[128];
	glob_t found;
	FILE *file;
	int fd;

	snprintf(path, sizeof(path), "/sys/class/net/%s/*vtap/tap*/dev",
		 device);
	if (glob(path, 0, NULL, &found))
		fail("nothing matches %s", path);
	file = fopen(found.gl_pathv[0], "r");
	if (!file || fscanf(file, "%u:%u", &major, &minor) != 2)
		fail_errno(found.gl_pathv[0]);
	fclose(file);
	globfree(&found);

	/* A new node: the node in /dev may belong to another namespace. */
	snprintf(path, sizeof(path), "/tmp/tap-%d-%s", getpid(), device);
	if (mknod(path, S_IFCHR | 0600, makedev(major, minor)))
		fail_errno(path);
	fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		fail_errno(path);
	unlink(path);
	return fd;
}

/* Any socket will do. */
static void device_ioctl(unsigned long request, struct ifreq *arg)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, request, arg))
		fail_errno(arg->ifr_name);
	close(fd);
}

void set_up(const char *device, bool up)
{
	struct ifreq request;

	name_device(&request, device);
	device_ioctl(SIOCGIFFLAGS, &request);
	request.ifr_flags &= ~IFF_UP;
	request.ifr_flags |= up ? IFF_UP : 0;
	device_ioctl(SIOCSIFFLAGS, &request);
}

bool is_up(const char *device)
{
	struct ifreq request;

	name_device(&request, device);
	device_ioctl(SIOCGIFFLAGS, &request);
	return request.ifr_flags & IFF_UP;
}

void set_txqueuelen(const char *device, unsigned int length)
{
	struct ifreq request;

	name_device(&request, device);
	request.ifr_qlen = length;
	device_ioctl(SIOCSIFTXQLEN, &request);
}

int index_of(const char *device)
{
	int index = if_nametoindex(device);

	if (!index)
		fail_errno(device);
	return index;
}

uint64_t statistic(const char *device, const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/class/net/%s/statistics/%s", device,
		 name);
	return read_number(path);
}

uint64_t counter(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/kernel/debug/tuntap_ring/%s", name);
	return read_number(path);
}

static struct ethhdr *ethernet(struct sender *sender)
{
	return (struct ethhdr *)sender->frame;
}

static struct iphdr *ip(struct sender *sender)
{
	return (struct iphdr *)(sender->frame + sizeof(struct ethhdr));
}

static struct udphdr *udp(struct sender *sender)
{
	return (struct udphdr *)(ip(sender) + 1);
}

void sender_open(struct sender *sender, const char *device)
{
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_ifindex = index_of(device),
	};
	int memory = 64 << 20;

	memset(sender, 0, sizeof(*sender));
	sender->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	if (sender->fd < 0 ||
	    bind(sender->fd, (struct sockaddr *)&address, sizeof(address)))
		fail_errno("packet socket");
	/* Packets in the qdisc are charged to the sender. */
	if (setsockopt(sender->fd, SOL_SOCKET, SO_SNDBUFFORCE, &memory,
		       sizeof(memory)))
		fail_errno("SO_SNDBUFFORCE");

	memcpy(ethernet(sender)->h_dest, "\x02\x00\x00\x00\x00\x01", ETH_ALEN);
	memcpy(ethernet(sender)->h_source, "\x02\x00\x00\x00\x00\x02",
	       ETH_ALEN);
	ethernet(sender)->h_proto = htons(ETH_P_IP);
	ip(sender)->version = 4;
	ip(sender)->ihl = 5;
	ip(sender)->tot_len =
		htons(sizeof(sender->frame) - sizeof(struct ethhdr));
	ip(sender)->ttl = 64;
	ip(sender)->protocol = IPPROTO_UDP;
	ip(sender)->saddr = htonl(0xc0000201); /* 192.0.2.1 */
	udp(sender)->dest = htons(9);
	udp(sender)->len = htons(sizeof(struct udphdr) + sizeof(uint64_t));
	sender_set_address(sender, 0xc0000202);
	sender_set_flow(sender, 1);
}

void sender_close(struct sender *sender)
{
	close(sender->fd);
	sender->fd = -1;
}

void sender_set_destination(struct sender *sender, const char *device)
{
	struct ifreq request;

	name_device(&request, device);
	device_ioctl(SIOCGIFHWADDR, &request);
	memcpy(ethernet(sender)->h_dest, request.ifr_hwaddr.sa_data, ETH_ALEN);
}

void sender_set_address(struct sender *sender, uint32_t address)
{
	const uint16_t *words = (const uint16_t *)ip(sender);
	uint32_t sum = 0;

	ip(sender)->daddr = htonl(address);
	ip(sender)->check = 0;
	for (size_t i = 0; i < sizeof(struct iphdr) / 2; i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	ip(sender)->check = ~sum;
}

void sender_set_flow(struct sender *sender, uint16_t port)
{
	udp(sender)->source = htons(port);
}

void sender_set_mark(struct sender *sender, uint32_t mark)
{
	if (setsockopt(sender->fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)))
		fail_errno("SO_MARK");
}

bool send_frame(struct sender *sender, uint64_t number)
{
	number = htobe64(number);
	memcpy(sender->frame + sizeof(sender->frame) - sizeof(number), &number,
	       sizeof(number));
	return send(sender->fd, sender->frame, sizeof(sender->frame), 0) >= 0;
}

void send_frames(struct sender *sender, uint64_t first, unsigned int count)
{
	/* Drops by device or qdisc are not an error; the test counts them. */
	for (; count; first++, count--)
		if (!send_frame(sender, first) && errno != ENOBUFS)
			fail_errno("send");
}

int test_device(void)
{
	static int fd = -1;

	if (fd < 0)
		fd = open("/dev/tuntap-ring-test", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		fail_errno("/dev/tuntap-ring-test");
	return fd;
}

int consume_and_unconsume(struct end end, int n, unsigned int unconsume,
			  struct tuntap_ring_test_entry *entries,
			  unsigned int room)
{
	struct tuntap_ring_test_consume arg = {
		.fd = end.fd,
		.kind = end.kind,
		.n = n,
		.unconsume = unconsume,
		.entries = (uintptr_t)entries,
		.room = room,
	};

	if (ioctl(test_device(), TUNTAP_RING_TEST_CONSUME, &arg))
		fail_errno("CONSUME");
	if (arg.strays)
		fail("%u pointers written besides the %d of the result",
		     arg.strays, arg.taken);
	if (arg.taken > 0 && arg.taken > n)
		fail("%d entries taken, %d requested", arg.taken, n);
	return arg.taken;
}

int consume(struct end end, int n, struct tuntap_ring_test_entry *entries,
	    unsigned int room)
{
	return consume_and_unconsume(end, n, 0, entries, room);
}

bool are_frames(const struct tuntap_ring_test_entry *entries, unsigned int n,
		uint64_t first)
{
	struct sender sender;

	for (unsigned int i = 0; i < n; i++) {
		if (entries[i].number == first + i &&
		    entries[i].length == sizeof(sender.frame))
			continue;
		printf("# entry %u of %u: frame %llu of %u bytes, not %llu\n", i,
		       n, (unsigned long long)entries[i].number,
		       entries[i].length, (unsigned long long)(first + i));
		return false;
	}
	return true;
}

struct tuntap_ring_test_ring read_ring(struct end end)
{
	struct tuntap_ring_test_ring arg = {
		.fd = end.fd,
		.kind = end.kind,
	};

	if (ioctl(test_device(), TUNTAP_RING_TEST_RING, &arg))
		fail_errno("RING");
	return arg;
}

static struct tuntap_ring_test_queue name_queue(const char *device,
						unsigned int index)
{
	struct tuntap_ring_test_queue queue = { .index = index };

	snprintf(queue.device, sizeof(queue.device), "%s", device);
	return queue;
}

bool is_stopped(const char *device, unsigned int queue)
{
	struct tuntap_ring_test_queue arg = name_queue(device, queue);

	if (ioctl(test_device(), TUNTAP_RING_TEST_QUEUE, &arg))
		fail_errno("QUEUE");
	return arg.is_stopped;
}

bool is_left_stopped(struct end end, const char *device, unsigned int queue)
{
	/*
	 * A producer stops the queue with a full ring, under the producer lock,
	 * which read_ring() takes. There is no other consumer, so a ring that is
	 * empty before and after the check of the queue was empty in between: the
	 * stop is older than that, and its producer has left the critical section.
	 */
	return !read_ring(end).occupied && is_stopped(device, queue) &&
	       !read_ring(end).occupied;
}

unsigned int num_tx_queues(const char *device)
{
	struct tuntap_ring_test_queue arg = name_queue(device, 0);

	if (ioctl(test_device(), TUNTAP_RING_TEST_QUEUE, &arg))
		fail_errno("QUEUE");
	return arg.num_tx_queues;
}

void stop_queue(const char *device, unsigned int queue)
{
	struct tuntap_ring_test_queue arg = name_queue(device, queue);

	if (ioctl(test_device(), TUNTAP_RING_TEST_STOP, &arg))
		fail_errno("STOP");
}

int watch(struct end end, const char *device, unsigned int queue)
{
	struct tuntap_ring_test_watch arg = {
		.fd = end.fd,
		.kind = end.kind,
		.queue = name_queue(device, queue),
	};
	int fd = open("/dev/tuntap-ring-test", O_RDWR | O_CLOEXEC);

	if (fd < 0 || ioctl(fd, TUNTAP_RING_TEST_WATCH, &arg))
		fail_errno("WATCH");
	return fd;
}

struct tuntap_ring_test_watched watched(int fd)
{
	struct tuntap_ring_test_watched arg;

	if (ioctl(fd, TUNTAP_RING_TEST_WATCHED, &arg))
		fail_errno("WATCHED");
	return arg;
}

void hold_next_consumer(int fd)
{
	if (ioctl(fd, TUNTAP_RING_TEST_HOLD))
		fail_errno("HOLD");
}

void release_consumer(int fd)
{
	if (ioctl(fd, TUNTAP_RING_TEST_RELEASE))
		fail_errno("RELEASE");
}
