# SPDX-License-Identifier: GPL-2.0
#
# Takes out of lib/kunit what a kernel without KUnit has no place for: the suites of other modules, which struct
# module lists, and the bus for tests of drivers.

/^static void kunit_module_init/,/^};/d
/unregister_module_notifier/d
s/register_module_notifier(&kunit_mod_nb)/0/
/kunit_bus_\(init\|shutdown\)();/d
# journal_info, which stands in for that member, is no pointer to a structure.
s/kunit_err(current->kunit_test/kunit_err(kunit_get_current_test()/
