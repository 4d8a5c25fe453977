# SPDX-License-Identifier: GPL-2.0
# `make demo` and `make check`; everything else serves them.

BASE ?= $(shell cat base/default)
export BASE
FLAVOUR ?=
TEST ?=
FIGURE ?=
KDIR ?=
MACHINE ?=

help:
	@echo "make demo    boot our kernel and count real traffic per socket"
	@echo "make check   run the selftests; the last line counts them"
	@echo "             FLAVOUR='release debug kunit-um um-kasan rt up kcsan kmsan"
	@echo "             stock arm64 i386 s390x' picks kernels, TEST=race one test binary"
	@echo "make fuzz    try hostile input for hours; SEED=7 CASES=20000 says"
	@echo "             which and how much, FLAVOUR and TEST as above"
	@echo "make stress  run everything at once on the debug kernel; MINUTES=60"
	@echo "             says how long, SEED and FLAVOUR as above"
	@echo "make coverage"
	@echo "             say which lines of ours no test comes to, and which"
	@echo "             allocations none lets fail"
	@echo "make bench   measure ours and the stock kernel side by side"
	@echo "             FIGURE=hit measures one figure only"
	@echo "make scale   measure both with up to a million sockets"
	@echo "make upstream-check"
	@echo "             run the kernel's own selftests on ours and on stock"
	@echo "             (an hour and a half at first); TEST=spin_lock picks one"
	@echo "make schedulers"
	@echo "             run the kernel's own schedulers that use local storage"
	@echo "make kunit   run the core's KUnit tests, natively and on 32 bits"
	@echo "make mutants plant faults in the core, and see that these tests fail;"
	@echo "             an hour and more"
	@echo "make lint    run the linters over what is in this repository"
	@echo "make build   prepare the kernel tree build/BASE/src/ours and build it"
	@echo "make series  write the patches for git am to build/series/BASE"
	@echo "make apply KDIR=DIR"
	@echo "             put the series into a kernel tree of yours"
	@echo "make series-check"
	@echo "             prove that it applies, to files and in git, and boots"
	@echo "make series-build"
	@echo "             compile after each patch, in 11 configurations; an hour"
	@echo "make matrix  compile what is ours for six machines, with one thing off at"
	@echo "             a time; half an hour; MACHINE=riscv picks one"
	@echo "make clean   remove build/, the compiler cache included, and say what"
	@echo "             else was added to this machine"
	@echo "BASE=7.3 does any of this for that version of Linux, not $$(cat base/default)"
	@echo "KERNEL_TARBALL=FILE takes a kernel source that you have as the base"

demo: setup
	@demo/run

check: setup
	@vm/check $(TEST:%=-t %) $(FLAVOUR)

fuzz: setup
	@vm/check --long $(TEST:%=-t %) $(FLAVOUR)

stress: setup
	@vm/check --stress $(FLAVOUR)

coverage: setup
	@vm/check gcov
	@vm/coverage

bench: setup
	@bench/run $(FIGURE)

scale: setup
	@bench/run --scale

upstream-check: FLAVOUR = suite-$(BASE)
upstream-check: setup
	@suite/check $(TEST:%=-t %)

schedulers: FLAVOUR = suite-$(BASE)
schedulers: setup
	@suite/schedulers

kunit: setup
	@vm/kunit

mutants: setup
	@vm/mutate

lint: setup
	@lint/run

series: setup
	@base/prepare stock && base/series

apply: setup
	@base/apply "$(KDIR)"

series-check: setup
	@base/series-check

series-build: setup
	@base/series-check --build

matrix: FLAVOUR = matrix
matrix: setup
	@base/matrix $(MACHINE)

build: setup
	@base/kernel release

setup:
	@base/install $(FLAVOUR)

clean:
	rm -rf build
	@base/install --undo

.PHONY: help demo check fuzz stress coverage bench scale upstream-check \
	schedulers kunit mutants lint series apply series-check series-build matrix \
	build setup clean
