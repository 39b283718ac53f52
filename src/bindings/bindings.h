/* SPDX-License-Identifier: GPL-2.0 */
/* The input of bindgen: the kernel's headers, the module's API, and its helpers. */

#include <linux/fs.h>
#include <linux/glob.h>
#include <linux/if_tap.h>
#include <linux/if_tun.h>
#include <linux/netdevice.h>
#include <linux/ptr_ring.h>
#include <linux/rtnetlink.h>
#include <linux/tuntap_ring.h>
#include <linux/uaccess.h>
#include <net/sock.h>

#include "helpers.h"
#include "trace.h"
