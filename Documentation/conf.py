# SPDX-License-Identifier: GPL-2.0
"""How Sphinx builds these pages; scripts/docs runs it."""

import os
import re
import sys

TOP = os.path.abspath("..")
# The kernel's source, of which kernel-doc is used as it is there.
sys.path.insert(0, os.path.join(os.environ["srctree"], "Documentation", "sphinx"))

project = "tuntap-ring"
author = "The tuntap-ring developers"
with open(os.path.join(TOP, "Kbuild"), encoding="utf-8") as kbuild:
    release = re.search(r"^TUNTAP_RING_VERSION := (.*)$", kbuild.read(), re.M).group(1)

extensions = ["kerneldoc"]
kerneldoc_srctree = TOP

nitpicky = True
primary_domain = "c"
highlight_language = "none"
# Types and functions of the kernel, which has its own pages.
nitpick_ignore_regex = [("c:.*", "(file|size_t|u8)")]

html_theme = "furo"
html_title = f"tuntap-ring {release}"
html_copy_source = False
html_show_copyright = False
html_static_path = ["style"]
html_css_files = ["style.css"]
