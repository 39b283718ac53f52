// SPDX-License-Identifier: GPL-2.0
/*
 * An XDP program: all that comes in goes out at the device which the map's only
 * slot names.
 */

#define SEC(name) [[gnu::section(name), gnu::used]]

enum { BPF_MAP_TYPE_DEVMAP = 14 };
static long (*const bpf_redirect_map)(void *map, unsigned long key,
				      unsigned long flags) = (void *)51;

SEC(".maps") struct {
	int (*type)[BPF_MAP_TYPE_DEVMAP];
	int (*max_entries)[1];
	unsigned int *key;
	unsigned int *value;
} out;

SEC("xdp") int redirect(void *context)
{
	return bpf_redirect_map(&out, 0, 0);
}

SEC("license") char redirect_license[] = "GPL";
