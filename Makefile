# ptqd. `make demo` sets up, builds and runs the main job; `make test` builds and passes the tests.
# Variables: SAN=1 (ASan+UBSan build), FUZZ=1 (clang, for libFuzzer; see mk/fuzz.mk), WITH_DNN=0
# (OpenBLAS only), V=1 (show commands).
MAKEFLAGS += --no-builtin-rules
# All cores, unless told otherwise.
ifeq ($(MAKELEVEL)$(filter -j%,$(MAKEFLAGS)),0)
MAKEFLAGS += -j$(shell nproc)
endif
SHELL  := /bin/bash
SAN    ?= 0
FUZZ   ?= 0
V      ?= 0
CC     := $(if $(filter 1,$(FUZZ)),clang,gcc)
Q      := $(if $(filter 1,$(V)),,@)
VERSION := 0.1.0

# Building needs the packages of scripts/setup; the goals below install what is missing first.
ifneq ($(filter $(MAKECMDGOALS),help clean setup format),$(or $(MAKECMDGOALS),all))
SETUP := $(shell scripts/setup build >&2 || echo failed)
ifneq ($(SETUP),)
$(error setup failed: see above)
endif
endif

WITH_DNN ?= $(shell test -e /usr/include/oneapi/dnnl/dnnl.h && echo 1 || echo 0)
variant := $(if $(filter 1,$(FUZZ)),-fuzz)$(if $(filter 1,$(SAN)),-asan)$(if $(filter 0,$(WITH_DNN)),-nodnn)
B  := build$(if $(variant),/$(patsubst -%,%,$(variant)))
pkgs = $(shell pkg-config --$(1) $(2))

CPPFLAGS := -I. -I$(B)/gen -D_GNU_SOURCE -DPTQ_VERSION='"$(VERSION)"' $(if $(filter 1,$(WITH_DNN)),-DPTQ_WITH_DNN)
CFLAGS   := -std=gnu11 -O2 -g -Wall -Wextra -Werror -Wstrict-prototypes -Wmissing-prototypes \
            -Wshadow -Wvla -fno-math-errno -ffp-contract=off -fstack-protector-strong
LDFLAGS  :=
ifeq ($(SAN),1)
CFLAGS   += -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -DPTQ_SAN
LDFLAGS  += -fsanitize=address,undefined
endif

ifeq ($(FUZZ),1)
# clang's half-precision conversions are in its own run-time library.
rt_builtins := $(shell clang --rtlib=compiler-rt -print-libgcc-file-name)
sanitizers := address,undefined,float-cast-overflow
CFLAGS   += -Wno-unknown-pragmas -Wno-unknown-attributes -Wno-ignored-attributes -Wno-unknown-warning-option \
            -fsanitize=fuzzer-no-link,$(sanitizers) -fno-sanitize-recover=all -fno-omit-frame-pointer -DPTQ_SAN
LDFLAGS  += -fsanitize=$(sanitizers)
endif

libs_common := $(call pkgs,libs,jansson libcrypto)
libs_worker := $(call pkgs,libs,libprotobuf-c libarchive) -lopenblas $(if $(filter 1,$(WITH_DNN)),-ldnnl) -lm -lpthread
libs_server := $(call pkgs,libs,libmicrohttpd sqlite3 libuv libprotobuf-c) -lpthread
libs_cli    := $(call pkgs,libs,libcurl libarchive)

