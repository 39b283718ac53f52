// SPDX-License-Identifier: GPL-2.0
/* Runs the suites when the module is loaded, for kernels without KUnit. */

#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched/mm.h>

#include "kunit.h"

static struct kunit_suite *suites[3];
/* The memory of the process that loads the module, which waits for each test. */
static struct mm_struct *memory;

/* KUnit's function creates memory for each test, which a module cannot do. */
unsigned long kunit_vm_mmap(struct kunit *test, struct file *file,
			    unsigned long addr, unsigned long len,
			    unsigned long prot, unsigned long flag,
			    unsigned long offset)
{
	if (!current->mm) {
		mmget(memory);
		kthread_use_mm(memory);
	}
	return vm_mmap(file, addr, len, prot, flag, offset);
}

static int __init load(void)
{
	suites[0] = tuntap_ring_kunit_ring_suite;
	suites[1] = tuntap_ring_kunit_threads_suite;
	suites[2] = tuntap_ring_kunit_tun_suite;
	memory = current->mm;
	return __kunit_test_suites_init(suites, ARRAY_SIZE(suites), true);
}
module_init(load);

static void __exit unload(void)
{
	__kunit_test_suites_exit(suites, ARRAY_SIZE(suites));
}
module_exit(unload);
