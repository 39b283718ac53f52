// SPDX-License-Identifier: GPL-2.0
/*
 * Calls tuntap_ring for a file, for tests. A process writes "tun FD" or "tap FD"
 * to /dev/tuntap-ring-ask; the write fails with the error that the export of
 * that driver returns for the file.
 */

#include <linux/file.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/tuntap_ring.h>

static ssize_t ask_write(struct file *self, const char __user *from,
			 size_t length, loff_t *position)
{
	char text[16] = {}, driver;
	struct file *file;
	int fd, ret;

	if (length >= sizeof(text))
		return -E2BIG;
	if (copy_from_user(text, from, length))
		return -EFAULT;
	if (sscanf(text, "t%c%*c %d", &driver, &fd) != 2)
		return -EINVAL;
	file = fget(fd);
	if (!file)
		return -ESTALE;
	if (driver == 'u')
		ret = tun_ring_consume_batched(file, NULL, 0);
	else
		ret = tap_ring_consume_batched(file, NULL, 0);
	fput(file);
	return ret < 0 ? ret : length;
}

static const struct file_operations ask_fops = {
	.owner = THIS_MODULE,
	.write = ask_write,
};

static struct miscdevice ask = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "tuntap-ring-ask",
	.fops = &ask_fops,
};
module_misc_device(ask);

MODULE_DESCRIPTION("Calls tuntap_ring for a file");
MODULE_LICENSE("GPL");
