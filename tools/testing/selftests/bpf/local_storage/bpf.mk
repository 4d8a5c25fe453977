# SPDX-License-Identifier: GPL-2.0
# How to build programs that use libbpf skeletons.  Who includes it sets
# OUTPUT, KERNEL_SRC and, unless a kernel was built there, VMLINUX; sources are
# found in the including directory.  For another machine, ARCH and CROSS_COMPILE
# say for which; USERCFLAGS and USERLDFLAGS where libelf and zlib for it are;
# EMULATOR what runs its programs here, if its bytes are in another order.

ifneq ($(MAKECMDGOALS),clean)
ifndef VMLINUX
VMLINUX := $(firstword $(wildcard $(if $(O),$(O)/vmlinux) \
	$(if $(KBUILD_OUTPUT),$(KBUILD_OUTPUT)/vmlinux) \
	$(KERNEL_SRC)/vmlinux /sys/kernel/btf/vmlinux))
endif
$(if $(and $(OUTPUT),$(KERNEL_SRC),$(VMLINUX)),,\
  $(error set OUTPUT, KERNEL_SRC and VMLINUX))
endif

CLANG ?= clang-19
STRIP ?= llvm-strip-19
HERE := $(dir $(realpath $(firstword $(MAKEFILE_LIST))))

CFLAGS += -std=gnu11 -O2 -g -Wall -pthread -D_GNU_SOURCE= \
	-I$(OUTPUT) -I$(OUTPUT)/include -I$(HERE) \
	-I$(KERNEL_SRC)/tools/testing/selftests \
	-I$(KERNEL_SRC)/tools/include/uapi
# It sets SRCARCH.
include $(KERNEL_SRC)/tools/scripts/Makefile.arch

# Later kernels have types that are part of others without a name.
BPF_CFLAGS := -target $(if $(EMULATOR),bpfeb,bpf) -D__TARGET_ARCH_$(SRCARCH) \
	-mcpu=v3 -O2 -g -Wall -fms-extensions \
	-Wno-microsoft-anon-tag -Wno-pragma-clang-attribute \
	-I$(OUTPUT) -I$(OUTPUT)/include -I$(HERE)

LDLIBS += -lelf -lz

LIBBPF := $(OUTPUT)/libbpf/libbpf.a
BPFTOOL := $(OUTPUT)/tools/bpftool
# What runs here, whatever the tests are for.
BOOTSTRAP := $(OUTPUT)/tools/bootstrap/bpftool
# libbpf does not link programs whose bytes are in another order than its own.
GENERATOR := $(if $(EMULATOR),$(EMULATOR) $(BPFTOOL),$(BOOTSTRAP))

all:

$(LIBBPF):
	@mkdir -p $(@D)
	@echo "   building libbpf"
	$(MAKE) -s -C $(KERNEL_SRC)/tools/lib/bpf OUTPUT=$(OUTPUT)/libbpf/ \
		DESTDIR=$(OUTPUT) prefix= EXTRA_CFLAGS='-g -O2 $(USERCFLAGS)' \
		$@ install_headers > $(OUTPUT)/libbpf.log 2>&1

MAKE_BPFTOOL = $(MAKE) -s -C $(KERNEL_SRC)/tools/bpf/bpftool \
	OUTPUT=$(OUTPUT)/tools/ CLANG=$(CLANG) LLVM_STRIP=$(STRIP) \
	VMLINUX_BTF=$(VMLINUX)

$(BOOTSTRAP): $(LIBBPF)
	@mkdir -p $(OUTPUT)/tools
	@echo "   building bpftool"
	$(MAKE_BPFTOOL) bootstrap > $(OUTPUT)/bpftool.log 2>&1

$(BPFTOOL): $(BOOTSTRAP)
	$(MAKE_BPFTOOL) EXTRA_CFLAGS='$(USERCFLAGS)' \
		EXTRA_LDFLAGS='$(USERLDFLAGS)' >> $(OUTPUT)/bpftool.log 2>&1

# Not by make's own rules: they would link it anew, and remove it in the end.
$(VMLINUX): ;

# Contexts are the same on every machine, pointers of 8 bytes included, which
# libbpf would make those of the kernel's where it has others.
CONTEXTS := __sk_buff\|bpf_sock\|bpf_sock_ops\|bpf_sock_addr\|bpf_sockopt
CONTEXTS := $(CONTEXTS)\|bpf_sk_lookup\|sk_msg_md\|bpf_iter__.*\|bpf_iter_meta
KEEP := __attribute__((preserve_access_index)), apply_to = record
RELOCATED := \#ifndef BPF_NO_PRESERVE_ACCESS_INDEX\n\#pragma clang attribute

$(OUTPUT)/vmlinux.h: $(VMLINUX) $(BOOTSTRAP)
	$(BOOTSTRAP) btf dump file $(VMLINUX) format c | \
	sed -e '/^struct \($(CONTEXTS)\) {/,/^};/ {' \
	    -e '/^struct/i $(RELOCATED) pop\n#endif' \
	    -e '/^};/a $(RELOCATED) push ($(KEEP))\n#endif' \
	    -e '}' > $@
	if grep -q '^struct sched_ext_ops {' $@; then \
		echo '#define HAS_SCHEDULERS' >> $@; \
	fi

$(OUTPUT)/%.bpf.o: progs/%.c $(wildcard progs/*.h) $(OUTPUT)/vmlinux.h
	$(CLANG) $(BPF_CFLAGS) -c $< -o $@

$(OUTPUT)/%.skel.h: $(OUTPUT)/%.bpf.o $(if $(EMULATOR),$(BPFTOOL))
	$(GENERATOR) gen skeleton $< name $* > $@

.PHONY: all
.DELETE_ON_ERROR:
.SECONDARY:
