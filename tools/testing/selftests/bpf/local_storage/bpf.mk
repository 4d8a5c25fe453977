# SPDX-License-Identifier: GPL-2.0
# How to build programs that use libbpf skeletons.  Who includes it sets
# OUTPUT, KERNEL_SRC and, unless a kernel was built there, VMLINUX; sources are
# found in the including directory.

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
# Later kernels have types that are part of others without a name.
BPF_CFLAGS := -target bpf -mcpu=v3 -O2 -g -Wall -fms-extensions \
	-Wno-microsoft-anon-tag \
	-I$(OUTPUT) -I$(OUTPUT)/include -I$(HERE)

LDLIBS += -lelf -lz

LIBBPF := $(OUTPUT)/libbpf/libbpf.a
BPFTOOL := $(OUTPUT)/tools/bpftool

all:

$(LIBBPF):
	@mkdir -p $(@D)
	@echo "   building libbpf"
	$(MAKE) -s -C $(KERNEL_SRC)/tools/lib/bpf OUTPUT=$(OUTPUT)/libbpf/ \
		DESTDIR=$(OUTPUT) prefix= EXTRA_CFLAGS='-g -O2' \
		$@ install_headers > $(OUTPUT)/libbpf.log 2>&1

$(BPFTOOL): $(LIBBPF)
	@mkdir -p $(@D)
	@echo "   building bpftool"
	$(MAKE) -s -C $(KERNEL_SRC)/tools/bpf/bpftool OUTPUT=$(OUTPUT)/tools/ \
		CLANG=$(CLANG) LLVM_STRIP=$(STRIP) VMLINUX_BTF=$(VMLINUX) \
		> $(OUTPUT)/bpftool.log 2>&1

# Not by make's own rules: they would link it anew, and remove it in the end.
$(VMLINUX): ;

$(OUTPUT)/vmlinux.h: $(VMLINUX) $(BPFTOOL)
	$(BPFTOOL) btf dump file $(VMLINUX) format c > $@

$(OUTPUT)/%.bpf.o: progs/%.c $(wildcard progs/*.h) $(OUTPUT)/vmlinux.h
	$(CLANG) $(BPF_CFLAGS) -c $< -o $@

$(OUTPUT)/%.skel.h: $(OUTPUT)/%.bpf.o
	$(BPFTOOL) gen skeleton $< name $* > $@

.PHONY: all
.DELETE_ON_ERROR:
.SECONDARY:
