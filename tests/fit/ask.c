// SPDX-License-Identifier: GPL-2.0
/*
 * Opens a file of tun or tap, and calls tuntap_ring for that file through
 * fit_ask.ko. Prints the name of the error, or 0.
 *
 * usage: ask tun INTERFACE
 *        ask tap DEVICE
 */

#define _GNU_SOURCE
#include <errno.h>
#include <err.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

int main(int argc, char **argv)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	const char *device;
	int is_tun, fd, ask;

	if (argc != 3)
		errx(2, "usage: ask tun INTERFACE | ask tap DEVICE");
	is_tun = !strcmp(argv[1], "tun");
	device = is_tun ? "/dev/net/tun" : argv[2];
	fd = open(device, O_RDWR);
	if (fd < 0)
		err(1, "%s", device);
	if (is_tun) {
		snprintf(ifr.ifr_name, IFNAMSIZ, "%s", argv[2]);
		if (ioctl(fd, TUNSETIFF, &ifr))
			err(1, "TUNSETIFF %s", argv[2]);
	}
	ask = open("/dev/tuntap-ring-ask", O_WRONLY);
	if (ask < 0)
		err(1, "/dev/tuntap-ring-ask");
	puts(dprintf(ask, "%s %d", argv[1], fd) < 0 ? strerrorname_np(errno) : "0");
	return 0;
}
