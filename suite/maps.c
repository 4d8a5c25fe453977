// SPDX-License-Identifier: GPL-2.0
/* Runs one of the base's tests of storage maps; its test_maps runs all tests. */
#include <stdio.h>
#include <string.h>

int skips;

void test_sk_storage_map(void);
void test_task_storage_map_stress_lookup(void);
/* Later bases do not have it. */
#pragma weak test_task_storage_map_stress_lookup

static const struct {
	const char *name;
	void (*run)(void);
} tests[] = {
	{ "sk_storage_map", test_sk_storage_map },
	{ "task_storage_map_stress_lookup",
	  test_task_storage_map_stress_lookup },
};

int main(int argc, char **argv)
{
	for (unsigned int i = 0; i < sizeof(tests) / sizeof(*tests); i++) {
		if (argc != 2 || strcmp(argv[1], tests[i].name))
			continue;
		if (tests[i].run)
			tests[i].run();
		if (skips || !tests[i].run)
			printf("%s:SKIP\n", argv[1]);
		return 0;
	}
	fprintf(stderr, "usage: %s TEST\n", argv[0]);
	return 2;
}
