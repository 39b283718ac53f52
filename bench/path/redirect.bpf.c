// SPDX-License-Identifier: GPL-2.0
/*
 * An XDP program that redirects all packets to the device in the map's only
 * slot.
 */

#include <linux/compiler_attributes.h>

enum { BPF_MAP_TYPE_DEVMAP = 14 };
static long (*const bpf_redirect_map)(void *map, unsigned long key,
				      unsigned long flags) = (void *)51;

struct {
	int (*type)[BPF_MAP_TYPE_DEVMAP];
	int (*max_entries)[1];
	unsigned int *key;
	unsigned int *value;
} out __section(".maps") __used;

__section("xdp") int redirect(void *context)
{
	return bpf_redirect_map(&out, 0, 0);
}

char redirect_license[] __section("license") __used = "GPL";