# Every .c of a folder belongs to its library; main files are left out of them.
src_common := $(wildcard common/*.c)
src_server := $(wildcard server/*.c)
src_worker := $(filter-out $(if $(filter 0,$(WITH_DNN)),worker/exec/dnn.c),\
              $(wildcard worker/load/*.c worker/load/optimize/*.c worker/ops/*.c worker/exec/*.c \
              worker/quant/*.c worker/quant/march/*.c worker/jobs/*.c))
src_cli    := $(wildcard cli/*.c)
src_unit   := $(wildcard tests/unit/*.c tests/ops/*.c)
ops_files  := $(sort $(patsubst worker/ops/%.c,%,$(shell grep -l '^const struct op ops_' worker/ops/*.c)))
protos     := $(wildcard proto/*.proto)

obj = $(patsubst %.c,$(B)/obj/%.o,$(1))
gen_proto := $(patsubst proto/%.proto,$(B)/gen/%.pb-c.c,$(protos))
gen_files := $(gen_proto) $(B)/gen/ops_table.c $(B)/gen/schema_sql.c $(B)/gen/openapi_json.c
mains := server/main.c worker/jobs/main.c cli/main.c

.SECONDARY:
.DELETE_ON_ERROR:
.PHONY: all demo run test test-models test-long clean setup format check-format check-layers help
programs := $(if $(wildcard server/main.c),$(B)/ptqd) $(if $(wildcard worker/jobs/main.c),$(B)/ptq-worker) \
            $(if $(wildcard cli/main.c),$(B)/ptq $(B)/hmct-debugger $(B)/hmct-info)
all: $(programs)

help: ## what there is to make
	@grep -hE '^[a-z-]+:.*## ' Makefile mk/*.mk 2>/dev/null | sed -E 's/:.*## /\t/' | expand -t 18

setup: ## install missing Debian packages
	$(Q)scripts/setup all

$(B)/lib%.a:
	@mkdir -p $(@D)
	$(Q)rm -f $@ && ar rcs $@ $^

$(B)/libcommon.a: $(call obj,$(src_common))
$(B)/libserver.a: $(call obj,$(filter-out $(mains),$(src_server))) $(B)/obj/gen/worker.pb-c.o $(B)/obj/gen/schema_sql.o $(B)/obj/gen/openapi_json.o \
                 $(B)/obj/gen/profiles_json.o $(B)/obj/gen/operators_json.o $(B)/obj/gen/quant_config_schema_json.o
$(B)/libworker.a: $(call obj,$(filter-out $(mains),$(src_worker))) $(patsubst $(B)/gen/%.c,$(B)/obj/gen/%.o,$(gen_proto) $(B)/gen/ops_table.c)
$(B)/libcli.a: $(call obj,$(filter-out $(mains),$(src_cli)))

$(B)/ptqd: $(call obj,server/main.c) $(B)/libserver.a $(B)/libcommon.a
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(libs_server) $(libs_common)
$(B)/ptq-worker: $(call obj,worker/jobs/main.c) $(B)/libworker.a $(B)/libcommon.a
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(libs_worker) $(libs_common) $(rt_builtins)
$(B)/ptq: $(call obj,cli/main.c) $(B)/libcli.a $(B)/libcommon.a
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(libs_cli) $(libs_common)

# The vendor's names for the commands that take its options.
$(B)/hmct-debugger $(B)/hmct-info: $(B)/ptq
	$(Q)ln -sf ptq $@

$(B)/obj/%.o: %.c | $(gen_files)
	@mkdir -p $(@D)
	$(if $(Q),@echo "  CC  $<")
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(EXTRA_$(subst /,_,$*)) -MMD -MP -c $< -o $@
$(B)/obj/gen/%.o: $(B)/gen/%.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(B)/gen/%.pb-c.c: proto/%.proto
	@mkdir -p $(@D)
	$(Q)protoc-c --c_out=$(@D) -Iproto $<
# The list of operator tables, one a file of worker/ops/.
$(B)/gen/ops_table.c: $(patsubst %,worker/ops/%.c,$(ops_files)) Makefile
	@mkdir -p $(@D)
	$(Q){ echo '#include "worker/ops/op.h"'; \
	  for f in $(ops_files); do echo "extern const struct op ops_$$f[];"; done; \
	  echo 'const struct op *const op_families[] = {'; \
	  for f in $(ops_files); do echo "    ops_$$f,"; done; echo '    0};'; } > $@
$(B)/gen/schema_sql.c: schema.sql scripts/embed
	@mkdir -p $(@D)
	$(Q)scripts/embed schema_sql $< > $@
$(B)/gen/openapi.json: api/openapi.yaml build/tools/yaml2json
	@mkdir -p $(@D)
	$(Q)build/tools/yaml2json $< > $@
$(B)/gen/openapi_json.c: $(B)/gen/openapi.json scripts/embed
	$(Q)scripts/embed openapi_json $< > $@
# What the worker knows of its marches, for the server, which never looks into a march.
$(B)/gen/profiles.json: $(B)/ptq-worker
	$(Q)$(B)/ptq-worker profiles > $@
$(B)/gen/operators.json: $(B)/ptq-worker
	$(Q)$(B)/ptq-worker operators --json > $@
$(B)/gen/operators_json.c: $(B)/gen/operators.json scripts/embed
	$(Q)scripts/embed operators_json $< > $@
$(B)/gen/profiles_json.c: $(B)/gen/profiles.json scripts/embed
	$(Q)scripts/embed profiles_json $< > $@
$(B)/gen/quant_config_schema_json.c: api/quant_config.schema.json scripts/embed
	$(Q)scripts/embed quant_config_schema_json $< > $@
# A tool of the build itself, so never sanitized.
build/tools/yaml2json: tools/yaml2json.c
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 -O1 -Wall -Wextra -Werror -o $@ $< $(call pkgs,libs,yaml-0.1 jansson)

include $(wildcard mk/*.mk)

.PHONY: docs
docs: $(B)/ptq-worker ## the pages that are made from tables: docs/operators.md
	$(Q)$< operators > docs/operators.md

clean: ## remove everything built
	rm -rf build
format: ## clang-format all sources
	$(Q)clang-format -i $$(git ls-files '*.c' '*.h')

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)
